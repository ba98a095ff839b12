"""The clusters that the benchmark measures, as their users start them, but with every process known by its id."""

import contextlib
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from sides import BenchError, Process, output_of

_START_S = 120


class Cluster:
    """A controller and its workers on this machine. `over_tcp`: bulk data take the loopback, as between hosts;
    otherwise unix sockets, as `causeway up` has it. `flags`: more of the controller's."""

    def __init__(
        self,
        name: str,
        binary: Path,
        folder: Path,
        *,
        workers: int,
        devices: int,
        over_tcp: bool,
        flags: Sequence[str | Path] = (),
    ):
        self.name = name
        self.client_address = f"unix:{folder}/client.sock"
        self._binary = binary
        self._control = f"unix:{folder}/control.sock"
        self._workers = workers
        self._running = ExitStack()
        folder.mkdir(mode=0o700)

        def data_address(who: str) -> str:
            return "127.0.0.1:0" if over_tcp else f"unix:{folder}/{who}.data"

        def start(who: str, *command: str | Path) -> Process:
            process = Process(f"{name}: {who}", [binary, *command], folder / f"{who}.log", ends_with_stdin=False)
            self._running.callback(process.stop)
            return process

        self.controller = start(
            "controller",
            *("controller", "--client-address", self.client_address, "--control-address", self._control),
            *("--data-address", data_address("controller")),
            *flags,
        )
        self.workers = [
            start(
                f"worker{number}",
                *("worker", "--controller", self._control, "--name", f"worker{number}", "--devices", str(devices)),
                *("--plugin", "cpu", "--data-address", data_address(f"worker{number}")),
            )
            for number in range(workers)
        ]

    def await_ready(self):
        """Waits until all workers have joined."""
        deadline = time.monotonic() + _START_S
        while self._joined() < self._workers:
            if time.monotonic() > deadline:
                raise BenchError(f"{self.name} is not complete after {_START_S} s")
            time.sleep(0.1)

    def _joined(self) -> int:
        for process in (self.controller, *self.workers):
            process.check()
        with contextlib.suppress(BenchError):  # it may not listen yet
            command = [self._binary, "status", "--controller", self._control, "--json"]
            islands = json.loads(output_of("causeway status", command))["islands"]
            return sum(worker["alive"] for island in islands for worker in island["workers"])
        return 0

    def stop(self):
        """Workers first, so that the controller does not report them lost."""
        self._running.close()


class Memory:
    """How much memory a process holds (RSS), and the most that it held since `begin`."""

    def __init__(self, pid: int):
        self._folder = Path(f"/proc/{pid}")

    def begin(self) -> int:
        """Forgets the peak so far; returns the bytes held now."""
        (self._folder / "clear_refs").write_text("5")
        return self._status("VmRSS")

    def peak(self) -> int:
        return self._status("VmHWM")

    def _status(self, field: str) -> int:
        for line in (self._folder / "status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) << 10
        raise BenchError(f"{self._folder}/status has no {field}")
