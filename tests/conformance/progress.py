"""Says how far the selections are that run now: over and over on one line of a terminal, now and then in a log."""

import sys
import threading
import time
from dataclasses import dataclass, field

_LINE_EVERY_S = 10.0  # of each selection, where the output is not a terminal


@dataclass
class _State:
    began: float = field(default_factory=time.monotonic)
    said: float = field(default_factory=time.monotonic)
    settled: int = 0
    planned: int = 0
    failed: int = 0

    def text(self, title: str) -> str:
        elapsed = time.monotonic() - self.began
        return f"{title}: {self.settled} of {self.planned} tests, {self.failed} failed, {elapsed:.0f} s"


class Board:
    """What is known of all that runs. Threads may report at once."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running: dict[str, _State] = {}

    def begin(self, title: str):
        with self._lock:
            self._running[title] = _State()

    def report(self, title: str, settled: int, planned: int, failed: int):
        with self._lock:
            state = self._running[title]
            state.settled, state.planned, state.failed = settled, planned, failed
            if sys.stdout.isatty():
                line = " | ".join(state.text(title) for title, state in self._running.items())
                print(f"\r\033[K{line}", end="", flush=True)
            elif time.monotonic() - state.said >= _LINE_EVERY_S:
                state.said = time.monotonic()
                print(state.text(title), flush=True)

    def end(self, title: str):
        """Leaves the last state standing."""
        with self._lock:
            self._say(self._running.pop(title).text(title))

    def note(self, line: str):
        """Says something that stays, besides what runs."""
        with self._lock:
            self._say(line)

    def _say(self, line: str):
        print(("\r\033[K" if sys.stdout.isatty() else "") + line, flush=True)
