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
    workers: int = 0  # how many are lost; -1: all
    client: bool = False  # a client is hit
    controller: bool = False
    stop: str = ""  # "briefly" or "for long"
    quick: bool = True  # part of the short form


KINDS = (
    Kind("kill worker", workers=1),
    Kind("kill client", client=True),
    Kind("stop worker briefly", stop="briefly"),
    Kind("kill controller", controller=True, workers=-1),
    Kind("stop client briefly", client=True, stop="briefly"),
    Kind("terminate worker", workers=1),
    Kind("stop worker for long", workers=1, stop="for long"),
    Kind("stop controller briefly", controller=True, stop="briefly"),
    Kind("terminate client", client=True),
    Kind("terminate controller", controller=True, workers=-1),
    Kind("stop and kill worker", workers=1, stop="briefly"),
    Kind("stop controller for long", controller=True, workers=-1, stop="for long"),
    Kind("kill worker twice", workers=1, quick=False),
    Kind("kill all workers", workers=-1, quick=False),
    Kind("kill worker and client", workers=1, client=True, quick=False),
    Kind("kill controller and worker", controller=True, workers=-1, quick=False),
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
        if self.kind.workers == 1 or self.kind.name == "stop worker briefly":
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
