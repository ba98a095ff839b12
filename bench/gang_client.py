"""One client of the benchmarks of tenants and pipelines, told on stdin what to do: stock JAX on a cluster with the
timed runtime, where a program named `..._for_300us` takes a device so long and no core.

    {"do": "prepare_steps", "us": 300}
    {"do": "steps", "us": 300, "ahead": 32}      answers {} once it has begun, and {"launches": n} after the next line

One JSON object a line, either way; the operations are the public methods of Operations. The first line out says how
many devices there are. Nothing here knows of Causeway.
"""

import collections
import json
import select
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

_WARM_UP = 3
_WIDTH = 256  # of a stage's weights; a row of an activation is 1 KiB


class Operations:
    def __init__(self):
        self._devices = jax.devices()
        self._steps: dict[int, tuple[Any, jax.Array]] = {}
        self._stages: dict[int, Any] = {}

    # ---------------------------------------------------------------- a tenant's steps

    def prepare_steps(self, us: int):
        """Compiles a program of so many microseconds over all devices, and launches it."""
        mesh = jax.make_mesh((len(self._devices),), ("all",), axis_types=(AxisType.Auto,))
        x = jax.device_put(np.zeros((len(self._devices), 128), np.float32), NamedSharding(mesh, P("all")))
        step = _program("step", us, lambda x: x + 1)
        for _ in range(_WARM_UP):
            x = step(x)
        self._steps[us] = step, x.block_until_ready()
        return {}

    def steps(self, us: int, ahead: int):
        """Launches that program until the next line comes, each on the result of the one before; at most so many
        under way: 1 waits for each. Says so when it has begun."""
        step, x = self._steps[us]
        launches = 0

        def launch() -> jax.Array:
            nonlocal x, launches
            x = step(x)
            launches += 1
            return x

        _say({})
        _until_told(launch, ahead)
        return {"launches": launches}

    # ---------------------------------------------------------------- pipelines

    def prepare_pipeline(self, stages: int, us: int, kib: int):
        """Compiles a stage of so many microseconds for each of the first devices, with weights of its own and
        activations of so many KiB, and sends one micro-batch through all."""
        self._places = [SingleDeviceSharding(device) for device in self._devices[:stages]]
        weights = np.zeros((_WIDTH, _WIDTH), np.float32)
        self._weights = [jax.device_put(weights, place) for place in self._places]
        self._stages[us] = _program("stage", us, lambda weights, x: jnp.tanh(x @ weights))
        self._input = jax.device_put(np.zeros((kib, _WIDTH), np.float32), self._places[0])
        jax.block_until_ready((self._weights, self._input))
        for _ in range(_WARM_UP):
            self._micro_batch(us).block_until_ready()
        return {}

    def pipeline(self, us: int, micro_batches: int):
        """Sends so many through all stages and waits only then. Seconds up to the last one's result, and those that
        the loop took before it waited."""
        began = time.perf_counter()
        results = [self._micro_batch(us) for _ in range(micro_batches)]
        dispatched = time.perf_counter()
        jax.block_until_ready(results)
        return {"seconds": time.perf_counter() - began, "dispatch_seconds": dispatched - began}

    def stream(self, us: int, ahead: int):
        """Sends micro-batches through until the next line comes, at most so many under way. Says so when it has
        begun."""
        _say({})
        _until_told(lambda: self._micro_batch(us), ahead)
        return {}

    def _micro_batch(self, us: int) -> jax.Array:
        """Sends one through all stages, without waiting."""
        stage = self._stages[us]
        x = self._input
        for number, (place, weights) in enumerate(zip(self._places, self._weights, strict=True)):
            if number:
                x = jax.device_put(x, place)
            x = stage(weights, x)
        return x


def _program(what: str, us: int, function: Callable[..., jax.Array]) -> Any:
    """The function, jitted under the name that says how long it takes."""
    function.__name__ = function.__qualname__ = f"{what}_for_{us}us"
    return jax.jit(function)


def _until_told(launch: Callable[[], jax.Array], ahead: int):
    """Launches until a line comes, at most `ahead` under way; and waits for the last."""
    waiting: collections.deque[jax.Array] = collections.deque()
    while not select.select([sys.stdin], [], [], 0)[0]:
        waiting.append(launch())
        if len(waiting) == ahead:
            waiting.popleft().block_until_ready()
    sys.stdin.readline()
    jax.block_until_ready(list(waiting))


def _say(answer: dict[str, Any]):
    print(json.dumps(answer), flush=True)


def main():
    operations = Operations()
    _say({"devices": len(jax.devices())})
    while line := sys.stdin.readline():
        request = json.loads(line)
        _say(getattr(operations, request.pop("do"))(**request))


if __name__ == "__main__":
    main()
