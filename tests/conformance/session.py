"""Runs a selection of JAX's tests on one side, and loses nothing when a test takes the interpreter with it.

A selection runs in one pytest process: starting JAX and a cluster for each test would take longer than the tests.
When the process dies or goes silent, the test it was in has failed, and another process runs the rest.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from conformance.recorder import LOST_CONNECTION_EXIT_STATUS
from conformance.suite import BUILD, REPOSITORY, Side, SuiteError, fingerprint

TEST_TIMEOUT_S = 180  # some compile a hundred programs, and another file may run beside
_SILENCE_LIMIT_S = TEST_TIMEOUT_S + 120  # with no record at all: a start or an exit that hangs
_MAX_PROCESSES = 30  # for one selection; every one but the first follows a death
_GROUP_LIMIT_S = 10  # for a cluster to end after the interpreter that started it
_POLL_S = 0.1
_LOG_TAIL_LINES = 15


@dataclass(frozen=True)
class Outcome:
    """What became of a test. `error`: the first line of why it did not pass; `text`: the end of its traceback."""

    outcome: str  # passed, failed or skipped
    seconds: float = 0.0
    error: str = ""
    text: str = ""

    @property
    def passed(self) -> bool:
        return self.outcome == "passed"


@dataclass(frozen=True)
class Selection:
    """Tests to run together: a name for people and for files, and pytest ids below the folder of the suite."""

    label: str
    ids: Sequence[str]


# Called with the number of tests settled, the number that will be, and how many of them failed.
Progress = Callable[[int, int, int], None]


class Stopped(Exception):
    """The run was told to stop; its processes have ended."""


def run(
    side: Side, root: Path, selection: Selection, progress: Progress, stop: threading.Event | None = None
) -> dict[str, Outcome]:
    """Runs the selection and returns each test's outcome by name. Pytest's own output goes to build/conformance/logs.

    Tests are missing where so many died that the rest was not worth running. SuiteError if not even one could run,
    Stopped soon after somebody set `stop`.
    """
    stop = stop or threading.Event()
    log = BUILD / "logs" / f"{side.name}-{selection.label}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    results: dict[str, Outcome] = {}
    for _ in range(_MAX_PROCESSES):
        process = _Process(side, root, selection, results, log)
        status = process.follow(progress, stop)
        if process.running:
            results[process.running] = Outcome("failed", error=_cause_of_death(status))
        elif process.settled == process.planned and results:
            return results
        elif status != LOST_CONNECTION_EXIT_STATUS and not process.settled:
            end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_TAIL_LINES:])
            raise SuiteError(
                f"{selection.label} on {side.name}: pytest ended with status {status}; the end of {log}:\n{end}"
            )
    return results


def kept_results(side: Side, root: Path, selection: Selection) -> Path:
    """Returns the file that keeps the results of a selection: named by all they depend on but the code under test."""
    ids = hashlib.sha256("\n".join(selection.ids).encode()).hexdigest()[:8]
    return BUILD / "results" / f"{side.name}-{selection.label}-{ids}-{fingerprint(root)}.json"


def load_results(file: Path) -> dict[str, Outcome] | None:
    """Reads what keep_results() wrote; None where there is no such file."""
    if not file.exists():
        return None
    return {name: Outcome(**fields) for name, fields in json.loads(file.read_text(encoding="utf-8")).items()}


def keep_results(file: Path, results: Mapping[str, Outcome]):
    """Writes results, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps({name: asdict(outcome) for name, outcome in results.items()}), encoding="utf-8")
    partial.rename(file)


def _cause_of_death(status: int) -> str:
    if status == -signal.SIGKILL:
        return "the process went silent or was killed (SIGKILL)"
    if status < 0:
        return f"the interpreter died of {signal.Signals(-status).name}"
    return f"the interpreter ended in the middle with status {status}: {TEST_TIMEOUT_S} s passed, or an abrupt exit"


class _Process:
    """One pytest process, for the tests that `results` does not have yet; it adds them there as they end."""

    def __init__(self, side: Side, root: Path, selection: Selection, results: dict[str, Outcome], log: Path):
        self.settled = 0  # tests that have ended in this process
        self.planned: int | None = None  # of them, in all; None until they are collected
        self.running: str | None = None
        self._results = results
        self._earlier = len(results)
        self._failed = sum(outcome.outcome == "failed" for outcome in results.values())
        self._scratch = tempfile.TemporaryDirectory(prefix="causeway-conformance-")
        self._record = Path(self._scratch.name, "record")
        self._record.touch()
        skip = Path(self._scratch.name, "done")
        skip.write_text("\n".join(results), encoding="utf-8")
        path = [str(root), str(REPOSITORY / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = side.environment() | {
            "PYTHONPATH": os.pathsep.join(path),
            "CONFORMANCE_RECORD": str(self._record),
            "CONFORMANCE_DONE": str(skip),
        }
        options = ["-q", "-c", "pytest.ini", "--rootdir", ".", "-W", "ignore", "-p", "no:cacheprovider"]
        # By thread: a test that hangs inside the client's C++ never gets to run a signal's handler.
        options += ["-p", "conformance.recorder", f"--timeout={TEST_TIMEOUT_S}", "--timeout-method=thread"]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, *selection.ids],
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def follow(self, progress: Progress, stop: threading.Event) -> int:
        """Waits for the process, reading its record as it grows; returns the exit status. Leaves no process behind."""
        try:
            with self._record.open(encoding="utf-8") as record:
                last_sign = time.monotonic()
                unfinished = ""
                while True:
                    ended = self._process.poll() is not None
                    text = record.read()
                    if text:
                        last_sign = time.monotonic()
                        *lines, unfinished = (unfinished + text).split("\n")
                        for line in lines:
                            self._take(json.loads(line))
                        planned = self._earlier + (self.planned or 0)
                        progress(self._earlier + self.settled, planned, self._failed)
                    if ended:
                        return self._process.returncode
                    if stop.is_set():
                        raise Stopped
                    if time.monotonic() - last_sign > _SILENCE_LIMIT_S:
                        self._process.kill()
                    time.sleep(_POLL_S)
        finally:
            self._end_group()
            self._scratch.cleanup()

    def _end_group(self):
        """Lets a cluster that the interpreter started end by itself, and kills what is there after that."""
        self._process.kill()
        self._process.wait()
        deadline = time.monotonic() + _GROUP_LIMIT_S
        with contextlib.suppress(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(self._process.pid, 0)
                time.sleep(_POLL_S)
            os.killpg(self._process.pid, signal.SIGKILL)

    def _take(self, event: dict):
        if "collected" in event:
            self.planned = event["collected"]
        elif "start" in event:
            self.running = event["start"]
        else:
            outcome = Outcome(event["outcome"], event["seconds"], event["error"], event["text"])
            self.running = None
            self.settled += 1
            self._failed += outcome.outcome == "failed"
            self._results[event["end"]] = outcome
