"""The soak itself, in its shortest form; and, as part of the slow tests, what 200,000 dispatches leave behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Cluster, clean_environment, short_folder

from soak import growth

_RUN = Path(__file__).with_name("run.py")


def test_a_short_soak_leaves_nothing_behind():
    # What compiles, caches and the client's threads take in the first seconds hides the growth of the mixed part,
    # so here only the ends are checked, and controller and worker in the dispatches: 1 (not flat) is no failure.
    flags = ["--minutes", "0.1", "--dispatches", "16000", "--allow-mb", "200"]
    done = subprocess.run(
        [sys.executable, str(_RUN), *flags],
        capture_output=True,
        text=True,
        timeout=280,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    name, _, result = done.stdout.splitlines()[-1].partition(" ")
    assert name == "RESULT"
    result = json.loads(result)
    assert result["freed"], done.stdout + done.stderr
    assert result["launches"] > 0
    assert result["dispatches_controller_growth_mb"] < 8
    assert result["dispatches_worker_growth_mb"] < 8


def test_it_says_what_it_can_do_and_refuses_nonsense():
    usage = subprocess.run([sys.executable, str(_RUN), "--help"], capture_output=True, text=True, check=True)
    assert "--minutes" in usage.stdout
    nonsense = subprocess.run(
        [sys.executable, str(_RUN), "--minutes", "0"], capture_output=True, text=True, check=False
    )
    assert nonsense.returncode == 2


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_200_000_dispatches_leave_next_to_nothing():
    with short_folder() as folder, Cluster.up(folder, devices=2) as cluster:
        for grown in growth.measure(cluster, 200_000):
            assert grown.is_flat(allow_mb=20), grown
