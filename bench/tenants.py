"""What the sections of the tenants' benchmark share: clients set to work side by side, and what came of it."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figures
from machine import OthersWatch
from sides import BenchError
from timed_sides import GangClient, Interval, TimedCluster, TimedStage

AHEAD = 32  # launches that a tenant has under way: always some in the queue, and soon done when it stops


@dataclass(frozen=True)
class Job:
    """What a client does until it is told to stop, and the device time that one of its launches takes."""

    operation: str
    arguments: Mapping[str, Any]
    device_us: int


Jobs = Mapping[GangClient, Job]
_GRAIN_US = 100_000  # of a device: what the counts may be late by at the beginning, on a busy machine


@dataclass(frozen=True)
class TenantsScale:
    """How long is measured."""

    settle_s: float = 0.5  # after all have begun
    shares_s: float = 8.0
    fill_s: float = 2.0
    idle_s: float = 4.0
    changeover_s: float = 1.5
    sample_s: float = 0.04


QUICK = TenantsScale(settle_s=0.1, shares_s=0.4, fill_s=0.2, idle_s=0.4, changeover_s=0.4)


def percent(part: float) -> str:
    return f"{100 * part:.1f} %"


def steps(cluster: TimedCluster, us: int, ahead: int = AHEAD) -> Job:
    """Programs of so many microseconds over all devices."""
    return Job("steps", {"us": us, "ahead": ahead}, us * cluster.devices)


def start(jobs: Jobs):
    """Has clients begin, all of them together."""
    for client, job in jobs.items():
        client.start(job.operation, **job.arguments)
    for client in jobs:
        client.answer()


def stop(clients: Sequence[GangClient]):
    for client in clients:
        client.tell("stop")
    for client in clients:
        client.answer()


def figures_of(interval: Interval, jobs: Jobs) -> Figures:
    """What came out of an interval in which these had work, and nobody else."""
    clients = list(jobs)
    us = {client.name: interval.device_us(client.name) for client in clients}
    if not all(us.values()):
        raise BenchError(f"somebody had work and got no device time: {us}")
    available = interval.us * len(interval.after.devices)
    if sum(us.values()) > available + _GRAIN_US * len(interval.after.devices):
        raise BenchError(f"more device time than there is in {interval.us} us: {us}")
    total, weights = sum(us.values()), sum(client.weight for client in clients)
    shares = {name: spent / total for name, spent in us.items()}
    ideal = {client.name: client.weight / weights for client in clients}
    apart = {name: abs(share - ideal[name]) for name, share in shares.items()}
    idle = list(interval.idle().values())
    return {
        "shares": {name: round(share, 5) for name, share in shares.items()},
        # The worst: as a part of what it should be, and of the whole.
        "error": max(difference / ideal[name] for name, difference in apart.items()),
        "error_of_total": max(apart.values()),
        "used": total / available,
        # The same without trust in anybody's clock.
        "used_by_launches": sum(interval.launches(client.name) * job.device_us for client, job in jobs.items())
        / available,
        "idle": sum(idle) / len(idle),
        "idle_worst": max(idle),
    }


def side_by_side(cluster: TimedCluster, jobs: Jobs, settle_s: float, seconds: float) -> Figures:
    """Lets clients do this together, and measures an interval in the middle, where all have work."""
    start(jobs)
    time.sleep(settle_s)
    watch = OthersWatch()
    figures = figures_of(cluster.interval(seconds), jobs)
    figures["cpu"] = round(watch.own_processors(), 2)
    stop(list(jobs))
    return figures


class TenantsStage(TimedStage):
    """With a cluster that several sections use: four devices of two workers, and eight clients with their weights."""

    equal = tuple(f"tenant{number}" for number in range(4))
    weighted = tuple(f"tenant-of-weight-{weight}" for weight in (1, 2, 4, 8))

    def __init__(self, build: Path, folder: Path):
        super().__init__(build, folder)
        self._shared: TimedCluster | None = None

    def shared(self) -> TimedCluster:
        if self._shared is None:
            self._shared = self.cluster("a cluster of two workers", hosts=2, devices=2)
            weights = dict.fromkeys(self.equal, 1) | dict(zip(self.weighted, (1, 2, 4, 8), strict=True))
            self._shared.add_clients(weights)
        return self._shared


class OnOneIsland:
    """A section whose clients share four devices of two workers, with programs of so many microseconds."""

    us: int

    @contextmanager
    def running(self, stage: TenantsStage, scale: TenantsScale) -> Iterator[TimedCluster]:
        del scale
        cluster = stage.shared()
        for client in cluster.clients.values():
            client.do("prepare_steps", us=self.us)
        yield cluster

    def together(
        self, cluster: TimedCluster, names: Sequence[str], settle_s: float, seconds: float, ahead: int = AHEAD
    ) -> Figures:
        """Lets these clients launch side by side, and measures."""
        return side_by_side(cluster, self.steps(cluster, names, ahead), settle_s, seconds)

    def steps(self, cluster: TimedCluster, names: Sequence[str], ahead: int = AHEAD) -> Jobs:
        return {cluster.clients[name]: steps(cluster, self.us, ahead) for name in names}
