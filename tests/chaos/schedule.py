"""What happens when, and to whom: all of it from the seed, nothing from the clock.

schedule = Schedule(seed=7, workers=2, clients=2, limits=Limits())
blow = schedule.round(3)       # the same for the same seed, whatever happened before
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How the cluster under test is set up, as its flags say."""

    heartbeat_s: float = 0.25
    heartbeat_timeout_s: float = 3.0
    client_timeout_s: float = 8.0


@dataclass(frozen=True)
class Kind:
    """One kind of blow. What is stopped for long stands still for longer than its time-out."""

    name: str
    worker: bool = False  # one worker is hit
    client: bool = False  # one client is hit
    stop: str = ""  # "briefly" or "for long"
    quick: bool = True  # part of the short form


KINDS = (
    Kind("kill worker", worker=True),
    Kind("kill client", client=True),
    Kind("stop worker briefly", worker=True, stop="briefly"),
    Kind("kill controller"),
    Kind("stop client briefly", client=True, stop="briefly"),
    Kind("terminate worker", worker=True),
    Kind("stop worker for long", worker=True, stop="for long"),
    Kind("stop controller briefly", stop="briefly"),
    Kind("terminate client", client=True),
    Kind("terminate controller"),
    Kind("stop and kill worker", worker=True, stop="briefly"),
    Kind("stop controller for long", stop="for long"),
    Kind("kill worker twice", worker=True, quick=False),
    Kind("kill all workers", quick=False),
    Kind("kill worker and client", worker=True, client=True, quick=False),
    Kind("kill controller and worker", worker=True, quick=False),
    Kind("stop and kill client", client=True, stop="briefly", quick=False),
    Kind("stop client for long", client=True, stop="for long", quick=False),
)


@dataclass(frozen=True)
class Blow:
    """One round: the load begins, and after `delay_s` this happens."""

    kind: Kind
    worker: int  # which one is hit, where the kind hits one
    client: int
    delay_s: float
    hold_s: float  # how long what is stopped stands still
    restart_s: float  # after which what was killed is started again
    load_seed: int

    def whom(self) -> str:
        """The victims, for people."""
        names = []
        if self.kind.worker:
            names.append(f"w{self.worker}")
        if self.kind.client:
            names.append(f"client {self.client}")
        return ", ".join(names)


class Schedule:
    """The rounds of one seed. Every kind comes once before any comes again."""

    def __init__(self, seed: int, workers: int, clients: int, limits: Limits, kinds: tuple[Kind, ...] = KINDS) -> None:
        self.seed = seed
        self.kinds = kinds
        self._workers = workers
        self._clients = clients
        self._limits = limits

    def round(self, number: int) -> Blow:
        """The `number`-th round, from 0."""
        turn, place = divmod(number, len(self.kinds))
        deck = list(self.kinds)
        random.Random(f"{self.seed}/deck/{turn}").shuffle(deck)
        kind = deck[place]
        dice = random.Random(f"{self.seed}/round/{number}")
        brief_s = dice.uniform(0.2, self._limits.heartbeat_timeout_s / 2)
        timeout_s = self._limits.client_timeout_s if kind.client else self._limits.heartbeat_timeout_s
        return Blow(
            kind=kind,
            worker=dice.randrange(self._workers),
            client=dice.randrange(self._clients),
            delay_s=dice.uniform(0.05, 1.0),
            # Both sides count from the last thing they heard, which may be a heartbeat ago.
            hold_s=timeout_s + 2 * self._limits.heartbeat_s + dice.uniform(0.3, 1.0)
            if kind.stop == "for long"
            else brief_s,
            restart_s=dice.choice((0.0, dice.uniform(0.0, 1.0))),
            load_seed=dice.getrandbits(32),
        )
