"""Runs cases on both sides, each in a process of its own, and loses nothing when a case takes that with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cases import family_of
from .compare import Outcome, differences

CASE_TIMEOUT_S = 90
START_TIMEOUT_S = 120  # a cluster, and JAX
DEVICES = 8
_STOP_S = 15
_LOG_LINES = 15
_TESTS = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Side:
    """A name and the variables that give a process its devices."""

    name: str
    settings: Mapping[str, str]

    def environment(self) -> dict[str, str]:
        own = ("JAX_", "XLA_", "TF_CPP_", "IFRT_", *(["CAUSEWAY_"] if self.name == "stock" else []))
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(own)}
        path = [str(_TESTS), str(_TESTS.parent / "python"), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {**inherited, "PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", **self.settings}


STOCK = Side("stock", {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"})


def cluster(islands: int = 1, hosts: int = 4, devices: int = 2) -> Side:
    """An embedded cluster, or the running one that CAUSEWAY_ADDRESS names. It keeps no programs of earlier runs."""
    sizes = {"CAUSEWAY_ISLANDS": islands, "CAUSEWAY_HOSTS": hosts, "CAUSEWAY_DEVICES": devices}
    settings = {"JAX_PLATFORMS": "causeway", "CAUSEWAY_PROGRAM_CACHE": "none"}
    return Side("causeway", {**settings, **{name: str(size) for name, size in sizes.items()}})


class _Process:
    """The process of one side. It ends with its context, with all that it started."""

    def __init__(self, side: Side, seed: int, folder: Path, numbers: Sequence[int]):
        command = [sys.executable, "-m", "spmd.differential.side", str(seed), str(folder), ",".join(map(str, numbers))]
        self._log = folder / "stderr.log"
        with self._log.open("wb") as errors:
            self._popen = subprocess.Popen(
                command,
                env=side.environment(),
                cwd=_TESTS,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._unread = b""

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        """It leads a session of its own, so its group is it and nothing else; a cluster of its own ends after it."""
        try:
            self._popen.wait(0 if self._popen.poll() is None else _STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
        self._popen.stdout.close()

    def line(self, timeout_s: float) -> str | None:
        """The next line, "" if the process has ended, None if it says nothing for so long."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._popen.stdout], [], [], left_s)[0]:
                return None
            chunk = os.read(self._popen.stdout.fileno(), 1 << 16)
            if not chunk:
                self._popen.wait()
                return ""
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def death(self) -> str:
        """How it ended, with the end of its log."""
        status = self._popen.poll()
        if status is None:
            how = "had to be killed"
        elif status < 0:
            how = f"died of {signal.Signals(-status).name}"
        else:
            how = f"ended with status {status}"
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join([f"{how}; the end of its log:", *lines])


def run_side(
    side: Side,
    seed: int,
    numbers: Sequence[int],
    *,
    timeout_s: float = CASE_TIMEOUT_S,
    progress: Callable[[str, int], None] = lambda side, number: None,
) -> dict[int, Outcome]:
    """Every case's outcome on that side. Each death or hang costs the case it happens in; another process goes on."""
    outcomes: dict[int, Outcome] = {}
    left = list(numbers)
    with tempfile.TemporaryDirectory(prefix="causeway-spmd-") as folder:
        while left:
            with _Process(side, seed, Path(folder), left) as process:
                running: int | None = None
                while True:
                    limit_s = START_TIMEOUT_S if running is None else timeout_s
                    line = process.line(limit_s)
                    word, _, number = (line or "").partition(" ")
                    if word == "begin":
                        running = int(number)
                        progress(side.name, running)
                    elif word == "end":
                        outcomes[int(number)] = Outcome.load(Path(folder) / f"{number}.npz")
                        left.remove(int(number))
                        running = None
                    elif word == "" and not left:
                        break
                    else:
                        lost = left[0] if running is None else running
                        what = f"running case {lost}" if running is not None else f"getting ready for case {lost}"
                        if line is None:
                            how = f"did not end within {limit_s:g} s and {process.death()}"
                        elif word == "":
                            how = process.death()
                        else:
                            continue  # something that the program printed
                        outcomes[lost] = Outcome.death(f"{side.name}, {what}: the process {how}", family_of(lost))
                        left.remove(lost)
                        break
    return outcomes


def run_both(
    seed: int,
    numbers: Sequence[int],
    here: Side,
    *,
    timeout_s: float = CASE_TIMEOUT_S,
    progress: Callable[[str, int], None] = lambda side, number: None,
) -> dict[int, list[str]]:
    """Runs the cases on stock JAX, then here. The differences of each case, none where the sides agree; the first entry
    of a case that differs says what the case is."""
    theirs = run_side(STOCK, seed, numbers, timeout_s=timeout_s, progress=progress)
    ours = run_side(here, seed, numbers, timeout_s=timeout_s, progress=progress)
    found = {}
    for number in numbers:
        problems = differences(theirs[number], ours[number])
        text = max((side[number].facts["text"] for side in (theirs, ours)), key=len)
        found[number] = [text, *problems] if problems else []
    return found


def report(seed: int, number: int, problems: Sequence[str]) -> str:
    """A case that differs, for people."""
    lines = [f"case {number} of seed {seed} differs", *problems]
    lines.append(f"again: python -m tests.spmd.differential --seed {seed} --case {number} (--show prints the program)")
    return "\n".join("\n    ".join(line.splitlines()) for line in lines)
