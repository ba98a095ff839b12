"""The rule that the soak judges by."""

import pytest

from soak.flat import trend


def test_what_grows_only_while_it_warms_up_is_flat():
    series = [10 * n for n in range(10)] + [100.0] * 20
    assert trend("memory", series, allowance=1).growth == 0


def test_what_grows_all_the_time_is_not():
    series = [100 + n for n in range(60)]
    judged = trend("memory", series, allowance=20)
    assert judged.growth == pytest.approx(32)
    assert not judged.flat


def test_single_peaks_do_not_count():
    series = [100.0] * 60
    series[-1] = series[-4] = 500.0
    assert trend("memory", series, allowance=1).flat


def test_what_shrinks_is_flat():
    assert trend("memory", [200.0 - n for n in range(60)], allowance=0).flat


def test_too_few_samples_are_no_verdict():
    with pytest.raises(ValueError, match="too few"):
        trend("memory", [1.0] * 4, allowance=1)
