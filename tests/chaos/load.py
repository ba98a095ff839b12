"""What the clients do while things break. Runs inside the client processes; campaign.py calls what is here.

    settle(...)    makes arrays everywhere and waits for them: they are what a blow must destroy, or must not
    fly(...)       all that a program does, waiting for little of it, until it is told to stop
    look(...)      fetches what there is and says what became of it
    watch(...)     one small program on every device, over and over: who notices what, and for how long

All values are whole numbers of 32 bits that NumPy computes too, so "right" means equal to the last bit.
"""

from __future__ import annotations

import faulthandler
import gc
import random
import signal
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import backend
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from chaos.model import KEEPSAKE_BYTES, OK, Record

# For whoever waits in vain for this process.
faulthandler.register(signal.SIGUSR1, all_threads=True)

JaxError = jax.errors.JaxRuntimeError
_MAX_LIVE = 48
_MAX_SLOW = 4
_MAX_COMPILES = 2
# Few shapes: every program is compiled for each of them, on each device.
_SMALL = 16
_LARGE = 300_000
_PER_DEVICE = 50_000  # of arrays over several devices
_SLOW_STEPS = 100_000
_FACTOR, _TERM = 1664525, 1013904223
_MASK = 0xFFFFFFFF
_SESSION_LOST = "UNAVAILABLE"


# ---------------------------------------------------------------- programs


def _after(steps: int) -> tuple[int, int]:
    """x -> a x + b done `steps` times is x -> a' x + b': gives a' and b'."""
    a, b, done_a, done_b = _FACTOR, _TERM, 1, 0
    while steps:
        if steps & 1:
            done_a, done_b = done_a * a & _MASK, (done_b * a + b) & _MASK
        a, b = a * a & _MASK, (b * a + b) & _MASK
        steps >>= 1
    return done_a, done_b


_SLOW_A, _SLOW_B = _after(_SLOW_STEPS)


@jax.jit
def _step(x: jax.Array) -> jax.Array:
    return x * jnp.uint32(_FACTOR) + jnp.uint32(_TERM)


_donating = jax.jit(lambda x: x * jnp.uint32(_FACTOR) + jnp.uint32(_TERM), donate_argnums=0)


@jax.jit
def _join(x: jax.Array, y: jax.Array) -> jax.Array:
    return x * jnp.uint32(3) + y


@jax.jit
def _mix(x: jax.Array) -> jax.Array:
    """Over several devices of a worker: needs the others' parts."""
    return x + x.sum(dtype=jnp.uint32)


@jax.jit
def _slow(x: jax.Array) -> jax.Array:
    return jax.lax.fori_loop(0, _SLOW_STEPS, lambda _, x: x * jnp.uint32(_FACTOR) + jnp.uint32(_TERM), x)


def _np_step(x: np.ndarray) -> np.ndarray:
    return x * np.uint32(_FACTOR) + np.uint32(_TERM)


def _np_mix(x: np.ndarray) -> np.ndarray:
    return x + x.sum(dtype=np.uint32)


# ---------------------------------------------------------------- the client's book


class _Player:
    """One round of one client: its arrays, what they must be, and the record of each."""

    def __init__(self, per_worker: int, first_name: int) -> None:
        self.devices = jax.devices()
        self.per_worker = per_worker
        self.next_name = first_name
        self.arrays: dict[int, jax.Array] = {}
        self.values: dict[int, np.ndarray] = {}
        self.records: dict[int, Record] = {}
        self.keepsakes: dict[int, int] = {}  # names of those, with their workers
        self.session_lost = False
        self.slowest_s = 0.0  # the longest call
        self.slow_left = _MAX_SLOW
        self.compiles_left = _MAX_COMPILES

    @property
    def workers(self) -> int:
        return len(self.devices) // self.per_worker

    def mesh(self, worker: int) -> NamedSharding:
        own = self.devices[worker * self.per_worker : (worker + 1) * self.per_worker]
        return NamedSharding(Mesh(np.array(own), "x"), PartitionSpec("x"))

    def everywhere(self) -> NamedSharding:
        return NamedSharding(Mesh(np.array(self.devices), "x"), PartitionSpec("x"))

    def home(self, where: Any) -> frozenset[int]:
        devices = where.device_set if hasattr(where, "device_set") else {where}
        return frozenset(self.devices.index(device) // self.per_worker for device in devices)

    def make(self, where: Any, parents: tuple[int, ...], value: np.ndarray, call: Callable[[], jax.Array]) -> int:
        """Makes an array by `call`, which is to live at `where`."""
        name = self.next_name
        self.next_name += 1
        asked = time.monotonic()
        record = self.records[name] = Record(name, self.home(where), parents, asked, asked)
        try:
            self.arrays[name] = call()
            self.values[name] = value
        except JaxError as error:
            self._note(record, str(error), asked)
        record.issued = time.monotonic()
        self.slowest_s = max(self.slowest_s, record.issued - asked)
        return name

    def wait(self, name: int) -> None:
        """Waits until an array is ready, or holds an error."""
        record = self.records[name]
        began = time.monotonic()
        try:
            self.arrays[name].block_until_ready()
            record.ready = min(record.ready, time.monotonic())
        except JaxError as error:
            self._note(record, str(error), began)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def fetch(self, name: int, fresh: bool = False) -> None:
        """Looks what an array is; `fresh`: by a copy, since JAX keeps the value that an earlier look has found."""
        record = self.records[name]
        began = time.monotonic()
        try:
            array = self.arrays[name]
            value = np.asarray(jax.device_put(array, array.sharding, may_alias=False) if fresh else array)
            record.ready = min(record.ready, time.monotonic())
            expected = self.values[name]
            same = value.shape == expected.shape and np.array_equal(value, expected)
            self._note(record, OK if same else f"WRONG VALUES: {value.ravel()[:4]} for {expected.ravel()[:4]}", began)
        except JaxError as error:
            self._note(record, str(error), began)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)

    def drop(self, name: int) -> None:
        self.arrays.pop(name, None)
        self.values.pop(name, None)

    def _note(self, record: Record, outcome: str, looked: float) -> None:
        record.outcome = outcome
        record.looked = looked
        record.seen = time.monotonic()
        self.session_lost |= _SESSION_LOST in outcome


# ---------------------------------------------------------------- before the blow


def settle(per_worker: int, first_name: int, kept: dict[str, Any]) -> None:
    """Makes arrays on every worker and over several, and waits for all of them."""
    player = kept["player"] = _Player(per_worker, first_name)
    dice = np.random.default_rng(first_name)

    def put(where: Any, *shape: int) -> int:
        value = dice.integers(0, 1 << 32, shape, np.uint32)
        return player.make(where, (), value, lambda: jax.device_put(value, where))

    names = [put(device, _SMALL) for device in player.devices]
    keepsakes = kept.setdefault("keepsakes", {})
    for worker in range(player.workers):
        device = player.devices[worker * per_worker + 1 % per_worker]
        if worker in keepsakes:
            array, value = keepsakes[worker]
            names.append(player.make(device, (), value, lambda array=array: array))
        else:
            names.append(put(device, KEEPSAKE_BYTES // 4))
        player.keepsakes[names[-1]] = worker
    names += [put(player.devices[worker * per_worker], _LARGE) for worker in range(player.workers)]
    names += [put(player.mesh(worker), _PER_DEVICE * per_worker) for worker in range(player.workers)]
    names.append(put(player.everywhere(), _PER_DEVICE * len(player.devices)))
    for worker in range(player.workers):
        # From one worker to the next: it lives on the second only.
        source, target = names[worker * per_worker], player.devices[(worker + 1) % player.workers * per_worker]
        names.append(
            player.make(
                target,
                (source,),
                player.values[source],
                lambda source=source, target=target: jax.device_put(player.arrays[source], target),
            )
        )
    for name in names:
        player.wait(name)


# ---------------------------------------------------------------- under the blow


class _Pilot:
    """Does at random what a program does."""

    def __init__(self, player: _Player, seed: int) -> None:
        self.p = player
        self.dice = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.moves = (
            [self.put_small] * 4
            + [self.put_large]
            + [self.put_gang]
            + [self.put_everywhere]
            + [self.launch] * 5
            + [self.launch_two] * 2
            + [self.launch_gang] * 3
            + [self.launch_slow]
            + [self.chain] * 2
            + [self.copy] * 4
            + [self.copy_gang] * 2
            + [self.fetch] * 2
            + [self.wait] * 2
            + [self.delete]
            + [self.donate]
            + [self.compile]
        )

    def move(self) -> None:
        self.dice.choice(self.moves)()
        while len(self.p.arrays) > _MAX_LIVE:
            self.p.drop(self.dice.choice(sorted(self.p.arrays.keys() - self.p.keepsakes.keys())))

    def _value(self, *shape: int) -> np.ndarray:
        return self.numbers.integers(0, 1 << 32, shape, np.uint32)

    def _pick(self, fits: Callable[[jax.Array], bool] = lambda _: True, spared: Container[int] = ()) -> int | None:
        names = sorted(name for name, array in self.p.arrays.items() if name not in spared and fits(array))
        return self.dice.choice(names) if names else None

    def _on_one(self) -> int | None:
        return self._pick(lambda x: len(x.sharding.device_set) == 1)

    def _small(self) -> int | None:
        return self._pick(lambda x: x.size == _SMALL)

    def _spendable(self, fits: Callable[[jax.Array], bool] = lambda _: True) -> int | None:
        return self._pick(fits, spared=self.p.keepsakes)

    def _on_gang(self) -> int | None:
        return self._pick(lambda x: len(x.sharding.device_set) == self.p.per_worker > 1)

    def _put(self, where: Any, *shape: int) -> None:
        value = self._value(*shape)
        self.p.make(where, (), value, lambda: jax.device_put(value, where))

    def _launch(self, name: int, program: Callable, expected: Callable) -> int:
        x = self.p.arrays[name]
        return self.p.make(x.sharding, (name,), expected(self.p.values[name]), lambda: program(x))

    def put_small(self) -> None:
        self._put(self.dice.choice(self.p.devices), _SMALL)

    def put_large(self) -> None:
        self._put(self.p.devices[self.dice.randrange(self.p.workers) * self.p.per_worker], _LARGE)

    def put_gang(self) -> None:
        self._put(self.p.mesh(self.dice.randrange(self.p.workers)), _PER_DEVICE * self.p.per_worker)

    def put_everywhere(self) -> None:
        self._put(self.p.everywhere(), _PER_DEVICE * len(self.p.devices))

    def launch(self) -> None:
        if (name := self._on_one()) is not None:
            self._launch(name, _step, _np_step)

    def launch_two(self) -> None:
        if (first := self._small()) is None:
            return
        x = self.p.arrays[first]
        second = self._pick(lambda y: y.sharding == x.sharding and y.shape == x.shape)
        y = self.p.arrays[second]
        value = self.p.values[first] * np.uint32(3) + self.p.values[second]
        self.p.make(x.sharding, (first, second), value, lambda: _join(x, y))

    def launch_gang(self) -> None:
        if (name := self._on_gang()) is not None:
            self._launch(name, _mix, _np_mix)

    def launch_slow(self) -> None:
        if self.p.slow_left > 0 and (name := self._small()) is not None:
            self.p.slow_left -= 1
            self._launch(name, _slow, lambda x: x * np.uint32(_SLOW_A) + np.uint32(_SLOW_B))

    def chain(self) -> None:
        if (name := self._on_one()) is None:
            return
        for _ in range(self.dice.randrange(2, 12)):
            if name not in self.p.arrays:
                return
            name = self._launch(name, _step, _np_step)

    def copy(self) -> None:
        if (name := self._on_one()) is not None:
            x = self.p.arrays[name]
            # To where it is would give another name of the same, which goes with it.
            where = self.dice.choice([device for device in self.p.devices if device not in x.sharding.device_set])
            self.p.make(where, (name,), self.p.values[name], lambda: jax.device_put(x, where))

    def copy_gang(self) -> None:
        if (name := self._on_gang()) is not None:
            x = self.p.arrays[name]
            (home,) = self.p.home(x.sharding)
            where = self.p.mesh(self.dice.choice([worker for worker in range(self.p.workers) if worker != home]))
            self.p.make(where, (name,), self.p.values[name], lambda: jax.device_put(x, where))

    def fetch(self) -> None:
        if (name := self._pick()) is not None:
            self.p.fetch(name)

    def wait(self) -> None:
        if (name := self._pick()) is not None:
            self.p.wait(name)

    def delete(self) -> None:
        if (name := self._spendable()) is not None:
            array = self.p.arrays[name]
            self.p.drop(name)
            if self.dice.random() < 0.5:
                array.delete()

    def donate(self) -> None:
        if (name := self._spendable(lambda x: x.size == _SMALL)) is None:
            return
        x, value = self.p.arrays[name], self.p.values[name]
        self.p.drop(name)
        self.p.make(x.sharding, (name,), _np_step(value), lambda: _donating(x))

    def compile(self) -> None:
        if self.p.compiles_left > 0 and (name := self._small()) is not None:
            self.p.compiles_left -= 1
            term = self.dice.getrandbits(31)
            self._launch(name, jax.jit(lambda x: x + jnp.uint32(term)), lambda x: x + np.uint32(term))


def fly(seed: int, stop: str, limit_s: float, kept: dict[str, Any]) -> dict[str, Any]:
    """Does at random what a program does, until the file `stop` exists or the session is lost."""
    player: _Player = kept["player"]
    pilot = _Pilot(player, seed)
    deadline = time.monotonic() + limit_s
    moves = 0
    while not Path(stop).exists() and not player.session_lost:
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody has said stop within {limit_s:g} s")
        pilot.move()
        moves += 1
        if moves % 4 == 0:
            pilot.wait()  # a little back-pressure: a machine of two cores is no cluster
    return {"slowest_s": player.slowest_s, "session_lost": player.session_lost}


# ---------------------------------------------------------------- after the blow


def look(kept: dict[str, Any]) -> list[Record]:
    """Fetches all there is, drops it, and gives the records of everything that was made."""
    player: _Player = kept.pop("player")
    for name in list(player.arrays):
        player.fetch(name, fresh=True)
    records = list(player.records.values())
    kept["keepsakes"] = {
        worker: (player.arrays[name], player.values[name])
        for name, worker in player.keepsakes.items()
        if player.records[name].outcome == OK
    }
    del player
    gc.collect()
    return records


def use(per_worker: int, kept: dict[str, Any]) -> str:
    """Uses every device, every pair of workers, and programs that it had before. What went wrong, or nothing."""
    settle(per_worker, 0, kept)
    player: _Player = kept["player"]
    pilot = _Pilot(player, seed=0)
    for name, array in list(player.arrays.items()):
        if len(array.sharding.device_set) == 1:
            pilot._launch(name, _step, _np_step)
        elif len(array.sharding.device_set) == per_worker:
            pilot._launch(name, _mix, _np_mix)
    del player, pilot, array
    bad = [record for record in look(kept) if record.outcome != OK]
    return "; ".join(f"array {r.name} on {sorted(r.home)}: {r.outcome[:300]}" for r in bad[:3])


def connect(limit_s: float, kept: dict[str, Any]) -> dict[str, Any]:
    """Connects anew, in the same process. Gives the ids of the devices."""
    began = time.monotonic()
    kept.clear()
    gc.collect()
    backend.clear_backends()
    while True:
        try:
            ids = [device.id for device in jax.devices()]
            return {"ids": ids}
        except RuntimeError as error:
            if time.monotonic() - began > limit_s:
                return {"ids": [], "error": str(error)}
            backend.clear_backends()


def watch(stop: str, limit_s: float, kept: dict[str, Any]) -> dict[str, Any]:
    """Runs one small program on every device in turn until the file `stop` exists and all devices work.

    Gives what happened to each device: times and errors, where something changed; and how often it connected anew.
    """
    began = time.monotonic()
    changes: list[tuple[float, int, str]] = []
    state: dict[int, str] = {}
    reconnects = 0
    while True:
        devices = jax.devices()
        all_right = True
        for number, device in enumerate(devices):
            try:
                value = np.arange(8, dtype=np.uint32) + np.uint32(number)
                result = np.asarray(_step(jax.device_put(value, device)))
                now = OK if np.array_equal(result, _np_step(value)) else "WRONG VALUES"
            except JaxError as error:
                now = str(error)
            if state.get(number, OK)[:20] != now[:20]:
                changes.append((time.monotonic(), number, now))
            state[number] = now
            all_right &= now == OK
            if _SESSION_LOST in now:
                connect(limit_s, kept)
                reconnects += 1
                state.clear()
                break
        if all_right and Path(stop).exists():
            return {"changes": changes, "reconnects": reconnects}
        if time.monotonic() - began > limit_s:
            return {"changes": changes, "reconnects": reconnects, "hung": state}
        time.sleep(0.01)
