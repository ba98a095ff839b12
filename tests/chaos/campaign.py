"""Plays a schedule against a cluster, and checks after each blow what the README promises.

    report = Campaign(schedule, workers=3, clients=3, limits=Limits(), folder=folder, say=print).run(seconds=180)

A round: every client makes arrays and waits for them; then it does all that a program does while the blow falls; when
the cluster is whole again each looks at what it has, and the book (model.py) says what that must be. Then every client
has to be able to use every device, and when all have let go of their arrays nothing may be left anywhere.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import Client, RemoteError, workers_of
from soak.processes import Footprint, footprint

from chaos.cluster import GRACE_S, ChaosCluster, Failed, Hung, all_alive, held_by
from chaos.model import KEEPSAKE_BYTES, Loss, Verdict, judge
from chaos.schedule import Blow, Limits, Schedule
from chaos.strikes import Strike, Striker

_PER_WORKER = 2
# gRPC and Asio keep a few of both beyond what is in use.
_SLACK = 12


def on_client(name: str, *arguments: Any, kept: dict[str, Any]) -> Any:
    """Runs a function of load.py in a client, which imports that once."""
    import chaos.load

    return getattr(chaos.load, name)(*arguments, kept)


@dataclass
class Round:
    """What came of one blow."""

    blow: Blow
    began_s: float
    detect_s: float = 0.0
    recover_s: float = 0.0
    right: int = 0
    lost: int = 0
    open: int = 0


@dataclass
class Report:
    seed: int
    rounds: list[Round] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    leaks: int = 0
    seconds: float = 0.0


class Campaign:
    """One run."""

    def __init__(
        self,
        schedule: Schedule,
        workers: int,
        clients: int,
        limits: Limits,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        self._schedule = schedule
        self._limits = limits
        self._folder = folder
        self._say = say
        self._cluster = ChaosCluster(folder, workers, _PER_WORKER, limits)
        self._client_count = clients
        self._clients: list[Client] = []
        self._watcher: Client | None = None
        self._started = 0
        self._report = Report(schedule.seed)
        self._levels: dict[str, Footprint] = {}
        self._all_workers = frozenset(range(workers))

    def run(self, seconds: float, rounds: int = 1_000_000) -> Report:
        """Plays rounds until the time is over, so many were played, or one has failed."""
        began = time.monotonic()
        try:
            with self._cluster:
                try:
                    self._begin()
                    for number in range(rounds):
                        if time.monotonic() - began > seconds:
                            break
                        self._play(number, began)
                    self._finish()
                except BaseException:
                    self._show_stacks()
                    raise
                finally:
                    for client in self._everybody():
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            client.kill()
        except Failed as failure:
            self._report.failures.append(str(failure))
        except (AssertionError, RemoteError, OSError) as failure:
            self._report.failures.append(f"{type(failure).__name__}: {failure}")
        self._report.seconds = time.monotonic() - began
        return self._report

    # ---------------------------------------------------------------- clients

    def _new_client(self) -> Client:
        self._started += 1
        return self._cluster.client(f"client{self._started}")

    def _call(self, clients: list[Client], name: str, *arguments: Any, limit_s: float) -> list[Any]:
        """Runs a function of load.py in some clients at once."""
        for client in clients:
            client.start(on_client, name, *arguments)
        return [client.result(limit_s) for client in clients]

    def _everybody(self) -> list[Client]:
        return [*self._clients, *([self._watcher] if self._watcher else [])]

    def _show_stacks(self) -> None:
        """Lets every client write to its log where it is."""
        for client in self._everybody():
            if client.popen.poll() is None:
                client.popen.send_signal(signal.SIGCONT)
                client.popen.send_signal(signal.SIGUSR1)
        time.sleep(1)

    # ---------------------------------------------------------------- begin and end

    def _begin(self) -> None:
        self._cluster.wait_for("all workers join", 60, all_alive)
        empty = self._cluster.status()
        assert empty is not None
        self._clients = [self._new_client() for _ in range(self._client_count)]
        self._watcher = self._cluster.client("watcher")
        self._use(self._everybody())
        self._expect_freed()
        for part in (self._cluster.controller, *self._cluster.workers):
            self._levels[part.name] = footprint(part.pid)

    def _finish(self) -> None:
        """All clients leave: nothing may be left of them."""
        for client in self._everybody():
            client.popen.terminate()
            client.popen.wait(10)
        self._clients = []
        self._watcher = None
        self._cluster.wait_for("all sessions are gone", GRACE_S, lambda status: not status["sessions"])
        self._expect_freed()

    # ---------------------------------------------------------------- one round

    def _play(self, number: int, began: float) -> None:
        blow = self._schedule.round(number)
        this = Round(blow, time.monotonic() - began)
        title = f"{this.began_s:6.1f} s  {number + 1:3d}  {blow.kind.name} {blow.whom()}"
        try:
            verdicts = self._fight(number, blow, this)
            complaints = [line for verdict in verdicts for line in verdict.complaints]
            if complaints:
                more = f"\n  and {len(complaints) - 8} more" if len(complaints) > 8 else ""
                raise Failed("\n  ".join(["arrays are not what they must be:", *complaints[:8]]) + more)
            this.right = sum(verdict.right for verdict in verdicts)
            this.lost = sum(verdict.lost for verdict in verdicts)
            this.open = sum(verdict.open for verdict in verdicts)
            self._use(self._everybody())
            self._expect_freed()
        except BaseException as failure:
            self._say(f"{title}: FAILED")
            if isinstance(failure, Exception):
                raise Failed(f"round {number + 1}, {blow.kind.name} {blow.whom()}: {failure}") from failure
            raise
        self._report.rounds.append(this)
        self._say(
            f"{title}: noticed {this.detect_s:.2f} s, whole again {this.recover_s:.2f} s; "
            f"{this.right + this.lost} arrays, {this.lost} lost"
        )

    def _fight(self, number: int, blow: Blow, this: Round) -> list[Verdict]:
        limits = self._limits
        limit_s = blow.hold_s + limits.heartbeat_timeout_s + blow.restart_s + 2 * GRACE_S
        self._call(self._everybody(), "settle", _PER_WORKER, number * 1_000_000, limit_s=GRACE_S)
        stop = self._folder / f"stop-{number}"
        self._watcher.start(on_client, "watch", str(stop), limit_s)
        for place, client in enumerate(self._clients):
            client.start(on_client, "fly", blow.load_seed + place, str(stop), limit_s)
        time.sleep(blow.delay_s)
        strike = Striker(self._cluster, self._clients).strike(blow)
        time.sleep(0.2)  # some load on what came back
        stop.touch()

        watched = self._watcher.result(limit_s)
        if "hung" in watched:
            raise Hung(f"devices do not work {limit_s:g} s after the load began: {watched['hung']}")
        self._note_times(blow, strike, watched, this)
        verdicts = []
        for place, client in enumerate(self._clients):
            if place == strike.dead:
                continue
            flown = client.result(limit_s)
            allowed_s = blow.hold_s + limits.heartbeat_timeout_s + GRACE_S
            if flown["slowest_s"] > allowed_s:
                raise Hung(
                    f"{client.name}: a call took {flown['slowest_s']:.1f} s, at most {allowed_s:.1f} s are allowed"
                )
            loss = strike.loss
            if place in strike.sessions_lost:
                loss = Loss(self._all_workers, strike.at, error="UNAVAILABLE")
                if not flown["session_lost"]:
                    raise Failed(f"{client.name} did not notice that its session is lost")
            elif flown["session_lost"]:
                raise Failed(f"{client.name} has lost its session, and nothing of its was hit")
            verdicts.append(self._judge(client, loss))
            if place in strike.sessions_lost:
                self._connect(client)
        if not watched["reconnects"]:
            verdicts.append(self._judge(self._watcher, strike.loss))
        if strike.dead is not None:
            self._replace(strike.dead, this, strike)
        stop.unlink()
        return verdicts

    def _judge(self, client: Client, loss: Loss) -> Verdict:
        verdict = judge(client.call(on_client, "look", limit_s=GRACE_S), loss)
        verdict.complaints = [f"{client.name}: {line}" for line in verdict.complaints]
        return verdict

    def _note_times(self, blow: Blow, strike: Strike, watched: dict[str, Any], this: Round) -> None:
        """Takes from the watcher when a client noticed something, and when all was well; it must not see too much."""
        this.recover_s = strike.whole - strike.at
        hit = self._all_workers if strike.sessions_lost == self._all_places() else strike.loss.workers
        for moment, device, what in watched["changes"]:
            if what != "ok" and device // _PER_WORKER not in hit:
                raise Failed(f"device {device} was not hit (but {sorted(hit)} were), and yet: {what[:600]}")
            if what == "ok":
                this.recover_s = max(this.recover_s, moment - strike.at)
        errors = [moment for moment, _, what in watched["changes"] if what != "ok"]
        this.detect_s = max(min(errors, default=strike.at) - strike.at, strike.detect_s)
        if watched["reconnects"] and not strike.sessions_lost:
            raise Failed("the watching client has lost its session, and it was not hit")
        allowed_s = blow.hold_s + self._limits.heartbeat_timeout_s + GRACE_S
        if this.detect_s > allowed_s:
            raise Hung(f"it was noticed after {this.detect_s:.1f} s, at most {allowed_s:.1f} s are allowed")

    def _all_places(self) -> set[int]:
        return set(range(len(self._clients)))

    def _connect(self, client: Client) -> None:
        connected = client.call(on_client, "connect", GRACE_S, limit_s=2 * GRACE_S)
        if len(connected["ids"]) != len(self._all_workers) * _PER_WORKER:
            raise Failed(f"{client.name} connected anew and sees devices {connected}")

    def _replace(self, place: int, this: Round, strike: Strike) -> None:
        """Another client comes in the place of one that is no more."""
        self._clients[place] = self._new_client()
        self._use([self._clients[place]])
        this.recover_s = time.monotonic() - strike.at

    def _use(self, clients: list[Client]) -> None:
        for client, wrong in zip(clients, self._call(clients, "use", _PER_WORKER, limit_s=4 * GRACE_S), strict=True):
            if wrong:
                raise Failed(f"{client.name} cannot use the cluster: {wrong}")

    # ---------------------------------------------------------------- what is left

    def _expect_freed(self) -> None:
        """Nobody holds an array but its keepsakes: nothing else may be left anywhere."""
        names = {client.name for client in self._everybody()}

        keepsakes = len(names) * len(self._all_workers)
        expected = {"buffers": keepsakes, "bytes": keepsakes * KEEPSAKE_BYTES}
        # JAX keeps a second name of an array that it has fetched.
        most_arrays = 2 * keepsakes

        def is_free(status: dict[str, Any]) -> bool:
            nonlocal left
            left = {what: count for what, count in held_by(status).items() if count != expected.get(what, 0)}
            if (arrays := sum(session["arrays"] for session in status["sessions"])) > most_arrays:
                left["arrays"] = arrays
            sessions = {session["name"] for session in status["sessions"]}
            if sessions != names:
                left["sessions"] = sorted(sessions)
            programs = sum(session["programs"] for session in status["sessions"])
            for worker in workers_of(status):
                if worker["programs"] > programs:
                    left[f"programs of {worker['name']}"] = worker["programs"]
            return not left

        left: dict[str, Any] = {}
        try:
            self._cluster.wait_for("everything is freed", GRACE_S, is_free)
        except Hung:
            self._report.leaks += 1
            raise Failed(f"not freed after {GRACE_S:g} s: {left}, where {expected} is expected") from None
        self._expect_levels()

    def _expect_levels(self) -> None:
        """Files and threads are where they were before, but for a few."""
        deadline = time.monotonic() + GRACE_S
        for part in (self._cluster.controller, *self._cluster.workers):
            if (before := self._levels.get(part.name)) is None:
                continue
            while True:
                now = footprint(part.pid)
                if now.files <= before.files + _SLACK and now.threads <= before.threads + _SLACK:
                    break
                if time.monotonic() > deadline:
                    self._report.leaks += 1
                    raise Failed(f"{part.name} holds {now}, before it was {before}")
                time.sleep(0.1)
