"""One client of the benchmark: stock JAX, told on stdin what to time. The environment says whose devices it uses.

    {"do": "latency", "count": 500}      answers {"seconds": [s, ...]}
    {"do": "burst", "count": 5000}       answers {"seconds": s}

One JSON object a line, either way; the operations are the public methods of Operations. The first line out names the
server and says that all is warm. What is fetched or copied is made anew each time, because JAX keeps what it fetched.
"""

import ctypes
import json
import select
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.extend.backend
import numpy as np

WARM_UP_LAUNCHES = 200
_SMALL_SHARDS = 8
_BULK_BYTES = 64 << 20


class Operations:
    def __init__(self):
        self._devices = jax.devices()
        self._launch = jax.jit(lambda x: x + 1)
        # From the host: a server that computes nothing must not be asked to make it.
        self._x = jax.device_put(np.float32(0), self._devices[0])
        for _ in range(WARM_UP_LAUNCHES):
            self._x = self._launch(self._x)
        self._x.block_until_ready()

    # ---------------------------------------------------------------- launches and small fetches

    def latency(self, count: int):
        """No-op launches, each waited for. Each takes the result of the one before, as a training loop's steps do."""

        def step():
            self._x = self._launch(self._x)
            self._x.block_until_ready()

        return {"seconds": [_timed(step) for _ in range(count)]}

    def burst(self, count: int):
        """The same without waiting, up to the last one's completion."""

        def steps():
            for _ in range(count):
                self._x = self._launch(self._x)
            self._x.block_until_ready()

        return {"seconds": _timed(steps)}

    def fetch(self, count: int):
        """Fetches of scalars that are ready."""
        scalars = []
        for _ in range(count):
            self._x = self._launch(self._x)
            scalars.append(self._x)
        self._x.block_until_ready()
        return {"seconds": [_timed(lambda scalar=scalar: float(scalar)) for scalar in scalars]}

    def launch_fetch(self, count: int):
        """A launch and the fetch of its result, as a loop does that looks at every loss."""

        def step():
            self._x = self._launch(self._x)
            float(self._x)

        return {"seconds": [_timed(step) for _ in range(count)]}

    # ---------------------------------------------------------------- bytes

    def transfer(self, megabytes: int, count: int, copy: bool):
        """Puts an array on a device and fetches it. `copy`: insist on it, where JAX would only share the memory."""
        host = _host_array(megabytes << 20)
        up, down = [], []
        for turn in range(count):
            host[turn] = turn + 1  # not what was sent before
            began = time.perf_counter()
            array = self._put(host, copy)
            up.append(time.perf_counter() - began)
            began = time.perf_counter()
            back = np.array(array) if copy else np.asarray(array)
            down.append(time.perf_counter() - began)
            if back[turn] != turn + 1 or back[-1] != host[-1]:
                raise RuntimeError("what came back is not what was sent")
            del array, back
        return {"up": up, "down": down}

    def memcpy(self, megabytes: int, count: int):
        """What copying as much within this process takes: one thread, into memory that was used before."""
        size = megabytes << 20
        source, target = _host_array(size), _host_array(size)
        return {
            "seconds": [
                _timed(lambda: ctypes.memmove(target.ctypes.data, source.ctypes.data, size)) for _ in range(count)
            ]
        }

    def small_buffers(self, arguments: int):
        """Puts so many small arrays, each in eight shards: a host buffer a shard."""
        mesh = jax.sharding.Mesh(np.array(self._devices[:_SMALL_SHARDS]), ("x",))
        sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))
        hosts = [np.full((_SMALL_SHARDS, 16), i, np.float32) for i in range(arguments)]
        seconds = _timed(lambda: jax.block_until_ready(jax.device_put(hosts, sharding)))
        return {"buffers": arguments * _SMALL_SHARDS, "seconds": seconds}

    def copies(self, kilobytes: int, count: int, ahead: int):
        """Copies from the first device to the last: `count` that are waited for, then `ahead` that are not."""
        array = self._put(_host_array(kilobytes << 10), copy=False)

        def copy():
            return jax.device_put(array, self._devices[-1])

        copy().block_until_ready()
        return {
            "seconds": [_timed(lambda: copy().block_until_ready()) for _ in range(count)],
            "ahead_seconds": _timed(lambda: jax.block_until_ready([copy() for _ in range(ahead)])),
        }

    def bulk(self, copy: bool):
        """Puts and fetches large arrays until the next line comes. Says so when that has begun."""
        host = _host_array(_BULK_BYTES)

        def move():
            array = self._put(host, copy)
            return np.array(array) if copy else np.asarray(array)

        move()
        _say({})
        moves = 0
        began = time.perf_counter()
        while not select.select([sys.stdin], [], [], 0)[0]:
            move()
            moves += 1
        sys.stdin.readline()
        return {"bytes": 2 * moves * _BULK_BYTES, "seconds": time.perf_counter() - began}

    def _put(self, host: np.ndarray, copy: bool) -> jax.Array:
        return jax.device_put(host, self._devices[0], may_alias=False if copy else None).block_until_ready()


def _timed(what: Callable[[], Any]) -> float:
    began = time.perf_counter()
    what()
    return time.perf_counter() - began


def _host_array(size: int) -> np.ndarray:
    """Bytes in memory that is there: every page has been written."""
    return np.full(size, 7, np.uint8)


def _say(answer: dict[str, Any]):
    print(json.dumps(answer), flush=True)


def main():
    operations = Operations()
    _say({"server": jax.extend.backend.get_backend().platform_version})
    while line := sys.stdin.readline():
        request = json.loads(line)
        _say(getattr(operations, request.pop("do"))(**request))


if __name__ == "__main__":
    main()
