"""Random programs agree with stock JAX: a few of all kinds here, three of each family in `make test-full`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from causeway.binary import BinaryNotFound, find_binary

from .differential import runs
from .differential.cases import FAMILIES, family_of
from .differential.compare import Outcome, differences, value_difference
from .differential.runs import STOCK, Side, cluster, report, run_both, run_side

SEED = 0
# Every fourth family; the cases of each call are of all three modules.
FEW = range(0, len(FAMILIES), 4)
ALL = range(3 * len(FAMILIES))


def expect_agreement(numbers: range) -> None:
    try:
        find_binary()
    except BinaryNotFound as error:
        pytest.fail(str(error), pytrace=False)
    found = run_both(SEED, numbers, cluster(hosts=4, devices=2))
    differing = [report(SEED, number, problems) for number, problems in found.items() if problems]
    if differing:
        pytest.fail(f"{len(differing)} of {len(numbers)} differ\n\n" + "\n\n".join(differing), pytrace=False)


@pytest.mark.timeout(300)
def test_a_few_programs_on_four_workers_agree_with_stock_jax() -> None:
    expect_agreement(FEW)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_programs_of_every_family_on_four_workers_agree_with_stock_jax() -> None:
    expect_agreement(ALL)


# ---------------------------------------------------------------- the comparison itself


def outcome(*arrays: np.ndarray, repeatable: bool = True, **changes: object) -> Outcome:
    results = [
        {"dtype": str(x.dtype), "shape": x.shape, "layout": [], "spec": "P()", "unlike": ("", 0.0), **changes}
        for x in arrays
    ]
    return Outcome(
        {"text": "a case", "tolerance": 1.0, "inputs": [], "repeatable": repeatable, "results": results}, list(arrays)
    )


NUMBERS = np.linspace(-1, 1, 7, dtype=np.float32)


def test_the_same_agrees() -> None:
    assert differences(outcome(NUMBERS), outcome(NUMBERS)) == []
    assert differences(outcome(NUMBERS), outcome(NUMBERS * np.float32(1 + 1e-6))) == []


@pytest.mark.parametrize(
    ("here", "what"),
    [
        (outcome(NUMBERS + np.float32(1e-3)), "7 of 7 numbers are apart"),
        (outcome(NUMBERS.astype(np.float16)), "dtype is float16, on stock float32"),
        (outcome(NUMBERS[:6]), "shape"),
        (outcome(NUMBERS, spec="P('a')"), "spec"),
        (outcome(NUMBERS, layout=[[0, [[0, 7]]]]), "layout"),
        (outcome(NUMBERS, unlike=("the shard is another", 1e-3)), "another"),
        (outcome(NUMBERS, unlike=("the shard is another", float("nan"))), "another"),
        (outcome(NUMBERS, repeatable=False), "other bits the second time"),
        (outcome(NUMBERS, NUMBERS), "2 results, on stock 1"),
        (outcome(np.where(NUMBERS > 0, np.float32(np.nan), NUMBERS)), "not finite"),
        (Outcome.death("UNIMPLEMENTED: no", "a case"), "UNIMPLEMENTED"),
    ],
)
def test_what_is_different_is_said(here: Outcome, what: str) -> None:
    assert what in "\n".join(differences(outcome(NUMBERS), here))


def test_whole_numbers_have_to_be_equal() -> None:
    many = np.arange(1000)
    facts = {"tolerance": 100.0, "inputs": ["bfloat16"]}
    assert value_difference(many, many, "int64", facts) == []
    assert "1 of 1000 numbers differ; at (7,)" in value_difference(many, many + (many == 7), "int64", facts)[0]


def test_copies_may_differ_by_a_rounding_only_where_they_do_on_stock() -> None:
    here = outcome(NUMBERS, unlike=("the shard is another", 1e-7))
    assert differences(outcome(NUMBERS), here) == ["result 0: the shard is another, by 1e-07"]
    assert differences(here, here) == []


def test_what_fails_on_stock_is_no_agreement() -> None:
    dead = Outcome.death("ValueError", "a case")
    assert "stock JAX itself fails" in differences(dead, dead)[0]


# ---------------------------------------------------------------- deaths and hangs


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        ("os._exit(3)", ["running case 1: ", "ended with status 3", "last words"]),
        ("time.sleep(60)", ["running case 1: ", "did not end within 1 s"]),
    ],
    ids=["death", "hang"],
)
def test_a_case_that_takes_the_process_along_is_named_and_costs_no_other(
    deed: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "spmd" / "differential"
    package.mkdir(parents=True)
    (package / "side.py").write_text(
        "import json, os, sys, time\nimport numpy as np\n"
        "for number in sys.argv[3].split(','):\n"
        "    print('begin', number, flush=True)\n"
        f"    if number == '1': print('last words', file=sys.stderr, flush=True); {deed}\n"
        "    np.savez(f'{sys.argv[2]}/{number}.npz', facts=np.array(json.dumps({'text': 'fine'})))\n"
        "    print('end', number, flush=True)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(runs, "_TESTS", tmp_path)
    outcomes = run_side(Side("here", {"PATH": os.environ["PATH"]}), SEED, [0, 1, 2], timeout_s=1)
    assert [bool(outcomes[number].error) for number in (0, 1, 2)] == [False, True, False]
    assert all(word in outcomes[1].error for word in words), outcomes[1].error
    assert outcomes[1].facts["text"] == family_of(1)


def test_a_case_is_the_same_whenever_it_is_made() -> None:
    first, again = (run_side(STOCK, SEED, numbers) for numbers in ([3, 40], [40]))
    assert first[40].facts == again[40].facts
    assert all(a.tobytes() == b.tobytes() for a, b in zip(first[40].arrays, again[40].arrays, strict=True))
