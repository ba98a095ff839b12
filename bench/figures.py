"""Figures of several rounds, and how they are shown to people."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# What one round has measured, by side. JSON.
Figures = dict[str, Any]
# Where a figure stands in those of a round.
Path = tuple[str, ...]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


class Rounds:
    """The rounds of one section. A figure is a number or a list of samples, of which a round's median counts."""

    def __init__(self, figures: list[Figures]):
        self.figures = figures

    def median(self, *path: str) -> float:
        """The median over rounds."""
        return median(self._by_round(path))

    def percentile(self, percent: int, *path: str) -> float:
        """Of all rounds' samples together."""
        samples = [sample for figures in self.figures for sample in _find(figures, path)]
        return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]

    def ratio(self, ours: Path, theirs: Path) -> float:
        """The median over rounds of the ratio within each."""
        return median([a / b for a, b in zip(self._by_round(ours), self._by_round(theirs), strict=True)])

    def difference(self, ours: Path, theirs: Path) -> float:
        """The median over rounds of the difference within each."""
        return median([a - b for a, b in zip(self._by_round(ours), self._by_round(theirs), strict=True)])

    def most(self, *path: str) -> float:
        return max(self._by_round(path))

    def _by_round(self, path: Path) -> list[float]:
        values = [_find(figures, path) for figures in self.figures]
        return [median(value) if isinstance(value, list) else value for value in values]


def _find(figures: Figures, path: Path) -> Any:
    for step in path:
        figures = figures[step]
    return figures


def in_turn(sides: Sequence[str], number: int) -> Sequence[str]:
    """The order of the sides in round `number`: every other round backwards."""
    return sides if number % 2 else list(reversed(sides))


def us(value: float) -> str:
    return f"{value:.1f} us" if value < 1e4 else f"{value / 1e3:.1f} ms"


def per_s(value: float) -> str:
    return f"{value:,.0f}/s"


def bytes_per_s(value: float) -> str:
    return f"{value / 1e9:.2f} GB/s"


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure of ours beside a peer's, and what DESIGN.md (section 7) allows for it."""

    what: str
    ours: str
    peer: str = ""
    theirs: str = ""
    ratio: str = ""
    budget: str = ""
    met: bool | None = None


@dataclass(frozen=True)
class Report:
    """What a section has to say: keys of RESULT, lines of the table, and which budgets are met."""

    result: dict[str, Any]
    rows: list[Row]


_HEADS = ("", "Causeway", "peer", "peer's", "ratio", "budget")


def show(rows: Sequence[Row]):
    """Prints the table."""
    verdicts = {None: "", True: "  met", False: "  NOT MET"}
    lines = [_HEADS] + [
        (row.what, row.ours, row.peer, row.theirs, row.ratio, row.budget + verdicts[row.met]) for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_HEADS))]
    for line in lines:
        cells = [
            cell.ljust(width) if column in (0, 2, 5) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
