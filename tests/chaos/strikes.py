"""The blows: what is done to which process, and how it shows from outside."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from harness import Client

from chaos.cluster import GRACE_S, ChaosCluster, Failed, all_alive, workers_by_name
from chaos.model import Loss
from chaos.schedule import Blow


@dataclass
class Strike:
    """What a blow did, as seen from outside."""

    at: float  # just before what could be noticed
    loss: Loss = field(default_factory=Loss)
    sessions_lost: set[int] = field(default_factory=set)  # clients whose session must end
    dead: int | None = None  # the client that is no more
    detect_s: float = 0.0  # where the cluster's status shows it
    whole: float = 0.0  # the status shows all that there was


class Striker:
    """Lets a blow fall and waits until the cluster's status shows that all is there again."""

    def __init__(self, cluster: ChaosCluster, clients: list[Client]) -> None:
        self._cluster = cluster
        self._clients = clients
        status = cluster.status()
        if status is None:
            raise Failed("the controller does not answer before the blow")
        self._lives = {name: worker["incarnation"] for name, worker in workers_by_name(status).items()}

    def strike(self, blow: Blow) -> Strike:
        names = {
            "kill worker": self._kill_worker,
            "terminate worker": self._terminate_worker,
            "kill worker twice": self._kill_worker_twice,
            "kill all workers": self._kill_all_workers,
            "kill worker and client": self._kill_worker_and_client,
            "stop worker briefly": self._stop_worker_briefly,
            "stop worker for long": self._stop_worker_for_long,
            "stop and kill worker": self._stop_and_kill_worker,
            "kill controller": self._kill_controller,
            "terminate controller": self._terminate_controller,
            "kill controller and worker": self._kill_controller_and_worker,
            "stop controller briefly": self._stop_controller_briefly,
            "stop controller for long": self._stop_controller_for_long,
            "kill client": self._kill_client,
            "terminate client": self._terminate_client,
            "stop client briefly": self._stop_client_briefly,
            "stop client for long": self._stop_client_for_long,
            "stop and kill client": self._stop_and_kill_client,
        }
        strike = names[blow.kind.name](blow)
        strike.whole = time.monotonic()
        return strike

    # --- workers

    def _is_lost(self, status: dict[str, Any], numbers: list[int]) -> bool:
        workers = workers_by_name(status)
        return all(
            not workers[f"w{n}"]["alive"] or workers[f"w{n}"]["incarnation"] > self._lives[f"w{n}"] for n in numbers
        )

    def _is_back(self, status: dict[str, Any], numbers: list[int]) -> bool:
        workers = workers_by_name(status)
        return all(
            workers[f"w{n}"]["alive"] and workers[f"w{n}"]["incarnation"] > self._lives[f"w{n}"] for n in numbers
        )

    def _await_loss(self, numbers: list[int], at: float, limit_s: float) -> Strike:
        self._cluster.wait_for(f"w{numbers} shows as lost", limit_s, lambda status: self._is_lost(status, numbers))
        noticed = time.monotonic()
        return Strike(at, Loss(frozenset(numbers), at, noticed), detect_s=noticed - at)

    def _await_return(self, strike: Strike, numbers: list[int]) -> Strike:
        self._cluster.wait_for(f"w{numbers} is back", 2 * GRACE_S, lambda status: self._is_back(status, numbers))
        loss = strike.loss
        strike.loss = Loss(loss.workers, loss.at, loss.noticed, time.monotonic(), loss.error)
        return strike

    def _end_and_restart(self, numbers: list[int], end: Callable[[int], None], restart_s: float) -> Strike:
        at = time.monotonic()
        for number in numbers:
            end(number)
        strike = self._await_loss(numbers, at, GRACE_S)
        time.sleep(restart_s)
        for number in numbers:
            self._cluster.workers[number].start()
        return self._await_return(strike, numbers)

    def _kill_worker(self, blow: Blow) -> Strike:
        return self._end_and_restart([blow.worker], lambda n: self._cluster.workers[n].kill(), blow.restart_s)

    def _terminate_worker(self, blow: Blow) -> Strike:
        end = lambda n: self._cluster.workers[n].terminate(GRACE_S)  # noqa: E731
        return self._end_and_restart([blow.worker], end, blow.restart_s)

    def _kill_all_workers(self, blow: Blow) -> Strike:
        numbers = list(range(len(self._cluster.workers)))
        return self._end_and_restart(numbers, lambda n: self._cluster.workers[n].kill(), blow.restart_s)

    def _kill_worker_twice(self, blow: Blow) -> Strike:
        first = self._kill_worker(blow)
        self._lives[f"w{blow.worker}"] += 1
        second = self._kill_worker(blow)
        return Strike(
            first.at,
            Loss(first.loss.workers, first.at, first.loss.noticed, second.loss.back),
            detect_s=max(first.detect_s, second.detect_s),
        )

    def _kill_worker_and_client(self, blow: Blow) -> Strike:
        self._clients[blow.client].kill()
        strike = self._kill_worker(blow)
        strike.dead = blow.client
        return strike

    def _stop_worker_briefly(self, blow: Blow) -> Strike:
        return self._stop_briefly(
            self._cluster.workers[blow.worker].stop, self._cluster.workers[blow.worker].go_on, blow
        )

    @staticmethod
    def _stop_briefly(stop: Callable[[], None], go_on: Callable[[], None], blow: Blow) -> Strike:
        at = time.monotonic()
        stop()
        time.sleep(blow.hold_s)
        go_on()
        return Strike(at)

    def _stop_worker_for_long(self, blow: Blow) -> Strike:
        worker = self._cluster.workers[blow.worker]
        at = time.monotonic()
        worker.stop()
        strike = self._await_loss([blow.worker], at, self._cluster.limits.heartbeat_timeout_s + GRACE_S)
        time.sleep(max(0.0, at + blow.hold_s - time.monotonic()))
        worker.go_on()
        return self._await_return(strike, [blow.worker])

    def _stop_and_kill_worker(self, blow: Blow) -> Strike:
        self._cluster.workers[blow.worker].stop()
        time.sleep(blow.hold_s)
        return self._kill_worker(blow)

    # --- the controller

    def _restart_controller(self, at: float, blow: Blow) -> Strike:
        time.sleep(blow.restart_s)
        self._cluster.controller.start()
        self._cluster.wait_for("all workers are back", 2 * GRACE_S, all_alive)
        return Strike(at, sessions_lost=set(range(len(self._clients))))

    def _kill_controller(self, blow: Blow) -> Strike:
        at = time.monotonic()
        self._cluster.controller.kill()
        return self._restart_controller(at, blow)

    def _terminate_controller(self, blow: Blow) -> Strike:
        at = time.monotonic()
        self._cluster.controller.terminate(GRACE_S)
        return self._restart_controller(at, blow)

    def _kill_controller_and_worker(self, blow: Blow) -> Strike:
        at = time.monotonic()
        self._cluster.controller.kill()
        self._cluster.workers[blow.worker].kill()
        self._cluster.workers[blow.worker].start()
        return self._restart_controller(at, blow)

    def _stop_controller_briefly(self, blow: Blow) -> Strike:
        return self._stop_briefly(self._cluster.controller.stop, self._cluster.controller.go_on, blow)

    def _stop_controller_for_long(self, blow: Blow) -> Strike:
        numbers = list(range(len(self._cluster.workers)))
        at = time.monotonic()
        self._cluster.controller.stop()
        time.sleep(blow.hold_s)
        self._cluster.controller.go_on()
        return self._await_return(self._await_loss(numbers, at, GRACE_S), numbers)

    # --- clients

    def _client_ends(self, blow: Blow, end: Callable[[], None]) -> Strike:
        victim = self._clients[blow.client]
        at = time.monotonic()
        end()
        self._await_session_end(victim, GRACE_S)
        return Strike(at, dead=blow.client, detect_s=time.monotonic() - at)

    def _await_session_end(self, victim: Client, limit_s: float) -> None:
        self._cluster.wait_for(
            f"the session of {victim.name} is gone",
            limit_s,
            lambda status: all(session["name"] != victim.name for session in status["sessions"]),
        )

    def _kill_client(self, blow: Blow) -> Strike:
        return self._client_ends(blow, self._clients[blow.client].kill)

    def _terminate_client(self, blow: Blow) -> Strike:
        return self._client_ends(blow, self._clients[blow.client].popen.terminate)

    def _stop_client(self, blow: Blow) -> None:
        self._clients[blow.client].popen.send_signal(signal.SIGSTOP)

    def _continue_client(self, blow: Blow) -> None:
        self._clients[blow.client].popen.send_signal(signal.SIGCONT)

    def _stop_client_briefly(self, blow: Blow) -> Strike:
        return self._stop_briefly(lambda: self._stop_client(blow), lambda: self._continue_client(blow), blow)

    def _stop_and_kill_client(self, blow: Blow) -> Strike:
        self._stop_client(blow)
        time.sleep(blow.hold_s)
        return self._kill_client(blow)

    def _stop_client_for_long(self, blow: Blow) -> Strike:
        at = time.monotonic()
        self._stop_client(blow)
        self._await_session_end(self._clients[blow.client], self._cluster.limits.client_timeout_s + GRACE_S)
        detect_s = time.monotonic() - at
        time.sleep(max(0.0, at + blow.hold_s - time.monotonic()))
        self._continue_client(blow)
        return Strike(at, sessions_lost={blow.client}, detect_s=detect_s)
