"""Long mixed work on a cluster, and what it leaves behind: `make soak`.

    python tests/soak/run.py                       200,000 dispatches, then 3 minutes of everything
    python tests/soak/run.py --minutes 600         a night
    python tests/soak/run.py --clients 4 --seed 7

First one client dispatches and does nothing else, and the memory of all three kinds of processes is printed. Then
clients do a bit of everything: programs of all sizes, deletes, donations, copies, fetches, programs that do not compile
and launches that fail. Visitors come and go; every other one is killed. Memory, open files and threads of all processes
are sampled, and flat.py says what flat means. At the end all clients leave, and nothing may be left of them.

Exit status: 0 if everything is flat and freed; 1 if not; 2 if it could not run or a client went wrong.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in (".", "e2e")]

from harness import Cluster, Process, eventually, short_folder  # noqa: E402

from soak import flat, growth  # noqa: E402
from soak.processes import Footprint, footprint, pids_of  # noqa: E402

_SAMPLE_S = 1.0
_MIN_SAMPLES = 10
_SAY_S = 5.0
_VISITOR_EVERY_S = 12.0
_VISIT_S = 4.0
_START_LIMIT_S = 120.0
_LEAVE_LIMIT_S = 90.0
_ALLOWED_FILES = 4
_ALLOWED_THREADS = 4
# The stock client takes a thread for each piece of work that it has in flight, in steps, and keeps it. The controller
# lets it have so many launches on each device (--launches-in-flight), and it has uploads, fetches and deletes.
_THREADS_PER_DEVICE = 128
_THREADS_BESIDE = 256
_MB_PER_THREAD = 0.2  # the stack and the allocator's share


class SoakError(Exception):
    """The soak cannot go on; the message says why."""


class Client(Process):
    """client.py on a cluster."""

    def __init__(self, name: str, cluster: Cluster, seed: int):
        self.name = name
        self._report = cluster.folder / f"{name}.json"
        with self._report.open("wb") as report:
            super().__init__(
                [sys.executable, str(Path(__file__).with_name("client.py")), str(seed)],
                cluster.folder / f"{name}.log",
                {"JAX_PLATFORMS": "causeway", "CAUSEWAY_ADDRESS": cluster.client_address},
                stdin=subprocess.PIPE,
                stdout=report,
            )

    def done(self) -> Counter[str]:
        """What it has done so far; empty until it has begun."""
        lines = self._report.read_bytes().split(b"\n")[:-1]
        return Counter(json.loads(lines[-1])) if lines else Counter()

    def check(self) -> None:
        """SoakError if it has ended by itself."""
        if self.popen.poll() is not None:
            raise SoakError(f"{self.name} ended with status {self.popen.returncode}:\n{self.log_tail()}")

    def leave(self) -> None:
        """Lets it finish. SoakError if it does not end well."""
        self.popen.stdin.close()
        try:
            status = self.popen.wait(_LEAVE_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise SoakError(f"{self.name} did not leave within {_LEAVE_LIMIT_S:g} s:\n{self.log_tail()}") from None
        if status:
            raise SoakError(f"{self.name} ended with status {status}:\n{self.log_tail()}")

    def forget(self) -> None:
        """Removes its files, once it has ended."""
        self.log.unlink()
        self._report.unlink()


@dataclass
class Visitors:
    """Clients that stay for a moment. Every other one is killed."""

    cluster: Cluster
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    _here: Client | None = None
    _next: float = 0.0
    _until: float = 0.0

    def step(self, now: float) -> None:
        if self._here is None:
            if now >= self._next:
                self._here = Client(f"visitor-{self.done['visitors']}", self.cluster, self.seed + self.done["visitors"])
                self._until = now + _START_LIMIT_S
                self.done["visitors"] += 1
            return
        self._here.check()
        if self._until - now > _VISIT_S and self._here.done():
            self._until = now + _VISIT_S
        if now >= self._until:
            self.end()
            self._next = now + _VISITOR_EVERY_S

    def end(self) -> None:
        if (visitor := self._here) is None:
            return
        self._here = None
        if self.done["visitors"] % 2:
            visitor.leave()
        else:
            visitor.kill()
            self.done["killed"] += 1
        self.done["launches"] += visitor.done()["launches"]
        visitor.forget()

    def drop(self) -> None:
        """Ends the one that is here, whatever it does."""
        if self._here is not None:
            self._here.end()


@dataclass
class Samples:
    """What was seen over the run."""

    processes: dict[str, list[Footprint]] = field(default_factory=dict)
    arrays: list[float] = field(default_factory=list)
    buffers: list[float] = field(default_factory=list)
    programs: list[float] = field(default_factory=list)

    def take(self, cluster: Cluster, pids: dict[str, int]) -> None:
        for name, pid in pids.items():
            self.processes.setdefault(name, []).append(footprint(pid))
        status = cluster.status()
        sessions = status["sessions"]
        self.arrays.append(sum(session["arrays"] for session in sessions))
        self.programs.append(sum(session["programs"] for session in sessions))
        workers = [worker for island in status["islands"] for worker in island["workers"]]
        self.buffers.append(sum(device["buffers"] for worker in workers for device in worker["devices"]))

    def trends(self, allow_mb: float, devices: int) -> list[flat.Trend]:
        """`devices`: of all workers, which say how many threads a client may have."""
        trends = []
        for name, prints in self.processes.items():
            threads = flat.trend(f"{name}: threads", [p.threads for p in prints], _ALLOWED_THREADS)
            memory = flat.trend(f"{name}: memory, MB", [p.memory_mb for p in prints], allow_mb)
            if name.startswith("client"):
                most = devices * _THREADS_PER_DEVICE + _THREADS_BESIDE
                threads = replace(threads, allowance=max(_ALLOWED_THREADS, most - threads.first))
                memory = replace(memory, allowance=allow_mb + max(0.0, threads.growth) * _MB_PER_THREAD)
            files = flat.trend(f"{name}: files", [p.files for p in prints], _ALLOWED_FILES)
            trends += [memory, files, threads]
        return trends

    def line(self) -> str:
        """The latest samples, for people."""
        memory = ", ".join(f"{name} {prints[-1].memory_mb:.0f}" for name, prints in self.processes.items())
        last = [prints[-1] for prints in self.processes.values()]
        return (
            f"MB: {memory}; files {sum(p.files for p in last)}, threads {sum(p.threads for p in last)}, "
            f"arrays {self.arrays[-1]}, buffers {self.buffers[-1]}, programs {self.programs[-1]}"
        )


def is_empty(cluster: Cluster) -> bool:
    """Whether nothing of any client is left."""
    status = cluster.status()
    workers = [worker for island in status["islands"] for worker in island["workers"]]
    return not status["sessions"] and not any(
        worker["queued_launches"] or device["buffers"] or device["bytes"]
        for worker in workers
        for device in worker["devices"]
    )


def left_open(cluster: Cluster, before: dict[str, Footprint]) -> dict[str, int]:
    """How many more files than before processes have open, where that is more than is allowed."""
    more = {name: footprint(pid).files - before[name].files for name, pid in pids_of(cluster).items()}
    return {name: files for name, files in more.items() if files > _ALLOWED_FILES}


def mixed(cluster: Cluster, options: argparse.Namespace) -> tuple[Samples, Counter[str], bool]:
    """Runs clients and visitors for the minutes asked for.

    Returns what was sampled, what was done, and whether nothing is left when all are gone.
    """
    samples = Samples()
    pids = pids_of(cluster)
    before = {name: footprint(pid) for name, pid in pids.items()}
    with ExitStack() as here:
        clients = [
            here.enter_context(Client(f"client-{number}", cluster, options.seed + 1000 * number))
            for number in range(1, options.clients + 1)
        ]
        visitors = Visitors(cluster, options.seed)
        here.callback(visitors.drop)
        eventually(lambda: all(client.check() or client.done() for client in clients), "clients begin", _START_LIMIT_S)
        pids = {**{client.name: client.pid for client in clients}, **pids}
        began = said = sampled = time.monotonic()
        interval = min(_SAMPLE_S, options.minutes * 60 / _MIN_SAMPLES)
        while (now := time.monotonic()) - began < options.minutes * 60 or len(samples.arrays) < _MIN_SAMPLES:
            for client in clients:
                client.check()
            if options.visitors:
                visitors.step(now)
            samples.take(cluster, pids)
            if now - said >= _SAY_S:
                said = now
                launches = sum((client.done() for client in clients), visitors.done)["launches"]
                seconds = f"{now - began:5.0f} of {options.minutes * 60:.0f} s"
                print(f"{seconds}: {launches:,} launches; {samples.line()}", flush=True)
            sampled += interval
            time.sleep(max(0.0, sampled - time.monotonic()))
        visitors.end()
        for client in clients:
            client.leave()
        done = sum((client.done() for client in clients), visitors.done)
    return samples, done, all_freed(cluster, before)


def all_freed(cluster: Cluster, before: dict[str, Footprint]) -> bool:
    """Waits until nothing of any client is left; says what is if that does not happen."""
    try:
        eventually(lambda: is_empty(cluster), "nothing of the clients is left", _LEAVE_LIMIT_S)
        eventually(lambda: not left_open(cluster, before), "files are closed", _LEAVE_LIMIT_S)
    except AssertionError as error:
        print(f"soak: {error}: {left_open(cluster, before)}, {json.dumps(cluster.status())}", file=sys.stderr)
        return False
    return True


def say(trends: Sequence[flat.Trend]) -> None:
    print(f"\n{'':28} {'warmed up':>10} {'at the end':>10} {'growth':>8} {'allowed':>8}")
    for trend in trends:
        verdict = "" if trend.flat else "   GREW"
        levels = f"{trend.first:10.1f} {trend.last:10.1f} {trend.growth:+8.1f} {trend.allowance:8.0f}"
        print(f"{trend.what:28} {levels}{verdict}")


def soak(options: argparse.Namespace) -> dict:
    """Runs everything and returns what stands after RESULT."""
    with (
        short_folder() as folder,
        Cluster.up(folder, hosts=options.workers, devices=options.devices) as cluster,
    ):
        grown = growth.measure(cluster, options.dispatches, lambda text: print(text, flush=True))
        eventually(lambda: is_empty(cluster), "the dispatcher is gone", _LEAVE_LIMIT_S)
        samples, done, freed = mixed(cluster, options)
    trends = samples.trends(options.allow_mb, options.workers * options.devices)
    say(trends)

    def largest(prefix: str, suffix: str) -> float:
        return round(max(t.growth for t in trends if t.what.startswith(prefix) and t.what.endswith(suffix)), 1)

    def dispatching(prefix: str) -> float:
        return round(max(g.total_mb for g in grown if g.process.startswith(prefix)), 1)

    return {
        "minutes": options.minutes,
        "dispatches": options.dispatches,
        "dispatches_client_growth_mb": dispatching("client"),
        "dispatches_controller_growth_mb": dispatching("controller"),
        "dispatches_worker_growth_mb": dispatching("worker"),
        "dispatches_flat": all(g.is_flat(options.allow_mb) for g in grown),
        "launches": done["launches"],
        "errors": done["errors"],
        "programs": done["programs"],
        "visitors": done["visitors"],
        "killed": done["killed"],
        "client_growth_mb": largest("client", "MB"),
        "controller_growth_mb": largest("controller", "MB"),
        "worker_growth_mb": largest("worker", "MB"),
        "files_growth": largest("", "files"),
        "threads_growth": largest("", "threads"),
        "freed": freed,
        "flat": all(trend.flat for trend in trends),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, prog="tests/soak/run.py"
    )
    parser.add_argument("--minutes", type=float, default=3.0, help="of mixed work (default 3)")
    parser.add_argument("--dispatches", type=int, default=200_000, help="before that, from one client")
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--no-visitors", dest="visitors", action="store_false", help="nobody comes and goes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--devices", type=int, default=2, help="of each worker")
    parser.add_argument("--seed", type=int, default=1, help="of what clients do, and in which order")
    parser.add_argument("--allow-mb", type=float, default=20.0, help="what a process may grow by (default 20)")
    options = parser.parse_args(arguments)
    if min(options.clients, options.workers, options.devices) < 1 or options.minutes <= 0 or options.dispatches < 4:
        parser.error("there must be a client, a worker, a device, some time, and 4 dispatches")
    # So that everything is ended as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        result = soak(options)
    except KeyboardInterrupt:
        print("soak: interrupted", file=sys.stderr)
        return 130
    except (SoakError, AssertionError, OSError, ValueError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    print(f"RESULT {json.dumps(result)}", flush=True)
    return 0 if result["flat"] and result["freed"] and result["dispatches_flat"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
