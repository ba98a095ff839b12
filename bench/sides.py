"""The processes that the benchmark compares, each driven over its stdin and stdout, and idle while it is not asked."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
_PATIENCE_S = 120
_STOP_S = 10


class BenchError(Exception):
    """The benchmark cannot run; the message says why."""


def clean_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """The environment without what somebody set for JAX or Causeway, with this tree's package, and with `changes`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("JAX_", "CAUSEWAY_", "XLA_", "IFRT_", "TF_CPP_"))
    }
    return {**kept, "PYTHONPATH": str(REPOSITORY / "python"), "VIRTUAL_ENV": sys.prefix, **changes}


class Process:
    """A child that answers a line with a line. Its stderr goes to `log`. It ends when its stdin is closed, or, if it
    does not look there, with SIGTERM; and with this process, however that ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        ends_with_stdin: bool = True,
    ):
        self.name = name
        self.log = log
        self._ends_with_stdin = ends_with_stdin
        self._unread = b""
        if "/" in str(command[0]) and not Path(command[0]).exists():
            raise BenchError(f"no {command[0]}; run `make build` first")
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *map(str, command)],
                cwd=REPOSITORY,
                env=clean_environment(environment or {}),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                bufsize=0,
            )
        self.pid = self._process.pid

    def read(self, timeout_s: float = _PATIENCE_S) -> str:
        """Returns the next line. BenchError, with the end of the log, if the process ended or says nothing."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left_s)[0]:
                raise BenchError(f"{self.name} has not answered for {timeout_s:g} s{self._log_end()}")
            chunk = self._process.stdout.read(1 << 16)
            if not chunk:
                raise self._ended()
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode().strip()

    def tell(self, line: str):
        """Sends a line."""
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            raise self._ended() from None

    def ask(self, line: str) -> str:
        """Sends a line and returns the answer."""
        self.tell(line)
        return self.read()

    def check(self):
        """BenchError if the process has ended."""
        if self._process.poll() is not None:
            raise self._ended()

    def hang_up(self):
        """Closes its stdin, and does not wait for what that does."""
        self._process.stdin.close()

    def kill(self):
        """Ends the process at once."""
        self._process.kill()

    def stop(self):
        """Ends the process, by force if that takes long."""
        self.hang_up()
        if not self._ends_with_stdin:
            self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ended(self) -> BenchError:
        return BenchError(f"{self.name} ended with status {self._process.wait()}{self._log_end()}")

    def _log_end(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
        return "\n".join([":", *lines]) if lines else "; its log is empty"


class Client(Process):
    """Stock JAX in a process of its own (client.py). Ready when `server` has been read."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path):
        super().__init__(name, [sys.executable, REPOSITORY / "bench" / "client.py"], log, environment)
        self.server = ""

    def await_ready(self):
        self.server = json.loads(self.read())["server"]

    def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Has the client do one of its operations, and returns what it measured."""
        return json.loads(self.ask(json.dumps({"do": operation, **arguments})))

    def times_us(self, operation: str, count: int) -> list[float]:
        """Microseconds of each of `count` repetitions."""
        return [round(seconds * 1e6, 1) for seconds in self.do(operation, count=count)["seconds"]]


def output_of(name: str, command: Sequence[str | Path], timeout_s: float = _PATIENCE_S) -> str:
    """Runs a program to its end and returns what it wrote. BenchError if it fails."""
    if "/" in str(command[0]) and not Path(command[0]).exists():
        raise BenchError(f"no {command[0]}; run `make build` first")
    try:
        ran = subprocess.run(
            ["setpriv", "--pdeathsig", "TERM", *map(str, command)],
            env=clean_environment({}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{name} did not end within {timeout_s:g} s") from None
    if ran.returncode != 0:
        raise BenchError(f"{name} ended with status {ran.returncode}:\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran.stdout
