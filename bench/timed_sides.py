"""Clusters with the timed runtime, their clients, and what the controller says of who had the devices for how long.

There a launch takes its device as long as its program's name says, and no core, so that a machine with few cores runs
a cluster of many devices in real time. Shares come from the controller's own counts of device time.
"""

import json
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sides import REPOSITORY, BenchError, Process, output_of

_START_S = 180
_ASK_S = 180  # the longest that an operation may take


class GangClient(Process):
    """Stock JAX in a process of its own (gang_client.py). Ready when `await_ready` has returned."""

    def __init__(self, name: str, address: str, log: Path, weight: float):
        environment = {
            "JAX_PLATFORMS": "causeway",
            "CAUSEWAY_ADDRESS": address,
            "CAUSEWAY_SESSION_NAME": name,
            "CAUSEWAY_SESSION_WEIGHT": f"{weight:g}",
        }
        super().__init__(name, [sys.executable, REPOSITORY / "bench" / "gang_client.py"], log, environment)
        self.weight = weight

    def await_ready(self, devices: int):
        seen = json.loads(self.read(_START_S))["devices"]
        if seen != devices:
            raise BenchError(f"{self.name} sees {seen} devices, not {devices}")

    def start(self, operation: str, **arguments: Any):
        """Has the client do one of its operations, and does not wait for the answer."""
        self.tell(json.dumps({"do": operation, **arguments}))

    def answer(self) -> dict[str, Any]:
        return json.loads(self.read(_ASK_S))

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        self.start(operation, **arguments)
        return self.answer()


@dataclass(frozen=True)
class Snapshot:
    """Device time so far, in microseconds, of sessions and of devices; how many launches the sessions have asked for;
    and when that was by the controller's clock."""

    at_us: int
    sessions: dict[str, float]
    launches: dict[str, int]
    devices: dict[int, float]


@dataclass(frozen=True)
class Interval:
    """What has happened between two snapshots."""

    before: Snapshot
    after: Snapshot

    @property
    def us(self) -> int:
        return self.after.at_us - self.before.at_us

    def device_us(self, session: str) -> float:
        """Device time that a session has had, all its devices together."""
        return self.after.sessions[session] - self.before.sessions[session]

    def launches(self, session: str) -> int:
        return self.after.launches[session] - self.before.launches[session]

    def idle(self) -> dict[int, float]:
        """The part of the time in which each device did nothing."""
        return {
            device: 1 - (busy - self.before.devices[device]) / self.us for device, busy in self.after.devices.items()
        }


class TimedCluster:
    """`causeway up` with the timed runtime; with `flags`, which may choose policy and dispatch."""

    def __init__(
        self, name: str, binary: Path, folder: Path, *, islands: int, hosts: int, devices: int, flags: tuple[str, ...]
    ):
        folder.mkdir(mode=0o700)
        self.name = name
        self.devices = islands * hosts * devices
        self._binary = binary
        self._folder = folder
        self._running = ExitStack()
        self.clients: dict[str, GangClient] = {}
        self._up = Process(
            name,
            [
                *(binary, "up", "--exit-with-stdin", "--no-restart", "--dir", folder),
                *("--client-address", self._address, "--program-cache", "none"),
                *("--islands", str(islands), "--hosts", str(hosts), "--devices", str(devices)),
                *("--launch-time", "*=1ms", *flags),
            ],
            folder / "up.log",
        )
        self._running.callback(self._up.stop)

    @property
    def _address(self) -> str:
        return f"unix:{self._folder}/client.sock"

    def await_ready(self):
        line = self._up.read(_START_S)
        if "ready" not in line:
            raise BenchError(f"{self.name} says {line!r}")

    def add_clients(self, weights: Mapping[str, float]):
        """Starts a client for each of these names, which its session has as well, and waits for all of them."""
        for name, weight in weights.items():
            self.clients[name] = GangClient(name, self._address, self._folder / f"{name}.log", weight)
            self._running.callback(self.clients[name].stop)
        for name in weights:
            self.clients[name].await_ready(self.devices)
        seen = {session["name"]: session.get("weight") for session in self.status()["sessions"]}
        for name, weight in weights.items():
            if seen.get(name) != weight:
                raise BenchError(
                    f"{name} asked for the weight {weight:g}, but the sessions' weights are {seen}; is {self._binary} "
                    "of this tree?"
                )

    def status(self) -> dict[str, Any]:
        self._up.check()
        command = [self._binary, "status", "--controller", f"unix:{self._folder}/control.sock", "--json"]
        return json.loads(output_of("causeway status", command))

    def snapshot(self) -> Snapshot:
        status = self.status()
        try:
            return Snapshot(
                status["uptime_ms"] * 1000,
                {session["name"]: session["device_us"] for session in status["sessions"]},
                {session["name"]: session["launches"] for session in status["sessions"]},
                {
                    device["device"]: device["busy_us"]
                    for island in status["islands"]
                    for worker in island["workers"]
                    for device in worker["devices"]
                },
            )
        except KeyError as missing:
            raise BenchError(f"`causeway status --json` has no {missing}; is {self._binary} of this tree?") from None

    def interval(self, seconds: float) -> Interval:
        """What happens in the next seconds."""
        before = self.snapshot()
        time.sleep(seconds)
        return Interval(before, self.snapshot())

    def stop(self):
        """Clients first, then the cluster."""
        for client in self.clients.values():
            client.hang_up()
        self._running.close()


class TimedStage:
    """Starts clusters, each in a folder of its own, and stops those at its end that nobody has stopped before."""

    def __init__(self, build: Path, folder: Path):
        self._build = build
        self._folder = folder
        self._clusters: list[TimedCluster] = []

    def cluster(
        self, name: str, *, islands: int = 1, hosts: int = 1, devices: int = 1, flags: tuple[str, ...] = ()
    ) -> TimedCluster:
        """A new cluster, ready for clients."""
        cluster = TimedCluster(
            name,
            self._build / "causeway",
            self._folder / str(len(self._clusters)),
            islands=islands,
            hosts=hosts,
            devices=devices,
            flags=flags,
        )
        self._clusters.append(cluster)
        cluster.await_ready()
        return cluster

    def stop(self):
        for cluster in self._clusters:
            cluster.stop()
