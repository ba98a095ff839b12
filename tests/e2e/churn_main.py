"""Clients that come and go: stock JAX in processes forked from this one, which has imported JAX and nothing more, so
that a client costs its connection and not an interpreter.

    python churn_main.py SLOTS CLIENTS SECONDS SEED

Keeps SLOTS clients running, of which each does a piece of random work and ends; one in three is killed in the middle.
Starts new ones until SECONDS have passed, and CLIENTS have been started. The last line is a JSON object: how many
ended well, and how many were killed. A client that fails, or is stuck, ends it with status 1.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

_WEIGHTS = ("0.5", "1", "2", "8")
_STUCK_S = 90  # a client's whole life takes seconds; more on a machine that is busy with other tests
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Life:
    """A client that runs: what it is, until when it may, and when it is killed, if it is."""

    number: int
    deadline: float
    killed_at: float


def gang(devices: list[jax.Device]) -> NamedSharding:
    return NamedSharding(Mesh(np.array(devices), ("x",)), P("x"))


def live(choose: random.Random):
    """One client's work. Wrong results and errors are exceptions."""
    devices = jax.devices()
    total = jax.jit(lambda x: jnp.broadcast_to(x.sum(), x.shape))
    step = jax.jit(lambda x: x * 2 + 1, donate_argnums=0)
    kept = []
    for turn in range(choose.randrange(3, 9)):
        some = choose.sample(devices, choose.choice((1, 2, len(devices))))
        x = jax.device_put(np.full(4 * len(some), turn, np.float32), gang(some))
        for _ in range(choose.randrange(1, 40)):
            x = total(x) / x.size
        y = jax.device_put(np.zeros(choose.choice((10, 100_000)), np.float32), choose.choice(devices))
        for _ in range(10):
            y = step(y)
            y = jax.device_put(y, choose.choice(devices))
        kept.append(y)
        if choose.random() < 0.7:
            np.testing.assert_array_equal(np.asarray(x), np.full(x.size, turn, np.float32))
            assert float(y[-1]) == 1023, float(y[-1])


def be_a_client(number: int, seed: int):
    """The forked process. Does not return."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    choose = random.Random(f"{seed} {number}")
    os.environ["CAUSEWAY_SESSION_NAME"] = f"client{number}"
    os.environ["CAUSEWAY_SESSION_WEIGHT"] = choose.choice(_WEIGHTS)
    status = 1
    try:
        live(choose)
        status = 0
    except BaseException:
        print(f"client {number} has failed:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
    # Every other client leaves without a word, which for the controller is the same as being killed.
    if status or number % 2:
        os._exit(status)
    sys.exit(0)


class Churn:
    def __init__(self, seed: int):
        self._seed = seed
        self._choose = random.Random(seed)
        self._lives: dict[int, Life] = {}
        self.started = self.ended = self.killed = 0

    def run(self, slots: int, clients: int, seconds: float):
        until = time.monotonic() + seconds
        while True:
            wanted = slots if time.monotonic() < until or self.started < clients else 0
            while len(self._lives) < wanted:
                self._start()
            if not self._lives:
                return
            self._look()
            time.sleep(0.01)

    def _start(self):
        number = self.started
        self.started += 1
        pid = os.fork()
        if not pid:
            be_a_client(number, self._seed)
        now = time.monotonic()
        killed_at = now + self._choose.uniform(0.2, 4) if number % 3 == 2 else float("inf")
        self._lives[pid] = Life(number, now + _STUCK_S, killed_at)

    def _look(self):
        """Kills whose turn it is, and sees who has ended and who is stuck."""
        now = time.monotonic()
        for pid, life in list(self._lives.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended and now > life.killed_at:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                ended = pid
            if ended:
                del self._lives[pid]
                code = os.waitstatus_to_exitcode(status)
                if code == -signal.SIGKILL and life.number % 3 == 2:
                    self.killed += 1
                elif code:
                    raise SystemExit(f"client {life.number} has ended with status {code}")
                else:
                    self.ended += 1
            elif now > life.deadline:
                raise SystemExit(f"client {life.number} is stuck")


def main():
    slots, clients, seconds, seed = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    churn = Churn(seed)
    churn.run(slots, clients, seconds)
    print(json.dumps({"ended": churn.ended, "killed": churn.killed}), flush=True)


if __name__ == "__main__":
    main()
