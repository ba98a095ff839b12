"""What a family of programs draws from: a mesh, dtypes, shapes, arrays and shardings, all from one seed.

    def matmul(draw: Draw) -> Program:
        dtype = draw.dtype("float32", "bfloat16")
        a, b = draw.array((16, 24), dtype), draw.array((24, 8), dtype)
        return Program(jnp.matmul, [a, b])

Two processes that draw with the same seed, case number and number of devices get the same program. Inputs are made by
numpy, so they do not depend on a backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

T = TypeVar("T")

WIDE = ("float64", "int64", "complex128")  # dtypes that need jax_enable_x64
_SIZES = (4, 6, 8, 12, 16, 24)
# How many of the cluster's devices a mesh has: mostly all of them.
_PARTS = ("all", "all", "all", "half", "three quarters", "two")


@dataclass(frozen=True)
class Program:
    """A function of arrays, and what it is called with."""

    function: Callable[..., Any]
    inputs: Sequence[np.ndarray]
    text: str = ""
    in_specs: Sequence[P] | None = None  # None: drawn
    drawn_outputs: bool = True  # False: output shardings are left to the compiler
    donated: tuple[int, ...] = ()
    tolerance: float = 1.0  # by how much more than one rounding the sides may differ
    how: str = "jit"  # jit, or eager: operation by operation, or raw: the function gets numpy arrays and does it all
    steps: int = 1  # how many times x = f(x); more than one wants one input and an output like it


@dataclass
class Draw:
    """One case's random choices."""

    rng: np.random.Generator
    devices: Sequence[Any]
    explicit: bool = False
    notes: list[str] = field(default_factory=list)
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        self.mesh = self._mesh()
        self.axes: dict[str, int] = dict(self.mesh.shape)

    # ---------------------------------------------------------------- choices

    def choice(self, *options: T) -> T:
        return options[int(self.rng.integers(len(options)))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def integer(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def permutation(self, count: int) -> list[int]:
        return [int(i) for i in self.rng.permutation(count)]

    def note(self, text: str) -> None:
        """Says something about the program that a reader of a failure wants to know."""
        self.notes.append(text)

    # ---------------------------------------------------------------- meshes

    def _mesh(self) -> Mesh:
        total = len(self.devices)
        part = self.choice(*_PARTS)
        count = {"all": total, "half": total // 2, "three quarters": total * 3 // 4, "two": 2}[part]
        order = self.choice("in order", "in order", "permuted", "strided")
        if order == "permuted":
            positions = self.permutation(total)[:count]
        elif order == "strided":
            positions = [*range(0, total, 2), *range(1, total, 2)][:count]
        else:
            first = self.integer(0, total - count)
            positions = list(range(first, first + count))
        sizes = self._factors(count)
        names = ("a", "b", "c")[: len(sizes)]
        kind = AxisType.Explicit if self.explicit else AxisType.Auto
        devices = np.array([self.devices[i] for i in positions]).reshape(sizes)
        named = " x ".join(f"{name}={size}" for name, size in zip(names, sizes, strict=True))
        self.note(f"mesh {named} of devices {positions}")
        return Mesh(devices, names, axis_types=(kind,) * len(sizes))

    def _factors(self, count: int) -> list[int]:
        """`count` as a product of one to three factors, none of which is 1."""
        ways = {2: [[2]], 4: [[4], [2, 2]], 6: [[6], [2, 3], [3, 2]], 8: [[8], [2, 4], [4, 2], [2, 2, 2]]}
        return self.choice(*ways.get(count, [[count]]))

    def subset(self) -> tuple[str, ...]:
        """One or more axes of the mesh, in a random order."""
        names = list(self.axes)
        chosen = [names[i] for i in self.permutation(len(names))]
        return tuple(chosen[: self.integer(1, len(chosen))])

    def axis(self) -> str:
        """One axis of the mesh."""
        return self.choice(*self.axes)

    def size(self, axes: Sequence[str] | str) -> int:
        return math.prod(self.axes[axis] for axis in ([axes] if isinstance(axes, str) else axes))

    def rest(self, axes: Sequence[str] | str) -> tuple[str, ...]:
        """The mesh's other axes."""
        return tuple(name for name in self.axes if name not in axes)

    def spec(self, shape: Sequence[int]) -> P:
        """A sharding that divides `shape`: each axis of the mesh shards one dimension or none."""
        free = [name for name in self.axes if self.chance(0.75)]
        parts: list[Any] = []
        for size in shape:
            taken: list[str] = []
            for name in list(free):
                if self.chance(0.6) and size and size % (self.size(taken) * self.axes[name]) == 0:
                    taken.append(name)
                    free.remove(name)
            parts.append(None if not taken else taken[0] if len(taken) == 1 else tuple(taken))
        return P(*parts)

    def sharding(self, shape: Sequence[int]) -> NamedSharding:
        return NamedSharding(self.mesh, self.spec(shape))

    # ---------------------------------------------------------------- arrays

    def dtype(self, *names: str) -> str:
        """One of these, or, with none named, a float."""
        name = self.choice(*(names or ("float32", "float32", "float32", "bfloat16", "float16", "float64")))
        if name in WIDE and not jax.config.jax_enable_x64:
            name = {"float64": "float32", "int64": "int32", "complex128": "complex64"}[name]
        self.note(name)
        return name

    def dims(self, rank: int) -> tuple[int, ...]:
        """A shape of that rank. Some of its dimensions cannot be sharded by every axis."""
        return tuple(self.choice(*_SIZES) for _ in range(rank))

    def array(self, shape: Sequence[int], dtype: str, *, low: int = -20, high: int = 20) -> np.ndarray:
        """Normally distributed floats, integers from low to high (not included), or bits."""
        kind = jnp.dtype(dtype)
        if kind == np.bool_:
            return self.rng.random(shape) < 0.5
        if jnp.issubdtype(kind, jnp.complexfloating):
            return (self.rng.standard_normal(shape) + 1j * self.rng.standard_normal(shape)).astype(kind)
        if jnp.issubdtype(kind, jnp.integer):
            return self.rng.integers(max(low, jnp.iinfo(kind).min), high, shape).astype(kind)
        return np.asarray(self.rng.standard_normal(shape)).astype(kind)

    def indices(self, shape: Sequence[int], size: int) -> np.ndarray:
        """Numbers of rows of something that has `size` of them."""
        return self.rng.integers(0, size, shape).astype(np.int32)
