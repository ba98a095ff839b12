"""One process of the SPMD benchmark, told on stdin what to time. The environment says which side it is of:

    JAX_PLATFORMS=causeway CAUSEWAY_ADDRESS=...              the one client of a cluster
    SPMD_RANK=0 SPMD_RANKS=4 SPMD_COORDINATOR=HOST:PORT      one of the processes of a multi-controller job (Gloo)

Either way one JSON object a line; the operations are the public methods of Operations and the same code on both sides.
In a multi-controller job every process gets every request. The first line out says that all devices are there.
"""

import collections
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

FUSED = 128  # as in measure_spmd.py
_ELEMENTS = 4  # of each device

_LAYERS, _WIDTH, _HEADS, _VOCABULARY, _BATCH, _SEQUENCE = 2, 256, 4, 256, 32, 128


class Operations:
    def __init__(self):
        count = len(jax.devices())
        self._count = count
        self._line = jax.make_mesh((count,), ("all",), axis_types=(AxisType.Auto,))
        self._rows = NamedSharding(self._line, P("all"))
        self._state: tuple[Any, Any] | None = None
        self._step: Callable[..., Any] | None = None

    # ---------------------------------------------------------------- psum

    def psum_ready(self):
        """Compiles the two programs, and sees that they are right."""
        self._psum, self._fused = (self._psums(times) for times in (1, FUSED))
        numbers = np.arange(self._count * _ELEMENTS, dtype=np.float32)
        self._expected = numbers.reshape(self._count, _ELEMENTS).mean(0) + self._own(np.arange(self._count))[:, None]
        self._x = self._put(numbers)
        for program in (self._psum, self._fused):
            self._x = program(self._x)
            self._check()
        return {}

    def psum_ahead(self, count: int, in_flight: int):
        """Launches that nobody waits for, each taking the result of the one before; at most so many under way, 0: any
        number. Up to the last one's completion."""
        began = time.perf_counter()
        waiting: collections.deque[jax.Array] = collections.deque()
        for _ in range(count):
            self._x = self._psum(self._x)
            if in_flight:
                waiting.append(self._x)
                if len(waiting) == in_flight:
                    waiting.popleft().block_until_ready()
        self._x.block_until_ready()
        seconds = time.perf_counter() - began
        self._check()
        return {"seconds": seconds}

    def psum_wait(self, count: int):
        """Launches, each waited for."""
        return self._each(self._psum, count)

    def psum_fused(self, count: int):
        """Programs that have 128 of them one after the other, each program waited for."""
        return self._each(self._fused, count)

    def _own(self, number: Any) -> Any:
        """What each device adds to the mean. Sums of it are 0, so means stay what they are: the results are exact."""
        return number - (self._count - 1) / 2

    def _psums(self, times: int) -> Callable[[jax.Array], jax.Array]:
        def psums(x: jax.Array) -> jax.Array:
            own = self._own(lax.axis_index("all").astype(jnp.float32))
            for _ in range(times):
                x = lax.psum(x, "all") * (1 / self._count) + own
            return x

        return jax.jit(jax.shard_map(psums, mesh=self._line, in_specs=P("all"), out_specs=P("all")))

    def _each(self, program: Callable[[jax.Array], jax.Array], count: int):
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            self._x = program(self._x)
            self._x.block_until_ready()
            seconds.append(time.perf_counter() - began)
        self._check()
        return {"seconds": seconds}

    def _put(self, host: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(host.shape, self._rows, lambda index: host[index])

    def _check(self):
        """Every device's part that this process can see is as it has to be."""
        for shard in self._x.addressable_shards:
            device = (shard.index[0].start or 0) // _ELEMENTS
            if not np.array_equal(np.asarray(shard.data), self._expected[device]):
                raise RuntimeError(f"device {device} has {np.asarray(shard.data)}, not {self._expected[device]}")

    # ---------------------------------------------------------------- large operands

    def allreduce(self, megabytes: int, count: int):
        """All-reduces of so many MiB a device, each waited for."""
        width = (megabytes << 20) // 4

        def fill(row: jax.Array) -> jax.Array:
            return jnp.broadcast_to(row[:, None], (1, width))

        def total(x: jax.Array) -> jax.Array:
            return lax.psum(x[0], "all")

        over_rows = jax.jit(jax.shard_map(fill, mesh=self._line, in_specs=P("all"), out_specs=P("all", None)))
        x = over_rows(self._put(np.arange(self._count, dtype=np.float32)))
        program = jax.jit(jax.shard_map(total, mesh=self._line, in_specs=P("all", None), out_specs=P()))
        program(x).block_until_ready()
        seconds = []
        for _ in range(count):
            began = time.perf_counter()
            y = program(x).block_until_ready()
            seconds.append(time.perf_counter() - began)
            ends = np.asarray(y.addressable_shards[-1].data[:: width - 1])
            if not np.array_equal(ends, np.full(2, self._count * (self._count - 1) / 2)):
                raise RuntimeError(f"the sum is {ends}")
            del y
        return {"seconds": seconds}

    # ---------------------------------------------------------------- a training step

    def compile_step(self):
        """Traces and compiles the training step, with nothing compiled before. The two times."""
        mesh = self._training_mesh()
        shapes = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s) for name, (x, s) in self._params(mesh).items()
        }
        tokens = jax.ShapeDtypeStruct((_BATCH, _SEQUENCE), jnp.int32, sharding=NamedSharding(mesh, P("data")))
        began = time.perf_counter()
        lowered = self._training_step(mesh).lower((shapes, shapes), tokens)
        traced = time.perf_counter()
        self._step = lowered.compile()
        return {"trace": traced - began, "compile": time.perf_counter() - traced}

    def step_ready(self):
        """Compiles the step, and puts the weights on the devices."""
        self.compile_step()
        mesh = self._training_mesh()

        def place(host: np.ndarray, sharding: NamedSharding) -> jax.Array:
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        params = self._params(mesh)
        weights, momentum = (
            {name: place(x * scale, sharding) for name, (x, sharding) in params.items()} for scale in (1, 0)
        )
        self._state = weights, momentum
        tokens = np.random.default_rng(1).integers(0, _VOCABULARY, (_BATCH, _SEQUENCE)).astype(np.int32)
        self._tokens = place(tokens, NamedSharding(mesh, P("data")))
        self.steps(1)
        return {}

    def steps(self, count: int):
        """Training steps, each waited for, and the loss of each."""
        seconds, losses = [], []
        for _ in range(count):
            began = time.perf_counter()
            self._state, loss = self._step(self._state, self._tokens)
            loss.block_until_ready()
            seconds.append(time.perf_counter() - began)
            losses.append(float(loss.addressable_shards[0].data))
        return {"seconds": seconds, "losses": losses}

    def _training_mesh(self) -> Any:
        return jax.make_mesh((self._count // 2, 2), ("data", "model"), axis_types=(AxisType.Auto,) * 2)

    def _params(self, mesh: Any) -> dict[str, tuple[np.ndarray, NamedSharding]]:
        """All weights with their places: each layer's two products are split over the axis `model`."""
        rng = np.random.default_rng(0)
        d = _WIDTH
        specs = {"embedding": ((_VOCABULARY, d), P()), "position": ((_SEQUENCE, d), P())}
        for layer in range(_LAYERS):
            specs |= {
                f"qkv{layer}": ((d, 3, _HEADS, d // _HEADS), P(None, None, "model")),
                f"out{layer}": ((_HEADS, d // _HEADS, d), P("model")),
                f"up{layer}": ((d, 4 * d), P(None, "model")),
                f"down{layer}": ((4 * d, d), P("model")),
            }
        return {
            name: ((rng.standard_normal(shape) / math.sqrt(d)).astype(np.float32), NamedSharding(mesh, spec))
            for name, (shape, spec) in specs.items()
        }

    def _training_step(self, mesh: Any) -> Any:
        activations = NamedSharding(mesh, P("data"))

        def normalised(x: jax.Array) -> jax.Array:
            return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)

        def loss_of(params: dict[str, jax.Array], tokens: jax.Array) -> jax.Array:
            x = params["embedding"][tokens] + params["position"]
            causal = jnp.tril(jnp.ones((_SEQUENCE, _SEQUENCE), bool))
            for layer in range(_LAYERS):
                q, k, v = jnp.einsum("btd,dchk->cbthk", normalised(x), params[f"qkv{layer}"])
                scores = jnp.einsum("bthk,bshk->bhts", q, k) / math.sqrt(_WIDTH // _HEADS)
                y = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(jnp.where(causal, scores, -1e9)), v)
                x = lax.with_sharding_constraint(x + jnp.einsum("bthk,hkd->btd", y, params[f"out{layer}"]), activations)
                hidden = jax.nn.gelu(normalised(x) @ params[f"up{layer}"])
                x = lax.with_sharding_constraint(x + hidden @ params[f"down{layer}"], activations)
            logits = normalised(x) @ params["embedding"].T
            picked = jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], -1)
            return -picked.mean()

        def step(state: Any, tokens: jax.Array) -> Any:
            params, momentum = state
            loss, gradients = jax.value_and_grad(loss_of)(params, tokens)
            momentum = jax.tree.map(lambda m, g: 0.9 * m + g, momentum, gradients)
            return (jax.tree.map(lambda w, m: w - 0.01 * m, params, momentum), momentum), loss

        places = {name: sharding for name, (_, sharding) in self._params(mesh).items()}
        return jax.jit(step, donate_argnums=0, out_shardings=((places, places), NamedSharding(mesh, P())))


def _join():
    """Makes this process one of a multi-controller job, if the environment says so."""
    if "SPMD_RANKS" in os.environ:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        ranks, rank = int(os.environ["SPMD_RANKS"]), int(os.environ["SPMD_RANK"])
        jax.distributed.initialize(os.environ["SPMD_COORDINATOR"], ranks, rank)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Gloo writes to stdout

    def say(answer: dict[str, Any]):
        print(json.dumps(answer), file=answers, flush=True)

    _join()
    operations = Operations()
    say({"devices": len(jax.devices())})
    while line := sys.stdin.readline():
        request = json.loads(line)
        say(getattr(operations, request.pop("do"))(**request))


if __name__ == "__main__":
    main()
