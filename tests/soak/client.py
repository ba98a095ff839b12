"""One client of the soak: stock JAX doing a bit of everything, in an order that its seed decides, until its stdin ends.

    python client.py SEED

Each second, and once at its end, it prints what it has done so far as one JSON object a line. It checks the results;
what comes out wrong, or fails although it should not, ends it with a traceback.
"""

from __future__ import annotations

import gc
import json
import random
import select
import sys
import time
from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

_KEPT = 40  # arrays that live on from one piece of work to the next
_FRESH_PROGRAM_EVERY_S = 1.0  # a compile costs JAX itself some memory that it keeps for a while
_ERROR_EVERY_S = 0.5
_SIZES = (1, 1000, 300_000)  # of vectors: a program each
_PUTS_AT_ONCE = 200
_LAUNCHES_AT_ONCE = 400  # on each device
_TOO_LARGE = 1 << 44  # elements; no host has an address space for them


def add_one(x):
    return x + 1


def mix(x):
    return jnp.tanh(x @ x.T) @ x / x.shape[0]


def spread(tree):
    return {name: x + len(name) for name, x in tree.items()}


def repeat_too_often(x):
    return jnp.broadcast_to(x, (_TOO_LARGE,))


def call_what_does_not_exist(x):
    return jax.ffi.ffi_call("causeway_no_such_target", jax.ShapeDtypeStruct((), np.float32))(x)


def expect(condition: bool, what: str):
    if not condition:
        raise AssertionError(what)


class Work:
    """Everything that a client does; each piece is small and leaves nothing but what is kept."""

    def __init__(self, seed: int):
        self.done: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._numbers = np.random.default_rng(seed)
        self._kept: list[jax.Array] = []
        self._devices = jax.devices()
        self._workers: dict[int, list[jax.Device]] = {}
        for device in self._devices:
            self._workers.setdefault(device.virtual_task_index, []).append(device)
        self._add_one = jax.jit(add_one)
        self._mix = jax.jit(mix)
        self._spread = jax.jit(spread)
        self._donate = jax.jit(add_one, donate_argnums=0)
        self._head = jax.jit(lambda x: x[:3] * 2)
        self._too_large = jax.jit(repeat_too_often)
        self._due = dict.fromkeys(("program", "error"), 0.0)
        self._pieces: list[Callable[[], None]] = [
            *(self.chain, self.chain, self.chain, self.donate, self.tree, self.matmul, self.delete, self.fetch),
            *(self.put, self.put, self.copy, self.shard, self.keep, self.keep, self.program, self.fail),
        ]

    def step(self):
        """One piece of work."""
        self._random.choice(self._pieces)()

    def warm_up(self):
        """Has more under way at once than ever later: the stock client takes a thread for each, and keeps it.

        The controller lets it have so many launches on each device, so all devices are filled, by launches of some
        milliseconds each.
        """
        slow = jax.jit(lambda x: jax.lax.fori_loop(0, 50, lambda _, x: jnp.tanh(x @ x), x))
        for _ in range(2):
            filled = [jax.device_put(np.eye(64, dtype=np.float32), device) for device in self._devices]
            for _ in range(_LAUNCHES_AT_ONCE):
                filled = [slow(x) for x in filled]
            puts = [jax.device_put(np.zeros(1000, np.float32), self._device()) for _ in range(_PUTS_AT_ONCE)]
            jax.block_until_ready((filled, puts))
        # All programs but the fresh ones, so that none is compiled for the first time in the middle of the run.
        for device in self._devices:
            self._device = lambda device=device: device
            for size in _SIZES:
                x = self._put(np.zeros(size, np.float32))
                jax.block_until_ready((self._add_one(x), self._donate(x)))
            self.tree()
            self.matmul()
            self.fail(compiled=True)
        del self._device
        for devices in self._workers.values():
            self.shard(devices)

    def finish(self):
        """Lets go of everything."""
        self._kept.clear()
        gc.collect()

    def _device(self) -> jax.Device:
        return self._random.choice(self._devices)

    def _put(self, value: np.ndarray) -> jax.Array:
        self.done["puts"] += 1
        return jax.device_put(value, self._device())

    def _launch(self, function: Callable, *arguments):
        self.done["launches"] += 1
        return function(*arguments)

    def _read(self, x: jax.Array) -> np.ndarray:
        self.done["fetches"] += 1
        return np.asarray(x)

    def _is_due(self, what: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due[what]:
            return False
        self._due[what] = now + every_s
        return True

    def chain(self):
        length = self._random.choice((1, 10, 100, 300))
        x = self._put(np.zeros(self._random.choice(_SIZES), np.float32))
        for _ in range(length):
            x = self._launch(self._add_one, x)
        if self._random.random() < 0.7:
            expect(self._read(x)[-1] == length, "a chain of additions adds up")

    def donate(self):
        x = self._put(np.zeros(self._random.choice(_SIZES), np.float32))
        for _ in range(20):
            before = x
            x = self._launch(self._donate, x)
            expect(before.is_deleted(), "what was donated is gone")
        expect(self._read(x)[0] == 20, "a donated chain adds up")

    def tree(self):
        device = self._device()
        tree = {f"leaf{'x' * n}": jax.device_put(np.float32(n), device) for n in range(20)}
        jax.block_until_ready(tree)
        self.done["puts"] += 20
        for _ in range(10):
            tree = self._launch(self._spread, tree)
        expect(float(self._read(tree["leaf"])) == 40, "a tree adds up")

    def matmul(self):
        x = self._put(self._numbers.random((64, 64), np.float32))
        for _ in range(20):
            x = self._launch(self._mix, x)
        expect(bool(np.isfinite(self._read(x)).all()), "products stay finite")

    def delete(self):
        x = self._put(np.ones(_SIZES[1], np.float32))
        for _ in range(20):
            y = self._launch(self._add_one, x)
            x.delete()
            self.done["deletes"] += 1
            x = y
        x.delete()
        self.done["deletes"] += 1

    def fetch(self):
        x = self._put(self._numbers.random(self._random.choice(_SIZES), np.float32))
        y = self._launch(self._add_one, x)
        expect(np.array_equal(self._read(y), self._read(x) + np.float32(1)), "what is fetched is what was made")

    def put(self):
        value = self._numbers.integers(0, 255, self._random.choice((1, 100, 70_000, 4_000_000)), np.uint8)
        x = self._put(value)
        if self._random.random() < 0.5:
            expect(np.array_equal(self._read(x), value), "what is put is what is fetched")

    def copy(self):
        value = self._numbers.random(self._random.choice((3, 1000, 500_000)), np.float32)
        x = self._put(value)
        for _ in range(4):
            x = jax.device_put(x, self._device())
            self.done["copies"] += 1
        expect(np.array_equal(self._read(x), value), "a copy is what was copied")

    def shard(self, devices: list[jax.Device] | None = None):
        devices = devices or self._random.choice(list(self._workers.values()))
        mesh = jax.make_mesh((len(devices),), ("x",), devices=devices)
        value = self._numbers.random((len(devices) * 8, 128), np.float32)
        x = jax.device_put(value, NamedSharding(mesh, PartitionSpec("x")))
        self.done["puts"] += 1
        for _ in range(5):
            x = self._launch(self._add_one, x)
        expect(np.allclose(self._read(x), value + 5, rtol=1e-6), "a sharded chain adds up")

    def keep(self):
        x = self._launch(self._add_one, self._put(np.ones(self._random.choice(_SIZES), np.float32)))
        if len(self._kept) < _KEPT:
            self._kept.append(x)
        else:
            number = self._random.randrange(_KEPT)
            self._kept[number] = x
            expect(self._read(self._kept[number - 1])[0] == 2, "what is kept stays")

    def program(self):
        """Compiles a program of its own and forgets it."""
        if not self._is_due("program", _FRESH_PROGRAM_EVERY_S):
            return
        factor = self._random.random()
        function = jax.jit(lambda x: x * factor)
        x = self._launch(function, self._put(np.ones(8, np.float32)))
        expect(np.allclose(self._read(x), factor), "a new program is the one that runs")
        self.done["programs"] += 1

    def fail(self, compiled: bool = False):
        """A program that cannot be compiled, or a launch that fails; what depends on that says where it was made."""
        if not compiled and not self._is_due("error", _ERROR_EVERY_S):
            return
        self.done["errors"] += 1
        x = self._put(np.float32(1))
        if not compiled and self._random.random() < 0.3:
            try:
                jax.jit(call_what_does_not_exist)(x)
            except jax.errors.JaxRuntimeError as error:
                expect("causeway_no_such_target" in str(error), "the compiler names what it does not know")
                return
            raise AssertionError("a program that calls what does not exist was compiled")
        failed = self._launch(self._too_large, x)
        dependent = failed
        for _ in range(2 if compiled else self._random.choice((0, 1, 20))):
            dependent = self._launch(self._head, dependent)
        try:
            dependent.block_until_ready()
        except jax.errors.JaxRuntimeError as error:
            # Sometimes the plugin finds it later, and calls it INTERNAL.
            expect("Out of memory" in str(error), "a launch that is too large says so")
            expect("Work.fail)" in str(error), "and where it was launched")
            return
        raise AssertionError("16 TiB were allocated")


def main():
    work = Work(int(sys.argv[1]))
    work.warm_up()
    reported = 0.0
    while not select.select([sys.stdin], [], [], 0)[0]:
        work.step()
        if time.monotonic() - reported > 1:
            reported = time.monotonic()
            print(json.dumps(work.done), flush=True)
    work.finish()
    print(json.dumps(work.done), flush=True)


if __name__ == "__main__":
    main()
