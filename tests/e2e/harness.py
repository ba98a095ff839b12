"""What the end-to-end tests start: clusters, parts of clusters, and JAX programs that use them.

A `Client` is a Python process with JAX on a cluster that runs functions sent to it, so that one process serves many
tests and a test can do things between two calls, such as killing a worker:

    with Cluster.up(folder, hosts=2) as cluster, Client(cluster.client_address) as client:
        assert client.call(lambda: len(jax.devices())) == 8

Everything listens on unix sockets in the test's own folder, and every wait has a limit.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle

from causeway.binary import find_binary

T = TypeVar("T")

START_S = 60
CALL_S = 60
_HERE = Path(__file__).resolve().parent


class RemoteError(Exception):
    """A function raised an exception in the client's process; this is its traceback there."""


def eventually(condition: Callable[[], T], what: str, limit_s: float = 20.0) -> T:
    """Waits until `condition` is true, and returns what it was. Fails the test after `limit_s`."""
    deadline = time.monotonic() + limit_s
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.02)
    return value


def clean_environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment without what somebody set for JAX or Causeway, and with `changes`."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in ("CAUSEWAY_BINARY", "CAUSEWAY_PROGRAM_CACHE")
        or not key.startswith(("JAX_", "CAUSEWAY_", "XLA_", "IFRT_", "TF_CPP_"))
    }
    return {**kept, "VIRTUAL_ENV": sys.prefix, **(changes or {})}


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def descendants(pid: int) -> set[int]:
    """All processes below `pid`."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


def causeway_below(pid: int, subcommand: str) -> int:
    """The pid of the one `causeway SUBCOMMAND` below `pid`."""
    commands = {below: Path(f"/proc/{below}/cmdline").read_text().split("\0") for below in descendants(pid)}
    (found,) = (below for below, command in commands.items() if command[1:2] == [subcommand])
    return found


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A private folder whose path is short enough for unix sockets, which pytest's own are not always."""
    with tempfile.TemporaryDirectory(prefix="cw-", dir="/tmp") as folder:
        yield Path(folder)


class Process:
    """A process with its output in a file, ended with its context."""

    def __init__(self, command: list[str], log: Path, changes: Mapping[str, str] | None = None, **popen: Any) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                stderr=output,
                env=clean_environment(changes),
                **{"stdin": subprocess.DEVNULL, "stdout": output, **popen},
            )
        self.pid = self.popen.pid

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Asks it to end; kills it if it does not."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """SIGKILL: no chance to say good-bye."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait(10)

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])


def status_at(control_address: str) -> dict[str, Any]:
    """What `causeway status --json` says of the controller there; it must answer."""
    command = [str(find_binary()), "status", "--json", "--controller", control_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=clean_environment(), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def status_if_any(control_address: str) -> dict[str, Any] | None:
    """The same; None while the controller does not answer."""
    try:
        return status_at(control_address)
    except AssertionError:
        return None


def workers_of(status: dict[str, Any]) -> list[dict[str, Any]]:
    """All workers of a status, in the order of their devices."""
    return [worker for island in status["islands"] for worker in island["workers"]]


class Cluster(Process):
    """A running cluster: `causeway up`, or the parts that a test started itself."""

    client_address: str
    control_address: str
    folder: Path

    @classmethod
    def up(
        cls, folder: Path, *flags: str, islands: int = 1, hosts: int = 1, devices: int = 4, **environment: str
    ) -> Cluster:
        """Starts `causeway up` in `folder` and waits until it is ready."""
        read, write = os.pipe()
        command = [
            *(str(find_binary()), "up", "--dir", str(folder), "--client-address", f"unix:{folder}/client.sock"),
            *("--islands", str(islands), "--hosts", str(hosts), "--devices", str(devices)),
            *("--ready-fd", str(write), *flags),
        ]
        cluster = cls(command, folder / "up.log", environment, pass_fds=(write,))
        os.close(write)
        try:
            with os.fdopen(read, "rb", buffering=0) as ready:
                if not select.select([ready], [], [], START_S)[0] or not (line := ready.read(4096)):
                    raise AssertionError(f"the cluster did not start:\n{cluster.log_tail()}")
        except BaseException:
            cluster.end()
            raise
        addresses = json.loads(line)
        cluster.client_address = addresses["client_address"]
        cluster.control_address = addresses["control_address"]
        cluster.folder = folder
        return cluster

    def status(self) -> dict[str, Any]:
        """What `causeway status --json` says."""
        return status_at(self.control_address)

    def workers(self) -> list[dict[str, Any]]:
        """All workers of the status, in the order of their devices."""
        return workers_of(self.status())

    def controller_pid(self) -> int:
        """The controller below `causeway up`."""
        return causeway_below(self.pid, "controller")

    def kill_worker(self, number: int) -> None:
        """SIGKILL for the worker that has the cluster's `number`-th part of the devices."""
        os.kill(self.workers()[number]["pid"], signal.SIGKILL)

    def session_of(self, client: Client) -> dict[str, Any] | None:
        """The status of a client's session: tests give their clients names that differ."""
        return next((s for s in self.status()["sessions"] if s["name"] == client.name), None)

    def device_buffers(self) -> int:
        """Live buffers in all workers, by the accounts that they send with their heartbeats."""
        return sum(device["buffers"] for worker in self.workers() for device in worker["devices"])

    def device_bytes(self) -> int:
        """What they take."""
        return sum(device["bytes"] for worker in self.workers() for device in worker["devices"])


class Client(Process):
    """A Python process with JAX on a cluster. `prefix`: a command that runs it somewhere else."""

    def __init__(
        self, address: str, folder: Path, name: str = "client", *, prefix: Sequence[str] = (), **environment: str
    ) -> None:
        self.name = f"{name}.py"
        commands_read, self._commands = os.pipe()
        self._replies, replies_write = os.pipe()
        # A link to the program, so that sessions have different names.
        program = folder / self.name
        if not program.exists():
            program.symlink_to(_HERE / "client_main.py")
        super().__init__(
            [*prefix, sys.executable, str(program), str(commands_read), str(replies_write)],
            folder / f"{name}.log",
            {
                "JAX_PLATFORMS": "causeway",
                "CAUSEWAY_ADDRESS": address,
                "CAUSEWAY_CONNECT_TIMEOUT": "20",
                **environment,
            },
            pass_fds=(commands_read, replies_write),
        )
        os.close(commands_read)
        os.close(replies_write)

    def __exit__(self, *_: object) -> None:
        os.close(self._commands)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(10)
        self.end()
        os.close(self._replies)

    def start(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Runs `function(*arguments)` in the client, without waiting. A parameter `kept` gets the client's own dict."""
        cloudpickle.register_pickle_by_value(sys.modules[function.__module__])
        message = cloudpickle.dumps((function, arguments))
        os.write(self._commands, struct.pack("!I", len(message)))
        view = memoryview(message)
        while view:
            view = view[os.write(self._commands, view) :]

    def result(self, limit_s: float = CALL_S) -> Any:
        """What the function started first has returned. Raises RemoteError for its exception."""
        (length,) = struct.unpack("!I", self._read(4, limit_s))
        ok, value = pickle.loads(self._read(length, limit_s))
        if not ok:
            raise RemoteError(value)
        return value

    def call(self, function: Callable[..., Any], *arguments: Any, limit_s: float = CALL_S) -> Any:
        """Runs a function in the client and returns its value."""
        self.start(function, *arguments)
        return self.result(limit_s)

    def run(self, function: Callable[[], Any]) -> None:
        """As a decorator: runs the function, which holds the test's assertions, in the client."""
        self.call(function)

    def _read(self, length: int, limit_s: float) -> bytes:
        data = b""
        deadline = time.monotonic() + limit_s
        while len(data) < length:
            if not select.select([self._replies], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"{self.name} did not answer within {limit_s:g} s:\n{self.log_tail()}")
            if not (chunk := os.read(self._replies, length - len(data))):
                raise AssertionError(f"{self.name} has ended:\n{self.log_tail()}")
            data += chunk
        return data
