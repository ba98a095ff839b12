"""Whether what a case gave here is what it gave on stock JAX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# One rounding more or less, as a part of the largest number in the array. A case multiplies it by its own tolerance.
_ROUNDING = {
    "float64": 1e-12,
    "complex128": 1e-12,
    "float32": 1e-5,
    "complex64": 1e-5,
    "bfloat16": 1e-2,
    "float16": 2e-3,
}


@dataclass(frozen=True)
class Outcome:
    """What a case gave on one side."""

    facts: dict[str, Any]
    arrays: list[np.ndarray]

    @classmethod
    def load(cls, file: Path) -> Outcome:
        with np.load(file) as stored:
            facts = json.loads(str(stored["facts"]))
            return cls(facts, [stored[f"result{i}"] for i in range(len(stored.files) - 1)])

    @classmethod
    def death(cls, error: str, text: str) -> Outcome:
        return cls({"error": error, "text": text}, [])

    @property
    def error(self) -> str:
        return self.facts.get("error", "")


def differences(stock: Outcome, here: Outcome) -> list[str]:
    """What is not as it should be; nothing if the sides agree."""
    if stock.error:
        return [f"stock JAX itself fails, so the case says nothing:\n{stock.error}"]
    if here.error:
        return [here.error]
    if stock.facts["text"] != here.facts["text"]:
        return [f"the sides drew different programs; there:\n{stock.facts['text']}\nhere:\n{here.facts['text']}"]
    found = [] if here.facts["repeatable"] else ["the same program on the same inputs gave other bits the second time"]
    if len(stock.arrays) != len(here.arrays):
        return [f"{len(here.arrays)} results, on stock {len(stock.arrays)}"]
    for number, (theirs, ours) in enumerate(zip(stock.facts["results"], here.facts["results"], strict=True)):
        expected, got = stock.arrays[number], here.arrays[number]
        problems = [
            f"{what} is {ours[what]}, on stock {theirs[what]}"
            for what in ("dtype", "shape", "spec", "layout")
            if ours[what] != theirs[what]
        ]
        which, apart = ours["unlike"]
        if which and not (theirs["unlike"][0] and apart <= allowed(expected, theirs["dtype"], stock.facts)):
            problems.append(f"{which}, by {apart:.3g}")
        if expected.shape == got.shape and theirs["dtype"] == ours["dtype"]:
            problems += value_difference(expected, got, theirs["dtype"], stock.facts)
        found += [f"result {number}: {problem}" for problem in problems]
    return found


def allowed(expected: np.ndarray, dtype: str, facts: Mapping[str, Any]) -> float:
    """By how much numbers may be apart: some roundings of the largest, in the coarsest type of result and inputs."""
    if dtype not in _ROUNDING:
        return 0.0
    finite = np.abs(expected[np.isfinite(expected)])
    rounding = max(_ROUNDING.get(name, 0.0) for name in (dtype, *facts["inputs"]))
    return rounding * facts["tolerance"] * max(1e-6, float(finite.max(initial=0.0)))


def value_difference(expected: np.ndarray, got: np.ndarray, dtype: str, facts: Mapping[str, Any]) -> list[str]:
    """Says where two arrays differ by more than is allowed."""
    if dtype not in _ROUNDING:
        wrong = expected != got
        if not wrong.any():
            return []
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        return [f"{wrong.sum()} of {wrong.size} numbers differ; at {at}: {got[at]}, on stock {expected[at]}"]
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], got[~finite], equal_nan=True) or not np.isfinite(got[finite]).all():
        return [f"not finite elsewhere: {np.sum(~np.isfinite(got))} numbers, on stock {np.sum(~finite)}"]
    if not finite.any():
        return []
    wide = np.complex128 if np.iscomplexobj(expected) else np.float64
    apart = np.abs(np.where(finite, got, 0).astype(wide) - np.where(finite, expected, 0).astype(wide))
    limit = allowed(expected, dtype, facts)
    if apart.max() <= limit:
        return []
    at = tuple(int(i) for i in np.unravel_index(np.argmax(apart), apart.shape))
    return [
        f"{np.sum(apart > limit)} of {apart.size} numbers are apart, by at most {apart.max():.3g} "
        f"(allowed {limit:.3g}); at {at}: {got[at]}, on stock {expected[at]}"
    ]
