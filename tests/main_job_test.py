"""`make run` compares two curves of losses; this is when it calls them the same."""

from __future__ import annotations

import numpy as np
import pytest
from run_main_job import EVERY_STEP_TOLERANCE, FINAL_TOLERANCE, FIRST_STEPS_TOLERANCE, Comparison

CURVE = 5.5 * 0.99 ** np.arange(100)


def test_equal_curves_match() -> None:
    assert Comparison.of(CURVE, CURVE).close


def test_curves_that_drift_apart_a_little_match() -> None:
    drift = np.linspace(0, 0.5 * FINAL_TOLERANCE, 100) * (-1) ** np.arange(100)
    drift[:10] = 0
    assert Comparison.of(CURVE, CURVE + drift).close


@pytest.mark.parametrize(
    ("steps", "apart"),
    [
        (slice(0, 1), 2 * FIRST_STEPS_TOLERANCE),
        (slice(50, 51), 2 * EVERY_STEP_TOLERANCE),
        (slice(90, 100), 1.5 * FINAL_TOLERANCE),
        (slice(70, 71), np.nan),
    ],
    ids=["at first", "in one step", "at the end", "not a number"],
)
def test_curves_that_are_apart_do_not_match(steps: slice, apart: float) -> None:
    other = CURVE.copy()
    other[steps] += apart
    assert not Comparison.of(CURVE, other).close
    assert not Comparison.of(other, CURVE).close
