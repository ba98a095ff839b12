"""The book is itself tested; then a short campaign with a fixed seed, and a long one in `make test-full`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.model import OK, Loss, Record, judge
from chaos.schedule import KINDS, Limits, Schedule

ROOT = Path(__file__).resolve().parents[2]
LOSS = Loss(frozenset({1}), at=10.0, noticed=11.0, back=12.0)
LOST = "DATA_LOSS: worker w1 is lost"


def array(name: int, home: int, outcome: str, *parents: int, asked: float = 1.0, ready: float = 1e9) -> Record:
    return Record(name, frozenset({home}), parents, asked, asked, ready, outcome, seen=20.0, looked=19.0)


# ---------------------------------------------------------------- the book


@pytest.mark.parametrize(
    "good",
    [
        [array(1, 0, OK, ready=2.0), array(2, 1, LOST, ready=2.0)],  # exactly what lived there
        [array(1, 1, LOST, ready=2.0), array(2, 0, OK, 1, ready=3.0)],  # it had been copied away
        [array(1, 1, LOST, ready=2.0), array(2, 0, OK, 1)],  # it had perhaps
        [array(1, 1, LOST, ready=2.0), array(2, 0, LOST, 1)],
        [array(1, 1, LOST), array(2, 0, LOST, 1), array(3, 0, LOST, 2)],  # a chain on its way
        [array(1, 1, OK, asked=13.0)],  # made on the worker that is back
        [array(1, 1, LOST, ready=2.0), array(2, 1, LOST, 1, asked=13.0)],  # of what is gone
        [Record(1, frozenset({0, 1}), (), 1.0, 1.0, 2.0, LOST, 20.0)],  # half of it
        [Record(1, frozenset({1}), (), 1.0, 1.0, 2.0, OK, 9.0)],  # seen before the blow, deleted since
        [Record(1, frozenset({1}), (), 1.0, 1.0, 2.0, OK, 10.1, 9.9)],  # the blow came into the look
        [array(1, 1, "")],  # nobody looked
    ],
)
def test_what_may_be_is_accepted(good: list[Record]) -> None:
    assert judge(good, LOSS).complaints == []


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        ([array(1, 0, LOST, ready=2.0)], "must be right"),  # not hit
        ([array(1, 0, LOST, ready=2.0), array(2, 0, LOST, 1)], "must be right"),
        ([array(1, 1, OK, ready=2.0)], "must be lost"),  # it cannot have survived
        ([array(1, 1, LOST, asked=13.0)], "must be right"),  # the worker was back
        ([array(1, 1, LOST, ready=2.0), array(2, 0, OK, 1, asked=13.0)], "must be lost"),  # made of nothing
        ([array(1, 1, "INTERNAL: oops")], "must be right or DATA_LOSS"),
        ([array(1, 1, "WRONG VALUES: [1] for [2]")], "must be right or DATA_LOSS"),
        ([Record(1, frozenset({0}), (), 1.0, 1.0, 2.0, "WRONG VALUES", 9.0)], "must be right"),  # before the blow
    ],
)
def test_what_cannot_be_is_complained_about(bad: list[Record], complaint: str) -> None:
    assert complaint in " ".join(judge(bad, LOSS).complaints)


def test_without_a_loss_everything_must_be_right() -> None:
    assert judge([array(1, 0, OK), array(2, 1, OK, 1)], Loss()).complaints == []
    assert len(judge([array(1, 0, LOST), array(2, 1, LOST, 1)], Loss()).complaints) == 2


# ---------------------------------------------------------------- the schedule


def test_a_seed_replays_its_schedule_and_another_does_not() -> None:
    first, again, other = ([Schedule(seed, 3, 3, Limits()).round(number) for number in range(40)] for seed in (7, 7, 8))
    assert first == again
    assert first != other


def test_every_kind_comes_before_any_comes_again() -> None:
    schedule = Schedule(1, 2, 2, Limits())
    for turn in range(3):
        names = {schedule.round(turn * len(KINDS) + number).kind.name for number in range(len(KINDS))}
        assert len(names) == len(KINDS)


# ---------------------------------------------------------------- the real thing


def run(*arguments: str, limit_s: float) -> dict:
    done = subprocess.run(
        [sys.executable, "tests/chaos/run.py", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "python"), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.rpartition("RESULT ")[2])


def test_each_kind_of_blow_once() -> None:
    result = run("--quick", "--seed", "1", "--workers", "2", "--clients", "2", limit_s=280)
    assert result["failures"] == result["leaks"] == 0
    assert result["blows_by_kind"] == {kind.name: 1 for kind in KINDS if kind.quick}
    assert result["lost"] > 0


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_minutes_of_blows() -> None:
    result = run("--minutes", "3", limit_s=1000)
    assert result["failures"] == result["leaks"] == 0
    assert result["blows"] >= len(KINDS)
