"""Compares the two sides and says it to people and to programs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from conformance.limits import Limit
from conformance.session import Outcome

REQUIRED_RATIO = 0.98
_ERROR_WIDTH = 150  # characters


@dataclass
class Count:
    """One row of the table. Every test that passes on stock CPU JAX is in exactly one of the last three."""

    stock_passed: int = 0
    passed_here: int = 0
    excused: dict[str, Limit] = field(default_factory=dict)
    failed: dict[str, Outcome] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """What passes here, of what passes on stock and the client can do; 0 if there is nothing to compare."""
        possible = self.stock_passed - len(self.excused)
        return self.passed_here / possible if possible else 0.0

    def as_json(self) -> dict:
        return {
            "stock_passed": self.stock_passed,
            "passed_here": self.passed_here,
            "excused": len(self.excused),
            "failed": len(self.failed),
            "ratio": round(self.ratio, 4),
        }


NEVER_RAN = Outcome("failed", error="it was not among the tests that ran here")


def compare(stock: Mapping[str, Outcome], here: Mapping[str, Outcome], limits: Iterable[Limit]) -> dict[str, Count]:
    """Counts by file, in the order in which the files ran. What does not pass on stock counts nowhere."""
    limits = list(limits)
    counts: dict[str, Count] = {}
    for name, yardstick in stock.items():
        count = counts.setdefault(name.partition("::")[0].removesuffix(".py"), Count())
        if not yardstick.passed:
            continue
        count.stock_passed += 1
        outcome = here.get(name, NEVER_RAN)
        if outcome.passed:
            count.passed_here += 1
        elif limit := next((limit for limit in limits if limit.excuses(name, outcome)), None):
            count.excused[name] = limit
        else:
            count.failed[name] = outcome
    return counts


def total(counts: Mapping[str, Count]) -> Count:
    """Adds the rows up."""
    everything = Count()
    for count in counts.values():
        everything.stock_passed += count.stock_passed
        everything.passed_here += count.passed_here
        everything.excused |= count.excused
        everything.failed |= count.failed
    return everything


def table(counts: Mapping[str, Count]) -> list[str]:
    """Returns the lines of a table with a row per file and a row of sums."""
    lines = [f"{'file':24} {'stock passed':>12} {'passed here':>12} {'excused':>8} {'failed':>7} {'ratio':>7}"]
    for name, count in [*counts.items(), ("total", total(counts))]:
        lines.append(
            f"{name:24} {count.stock_passed:12} {count.passed_here:12} {len(count.excused):8} {len(count.failed):7} "
            f"{count.ratio:7.1%}"
        )
    return lines


def details(everything: Count) -> list[str]:
    """Returns lines that name each excused test under its reason, and each failed one with its first line."""
    lines = []
    by_reason: dict[str, list[str]] = {}
    for name, limit in everything.excused.items():
        by_reason.setdefault(limit.reason, []).append(name)
    for reason, names in by_reason.items():
        lines += ["", f"Excused: {reason}", *(f"  {name}" for name in names)]
    if everything.failed:
        lines += ["", "Failed here, passed on stock CPU JAX:"]
        for name, outcome in everything.failed.items():
            said = "skipped here: " if outcome.outcome == "skipped" else ""
            lines += [f"  {name}", f"      {(said + outcome.error)[:_ERROR_WIDTH]}"]
    return lines


def as_json(counts: Mapping[str, Count]) -> dict:
    """Returns what stands after RESULT."""
    files = {name: count.as_json() for name, count in counts.items()}
    return total(counts).as_json() | {"files": files}
