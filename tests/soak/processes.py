"""What the kernel says of the processes of a cluster: memory, open files, threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from harness import Cluster

MB = 1 << 20


@dataclass(frozen=True)
class Footprint:
    """What a process takes at one moment."""

    memory_mb: float  # resident
    files: int
    threads: int


def footprint(pid: int) -> Footprint:
    """Reads /proc. ProcessLookupError or FileNotFoundError if the process is gone."""
    folder = Path("/proc", str(pid))
    resident_pages = int((folder / "statm").read_text().split()[1])
    return Footprint(
        memory_mb=resident_pages * os.sysconf("SC_PAGE_SIZE") / MB,
        files=len(os.listdir(folder / "fd")),
        threads=len(os.listdir(folder / "task")),
    )


def pids_of(cluster: Cluster) -> dict[str, int]:
    """The controller and the workers of a cluster that `causeway up` runs, by name."""
    workers = {f"worker {number}": worker["pid"] for number, worker in enumerate(cluster.workers())}
    return {"controller": cluster.controller_pid(), **workers}
