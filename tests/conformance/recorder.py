"""Pytest plugin that writes what happens to each test into a file as it happens, one JSON object a line.

The runner reads the file while pytest runs (progress) and after it has died (which test killed it). Loaded with
`-p conformance.recorder`; the environment says where to write and which tests to leave out:

    CONFORMANCE_RECORD   file to append to
    CONFORMANCE_DONE     file of test names, one a line, that an earlier run of the same file has already settled

Records, in order:

    {"collected": N}                                              tests that will run
    {"start": NAME}
    {"end": NAME, "outcome": "passed" | "failed" | "skipped", "seconds": S, "error": LINE, "text": TEXT}

NAME is "array_test.py::Class::test", pytest's id without the folder. A test that has a start and no end took the
interpreter with it.
"""

import json
import os
import time
from pathlib import Path

import pytest

_TEXT_LIMIT = 6000  # characters of a failure's text that are kept
_LOST_CONNECTION = "Connection to IFRT proxy server was terminated"
LOST_CONNECTION_EXIT_STATUS = 97


def test_name(nodeid: str) -> str:
    """Returns pytest's id without the folder that the file lies in."""
    file, separator, test = nodeid.partition("::")
    return Path(file).name + separator + test


class Recorder:
    """Folds the reports of a test's phases (and of its subtests) into one outcome."""

    def __init__(self, record: Path, done: set[str]):
        self._out = record.open("a", buffering=1, encoding="utf-8")
        self._done = done
        self._begin()

    def _begin(self):
        self._started = time.monotonic()
        self._outcome = "passed"
        self._error = ""
        self._text = ""

    def _write(self, **event):
        self._out.write(json.dumps(event) + "\n")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        items[:] = [item for item in items if test_name(item.nodeid) not in self._done]
        self._write(collected=len(items))

    def pytest_runtest_logstart(self, nodeid):
        self._begin()
        self._write(start=test_name(nodeid))

    def pytest_runtest_logreport(self, report):
        if report.failed and self._outcome != "failed":
            self._outcome = "failed"
            self._text = report.longreprtext[-_TEXT_LIMIT:]
            crash = getattr(report.longrepr, "reprcrash", None)
            message = crash.message if crash else self._text
            self._error = message.strip().partition("\n")[0]
        elif report.skipped and self._outcome == "passed":
            self._outcome = "skipped"
            # An expected failure carries no place, a skip carries (file, line, reason).
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected failure"
            self._error = str(reason).strip().partition("\n")[0]

    def pytest_runtest_logfinish(self, nodeid):
        seconds = round(time.monotonic() - self._started, 3)
        self._write(end=test_name(nodeid), outcome=self._outcome, seconds=seconds, error=self._error, text=self._text)
        if _LOST_CONNECTION in self._text:
            # The stock client does not reconnect: every later test of this process would fail for this one's reason.
            os._exit(LOST_CONNECTION_EXIT_STATUS)


def pytest_configure(config):
    """Starts the backend and registers the recorder; the runner has set both variables.

    The backend starts here and not inside the first test, which would else be blamed for a cluster that does not start
    and for what a plugin changes in JAX's settings.
    """
    import jax  # here, so that the runner can import this module without JAX

    print(f"devices: {jax.devices()}", flush=True)
    done = Path(os.environ["CONFORMANCE_DONE"]).read_text(encoding="utf-8").splitlines()
    config.pluginmanager.register(Recorder(Path(os.environ["CONFORMANCE_RECORD"]), set(done)), "conformance-recorder")
