"""Tests that the stock client fails whatever a server does, read from client_limits.toml.

Each limit names the tests, the reason, and words that the failure must contain, so that it excuses this failure and no
other:

    [[limit]]
    tests = ["array_test.py::JaxArrayTest::test_buffer_protocol*"]   # shell patterns over test names
    error = "buffer protocol"                                        # in the failure's text
    reason = "..."
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from conformance.session import Outcome
from conformance.suite import SuiteError

LIMITS = Path(__file__).with_name("client_limits.toml")


@dataclass(frozen=True)
class Limit:
    """One entry of the file."""

    tests: tuple[str, ...]
    error: str
    reason: str

    def excuses(self, name: str, outcome: Outcome) -> bool:
        """Whether this limit is why the test did not pass."""
        named = any(fnmatchcase(name, pattern) for pattern in self.tests)
        return named and not outcome.passed and self.error in f"{outcome.error}\n{outcome.text}"


def load(path: Path = LIMITS) -> list[Limit]:
    """Reads the file; SuiteError names an entry that is not as the head of this file says."""
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("limit", [])
    limits = []
    for number, entry in enumerate(entries, start=1):
        missing = [field for field in ("tests", "error", "reason") if not entry.get(field)]
        if missing or len(entry) > 3:
            raise SuiteError(f"{path}: limit {number} needs tests, error and reason and nothing else")
        limits.append(Limit(tuple(entry["tests"]), entry["error"], " ".join(entry["reason"].split())))
    return limits


def stale(limits: Iterable[Limit], results: Mapping[str, Outcome], wanted: Iterable[str]) -> list[str]:
    """Returns a sentence for each pattern that excuses nothing among `wanted`, the tests that pass on the yardstick.

    Patterns for files that did not run are left alone.
    """
    wanted = list(wanted)
    files = {name.partition("::")[0] for name in results}
    sentences = []
    for limit in limits:
        for pattern in limit.tests:
            if pattern.partition("::")[0] not in files:
                continue
            names = [name for name in wanted if fnmatchcase(name, pattern)]
            if not names:
                sentences.append(f"{pattern}: no such test passes on the yardstick")
            for name in names:
                if name in results and not limit.excuses(name, results[name]):
                    how = "passes" if results[name].passed else "fails for another reason"
                    sentences.append(f"{pattern}: {name} {how}")
    return sentences
