"""Which arrays must have failed, which must be right, and which may be either: the test's own book of what lived where.

A client keeps a `Record` of every array that it makes. When a blow has fallen, `judge` compares what became of each
with what the book says, and returns the complaints.

The book is exact for all arrays that are known to have been ready before the blow, and for all that do not depend on
what was hit. What was on its way when the blow fell may have made it or not; it must be right, or lost, nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

OK = "ok"
KEEPSAKE_BYTES = 64  # of an array that a client keeps from round to round, one on each worker
INFINITY = float("inf")


@dataclass
class Record:
    """What a client knows of one array. Times are of the machine's monotonic clock."""

    name: int
    home: frozenset[int]  # workers that hold parts of it
    parents: tuple[int, ...]  # names of the arrays of which it was made
    asked: float  # before the call that made it
    issued: float  # after that call
    ready: float = INFINITY  # when the client first knew that it was there
    outcome: str = ""  # OK, an error's text, or what is wrong with its values
    seen: float = 0.0  # when that was found out
    looked: float = 0.0  # when the look began that found it out


@dataclass(frozen=True)
class Loss:
    """What was lost: all that these workers held between the two times."""

    workers: frozenset[int] = frozenset()
    at: float = INFINITY  # just before the blow
    noticed: float = INFINITY  # the controller said that they are lost
    back: float = INFINITY  # the controller said that they are all there again
    error: str = "DATA_LOSS"  # what the error says


@dataclass
class Verdict:
    """What was judged, and what is wrong with it."""

    lost: int = 0
    right: int = 0
    open: int = 0  # of both, those that could have been either
    complaints: list[str] = field(default_factory=list)


class _Book:
    def __init__(self, records: list[Record], loss: Loss) -> None:
        self._records = {record.name: record for record in records}
        self._loss = loss
        self._fates: dict[int, str] = {}

    def _may_be_touched(self, record: Record) -> bool:
        """Whether it depends on the lost workers by anything that was not done when they were hit."""
        if record.home & self._loss.workers:
            return True
        if record.ready < self._loss.at:
            return False
        return any(self._may_be_touched(self._records[parent]) for parent in record.parents)

    def fate(self, record: Record) -> str:
        """What must become of it: "lost", "right", or "either"."""
        if record.name not in self._fates:
            self._fates[record.name] = self._decide(record)
        return self._fates[record.name]

    def _decide(self, record: Record) -> str:
        loss = self._loss
        parents = [self.fate(self._records[parent]) for parent in record.parents]
        if record.home & loss.workers and record.ready < loss.at:
            return "lost"
        # Made of what was known to be lost: nothing was ever there.
        if "lost" in parents and record.asked > loss.noticed:
            return "lost"
        if record.asked > loss.back and all(fate == "right" for fate in parents):
            return "right"
        return "either" if self._may_be_touched(record) else "right"


def judge(records: list[Record], loss: Loss) -> Verdict:
    """Compares what became of the arrays of one client with what had to."""
    book = _Book(records, loss)
    verdict = Verdict()
    for record in records:
        if not record.outcome:
            continue  # deleted or donated before anybody looked
        # What was seen before the blow says nothing about it, and a look that the blow came into may have been quicker.
        fate = book.fate(record) if record.seen > loss.at else "right"
        if fate == "lost" and record.looked < loss.noticed:
            fate = "either"
        is_right = record.outcome == OK
        is_lost = not is_right and loss.error in record.outcome
        verdict.right += is_right
        verdict.lost += is_lost
        verdict.open += fate == "either"
        if is_right and fate == "lost":
            verdict.complaints.append(f"array {record.name} on {_list(record)} is there, though it must be lost")
        elif not is_right and (fate == "right" or not is_lost):
            wanted = "must be right" if fate == "right" else f"must be right or {loss.error}"
            verdict.complaints.append(f"array {record.name} on {_list(record)} {wanted}, but: {record.outcome[:600]}")
    return verdict


def _list(record: Record) -> str:
    return "+".join(f"w{worker}" for worker in sorted(record.home))
