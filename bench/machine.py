"""Who else uses the machine while something is measured, from /proc."""

import os
import time
from pathlib import Path


def _busy_ticks() -> int:
    """Clock ticks that all processors together have spent on anything but idling."""
    user, nice, system, _idle, _iowait, *others = map(
        int, Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]
    )
    return user + nice + system + sum(others)


def _own_ticks() -> int:
    """Clock ticks of this process and everything below it, with those that have ended and been waited for."""
    parent: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it has ended meanwhile
            continue
        fields = text[text.rindex(")") + 2 :].split()  # behind the name, which may hold anything
        pid = int(stat.parent.name)
        parent[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))

    def is_ours(pid: int) -> bool:
        while pid > 1 and pid != os.getpid():
            pid = parent.get(pid, 0)
        return pid == os.getpid()

    return sum(spent for pid, spent in ticks.items() if is_ours(pid))


class OthersWatch:
    """Measures how many processors other processes have kept busy since it was made, on average; and how many this
    one and those below it."""

    def __init__(self):
        self._began = time.monotonic()
        self._own = _own_ticks()
        self._others = _busy_ticks() - self._own

    def busy_processors(self) -> float:
        return self._processors(_busy_ticks() - _own_ticks() - self._others)

    def own_processors(self) -> float:
        return self._processors(_own_ticks() - self._own)

    def _processors(self, ticks: int) -> float:
        seconds = time.monotonic() - self._began
        return max(0.0, ticks / os.sysconf("SC_CLK_TCK") / seconds)
