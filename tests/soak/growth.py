"""How much client, controller and worker grow while one client dispatches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness import Cluster, Process

from soak.processes import footprint, pids_of

_WARM_UP = 10  # dispatches for each of those that count, in per cent
_PARTS = 4
_PART_LIMIT_S = 900


@dataclass(frozen=True)
class Growth:
    """Resident memory of one process after the warm-up and after each part of the dispatches."""

    process: str
    memory_mb: list[float]

    @property
    def total_mb(self) -> float:
        return self.memory_mb[-1] - self.memory_mb[0]

    @property
    def second_half_mb(self) -> float:
        return self.memory_mb[-1] - self.memory_mb[len(self.memory_mb) // 2]

    def is_flat(self, allow_mb: float) -> bool:
        """No more than allowed in all, and the second half adds less than the first, or next to nothing."""
        first_half_mb = self.total_mb - self.second_half_mb
        return self.total_mb <= allow_mb and self.second_half_mb <= max(allow_mb / 5, 0.75 * first_half_mb)


class Dispatcher(Process):
    """dispatcher.py on a cluster."""

    def __init__(self, address: str, folder: Path):
        super().__init__(
            [sys.executable, str(Path(__file__).with_name("dispatcher.py"))],
            folder / "dispatcher.log",
            {"JAX_PLATFORMS": "causeway", "CAUSEWAY_ADDRESS": address},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def dispatch(self, launches: int) -> None:
        self.popen.stdin.write(f"{launches}\n")
        self.popen.stdin.flush()
        if self.popen.stdout.readline() != "done\n":
            raise AssertionError(f"the dispatcher has ended:\n{self.log_tail()}")


def measure(cluster: Cluster, dispatches: int, say: Callable[[str], None] = lambda _: None) -> list[Growth]:
    """Dispatches that many launches from one client, and returns what each process has grown by."""
    with Dispatcher(cluster.client_address, cluster.folder) as client:
        client.dispatch(dispatches * _WARM_UP // 100)
        pids = {"client": client.pid, **pids_of(cluster)}
        memory: dict[str, list[float]] = {name: [] for name in pids}
        for part in range(_PARTS + 1):
            if part:
                client.dispatch(dispatches // _PARTS)
            for name, pid in pids.items():
                memory[name].append(footprint(pid).memory_mb)
            sizes = ", ".join(f"{name} {values[-1]:.1f} MB" for name, values in memory.items())
            say(f"{part * dispatches // _PARTS:>9,} dispatches: {sizes}")
    return [Growth(name, values) for name, values in memory.items()]
