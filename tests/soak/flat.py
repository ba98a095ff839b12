"""The rule by which something that was sampled over a run is flat.

The first third of a run is warm-up: programs are compiled, caches and pools fill, the allocator takes what it needs. Of
the rest, the median of the last fifth may exceed the median of the first fifth by a fixed allowance. It does not grow
with the length of the run, so a longer run finds a smaller leak: 20 MB over an hour is a third of a megabyte a minute.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

WARM_UP = 1 / 3
ENDS = 1 / 5


@dataclass(frozen=True)
class Trend:
    """How a series went: its level after the warm-up, its level at the end, and what it may have grown by."""

    what: str
    first: float
    last: float
    allowance: float

    @property
    def growth(self) -> float:
        return self.last - self.first

    @property
    def flat(self) -> bool:
        return self.growth <= self.allowance


def trend(what: str, samples: Sequence[float], allowance: float) -> Trend:
    """Judges samples that were taken at a steady rate. ValueError if there are too few to say anything."""
    settled = samples[int(len(samples) * WARM_UP) :]
    if len(settled) < 4:
        raise ValueError(f"{what}: {len(samples)} samples are too few")
    ends = max(1, int(len(settled) * ENDS))
    return Trend(what, statistics.median(settled[:ends]), statistics.median(settled[-ends:]), allowance)
