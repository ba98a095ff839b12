"""The two sides of the SPMD benchmark: a cluster with its one client, and a multi-controller job.

Both have the same number of processes that hold devices, and run the same code (spmd_client.py).
"""

import json
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import Cluster
from sides import REPOSITORY, BenchError, Process

_PROGRAM = REPOSITORY / "bench" / "spmd_client.py"
_START_S = 180
ASK_S = 180  # the longest that an operation may take: a hang is told from that


@dataclass(frozen=True)
class Shape:
    """So many processes, so many devices each."""

    processes: int
    devices: int

    def __str__(self) -> str:
        return f"{self.processes}x{self.devices}"


def _client(name: str, log: Path, environment: dict[str, str]) -> Process:
    return Process(name, [sys.executable, _PROGRAM], log, environment)


class Ours:
    """Causeway: a cluster, and one client."""

    def __init__(self, build: Path, folder: Path, shape: Shape, *, unix: bool):
        self._shape = shape
        self._folder = folder
        self._clients: list[Process] = []
        self._running = ExitStack()
        folder.mkdir(mode=0o700)
        self._cluster = Cluster(
            f"cluster {shape}",
            build / "causeway",
            folder / "cluster",
            workers=shape.processes,
            devices=shape.devices,
            over_tcp=not unix,
            flags=("--program-cache", folder / "programs"),
        )
        self._running.callback(self._cluster.stop)

    def await_ready(self):
        try:
            self._cluster.await_ready()
            self.another_client()
        except BaseException:
            self.stop()
            raise

    def another_client(self):
        """From here on, a new process does what is asked. The cluster stays."""
        log = self._folder / f"client{len(self._clients)}.log"
        environment = {"JAX_PLATFORMS": "causeway", "CAUSEWAY_ADDRESS": self._cluster.client_address}
        client = _client(f"Causeway's client, {self._shape}", log, environment)
        self._running.callback(client.stop)
        self._clients.append(client)
        _expect_devices(client, self._shape)

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        client = self._clients[-1]
        client.tell(json.dumps({"do": operation, **arguments}))
        return json.loads(client.read(ASK_S))

    def stop(self):
        self._running.close()


class Peers:
    """Multi-controller JAX: a process for each of our workers, which run the same program and meet through Gloo.

    It deadlocks now and then. Then its processes are killed, others take their place, and what was asked is asked
    again, once; `hangs` counts them.
    """

    def __init__(self, folder: Path, shape: Shape):
        self.hangs = 0
        self._shape = shape
        self._folder = folder
        self._prepared: list[str] = []
        self._processes: list[Process] = []
        folder.mkdir(mode=0o700)
        self._start()

    def _start(self):
        with socket.socket() as probe:  # somebody else may take it meanwhile; then they do not start, and say so
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self._processes = [
            _client(
                f"process {rank} of multi-controller JAX, {self._shape}",
                self._folder / f"rank{rank}.{self.hangs}.log",
                {
                    "JAX_PLATFORMS": "cpu",
                    "JAX_NUM_CPU_DEVICES": str(self._shape.devices),
                    "SPMD_COORDINATOR": f"127.0.0.1:{port}",
                    "SPMD_RANKS": str(self._shape.processes),
                    "SPMD_RANK": str(rank),
                },
            )
            for rank in range(self._shape.processes)
        ]

    def await_ready(self):
        try:
            for process in self._processes:
                _expect_devices(process, self._shape)
        except BaseException:
            self._kill()
            raise

    def prepare(self, operation: str):
        """Does something that has to be done again if the processes have to be replaced."""
        self.do(operation)
        self._prepared.append(operation)

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """The first process's answer, when all have answered."""
        return self.do_each(operation, **arguments)[0]

    def do_each(self, operation: str, **arguments: Any) -> list[dict[str, Any]]:
        """The answer of each process."""
        try:
            return self._ask(operation, arguments)
        except BenchError as error:
            self.hangs += 1
            print(f"    multi-controller JAX did not do {operation}; starting it again. {error}", flush=True)
            self._kill()
            self._start()
            self.await_ready()
            for earlier in self._prepared:
                self._ask(earlier, {})
            return self._ask(operation, arguments)

    def _ask(self, operation: str, arguments: dict[str, Any]) -> list[dict[str, Any]]:
        for process in self._processes:
            process.tell(json.dumps({"do": operation, **arguments}))
        deadline = time.monotonic() + ASK_S
        return [json.loads(process.read(max(1.0, deadline - time.monotonic()))) for process in self._processes]

    def _kill(self):
        for process in self._processes:
            process.kill()
        self.stop()

    def stop(self):
        """All at once: when one leaves, it waits for the others."""
        for process in self._processes:
            process.hang_up()
        for process in self._processes:
            process.stop()
        self._processes = []


def _expect_devices(process: Process, shape: Shape):
    devices = json.loads(process.read(_START_S))["devices"]
    if devices != shape.processes * shape.devices:
        raise BenchError(f"{process.name} sees {devices} devices")


class SpmdStage:
    """Both sides at one shape. They end with its context."""

    def __init__(self, build: Path, folder: Path, *, unix: bool):
        self._build = build
        self._folder = folder
        self._unix = unix
        self._started = 0
        self.hangs = 0

    def ours(self, shape: Shape) -> Ours:
        """A new cluster, complete, with a client."""
        ours = Ours(self._build, self._new_folder(), shape, unix=self._unix)
        ours.await_ready()
        return ours

    def peers(self, shape: Shape) -> Peers:
        """A new multi-controller job, ready."""
        peers = Peers(self._new_folder(), shape)
        peers.await_ready()
        return peers

    def _new_folder(self) -> Path:
        self._started += 1
        return self._folder / str(self._started)
