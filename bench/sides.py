"""The processes that the benchmark compares, each driven over its stdin and stdout, and idle while it is not asked."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


class BenchError(Exception):
    """The benchmark cannot run; the message says why."""


class Process:
    """A child that answers a line with a line. Its stderr goes to `log`. Ends when its stdin is closed."""

    def __init__(self, name: str, command: list[str | Path], environment: Mapping[str, str], log: Path):
        self.name = name
        self._log = log
        if not Path(command[0]).exists():
            raise BenchError(f"no {command[0]}; run `make build` first")
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )

    def read(self) -> str:
        """Returns the next line; BenchError with the end of the log if the process ended instead."""
        line = self._process.stdout.readline()
        if not line:
            end = "\n".join(self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
            raise BenchError(f"{self.name} ended with status {self._process.wait()}:\n{end}")
        return line.strip()

    def ask(self, line: str) -> str:
        """Sends a line and returns the answer."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self.read()

    def stop(self):
        """Ends the process: by the end of its stdin, and by force if that takes long."""
        self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Client(Process):
    """Stock JAX in a process of its own, connected to the server that `environment` names."""

    def __init__(self, name: str, environment: Mapping[str, str], log: Path):
        client = [sys.executable, REPOSITORY / "bench" / "client_launch.py"]
        super().__init__(name, client, {"JAX_PLATFORMS": "causeway", **environment}, log)
        self.server = json.loads(self.read())["server"]

    def latencies_us(self, launches: int) -> list[float]:
        """Times `launches` launches one after the other, each waited for."""
        return [seconds * 1e6 for seconds in self._time(latency=launches)]

    def rate_per_s(self, launches: int) -> float:
        """Times that many launches without waiting in between, up to the last one's completion."""
        return launches / self._time(burst=launches)

    def _time(self, **request: int):
        return json.loads(self.ask(json.dumps(request)))["seconds"]
