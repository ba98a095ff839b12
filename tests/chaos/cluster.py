"""A cluster whose every process can be killed, stopped and started again, and what can be seen of it from outside."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from harness import Client, Process, find_binary, status_if_any, workers_of

from chaos.schedule import Limits

_TESTS = Path(__file__).resolve().parents[1]

# For what takes no time on a quiet machine. Never a measure: only against hangs.
GRACE_S = 60.0


class Failed(AssertionError):
    """Something is not as it must be."""


class Hung(Failed):
    """Something that had to happen did not happen in time."""


class Part:
    """The controller or a worker: one process after the other, by the same command."""

    def __init__(self, name: str, command: list[str], folder: Path) -> None:
        self.name = name
        self._command = command
        self._log = folder / f"{name}.log"
        self._process: Process | None = None

    def start(self) -> None:
        self._process = Process(self._command, self._log)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()

    def terminate(self, limit_s: float) -> None:
        """SIGTERM, and waits for its end: it must not hang then."""
        assert self._process is not None
        self._process.popen.terminate()
        try:
            status = self._process.popen.wait(limit_s)
        except Exception as error:
            raise Hung(f"{self.name} did not end within {limit_s:g} s of SIGTERM") from error
        if status != 0:
            raise AssertionError(f"{self.name} ended with status {status} when asked to:\n{self._process.log_tail()}")

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def died(self) -> str:
        """How it ended, if it did so on its own; else nothing."""
        assert self._process is not None
        if (status := self._process.popen.poll()) is None:
            return ""
        return f"{self.name} has ended by itself (status {status}):\n{self._process.log_tail()}"

    def end(self) -> None:
        if self._process is not None and self._process.popen.poll() is None:
            self._process.kill()


class ChaosCluster:
    """A controller and its workers, started one by one."""

    def __init__(self, folder: Path, workers: int, per_worker: int, limits: Limits) -> None:
        self.folder = folder
        self.per_worker = per_worker
        self.limits = limits
        binary = str(find_binary())
        self.control_address = f"unix:{folder}/control.sock"
        self.client_address = f"unix:{folder}/client.sock"
        self.controller = Part(
            "controller",
            [
                *(binary, "controller", "--client-address", self.client_address),
                *("--control-address", self.control_address, "--data-address", f"unix:{folder}/controller.data"),
                *("--workers", str(workers), "--heartbeat", str(limits.heartbeat_s)),
                *("--heartbeat-timeout", str(limits.heartbeat_timeout_s)),
                *("--client-timeout", str(limits.client_timeout_s)),
            ],
            folder,
        )
        self.workers = [
            Part(
                f"w{number}",
                [
                    *(binary, "worker", "--controller", self.control_address, "--name", f"w{number}"),
                    *("--devices", str(per_worker), "--data-address", f"unix:{folder}/w{number}.data"),
                ],
                folder,
            )
            for number in range(workers)
        ]

    def __enter__(self) -> ChaosCluster:
        for part in (self.controller, *self.workers):
            part.start()
        return self

    def __exit__(self, *_: object) -> None:
        for part in (*self.workers, self.controller):
            part.end()

    def client(self, name: str) -> Client:
        """Starts a client, which finds the modules of this folder."""
        return Client(
            self.client_address,
            self.folder,
            name,
            PYTHONPATH=os.pathsep.join([str(_TESTS), os.environ.get("PYTHONPATH", "")]),
        )

    def status(self) -> dict[str, Any] | None:
        """What `causeway status --json` says; None while the controller does not answer."""
        return status_if_any(self.control_address)

    def wait_for(self, what: str, limit_s: float, holds: Any) -> dict[str, Any]:
        """Waits until `holds(status)`; gives that status."""
        deadline = time.monotonic() + limit_s
        while True:
            status = self.status()
            if status is not None and holds(status):
                return status
            if time.monotonic() > deadline:
                raise Hung(f"not within {limit_s:g} s: {what}; status: {status}")
            for part in (self.controller, *self.workers):
                if died := part.died():
                    raise AssertionError(died)
            time.sleep(0.02)


def workers_by_name(status: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {worker["name"]: worker for worker in workers_of(status)}


def all_alive(status: dict[str, Any]) -> bool:
    """Whether all workers that the controller expects are there."""
    workers = workers_of(status)
    return len(workers) == status["expected_workers"] and all(worker["alive"] for worker in workers)


def held_by(status: dict[str, Any]) -> dict[str, int]:
    """All that a status knows to be held or waited for."""
    workers = workers_of(status)
    devices = [device for worker in workers for device in worker["devices"]]
    return {
        "buffers": sum(device["buffers"] for device in devices),
        "bytes": sum(device["bytes"] for device in devices),
        "launches": sum(device["launches_in_flight"] for device in devices),
        "queued launches": sum(worker["queued_launches"] for worker in workers),
        "host bytes": sum(worker["host_bytes"] for worker in workers),
        **{f"pending {name}": count for name, count in status["pending"].items()},
    }
