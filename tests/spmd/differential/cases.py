"""All families, and how case number n of a seed comes about."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from . import automatic, learning, manual
from .draw import Draw, Program


def _families(module: Any) -> list[Any]:
    return [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__ and not name.startswith("_")
    ]


def _name(family: Any) -> str:
    return f"{family.__module__.rpartition('.')[2]}.{family.__name__}"


# In turn, so that any stretch of cases has all kinds.
_BY_MODULE = [_families(module) for module in (automatic, learning, manual)]
FAMILIES = {
    _name(family): family
    for _, family in sorted(
        ((number / len(families), family) for families in _BY_MODULE for number, family in enumerate(families)),
        key=lambda entry: entry[0],
    )
}
_NAMES = list(FAMILIES)
# Every so many cases of a family, one has 64-bit types.
_WIDE_EVERY = 3


def family_of(number: int) -> str:
    """Which family case `number` is of."""
    return _NAMES[number % len(_NAMES)]


def is_wide(number: int) -> bool:
    """Whether case `number` runs with 64-bit types."""
    return (number // len(_NAMES) + number) % _WIDE_EVERY == 0


@dataclass(frozen=True)
class Case:
    """A program with everything chosen. Made within jax.enable_x64 as is_wide() says."""

    number: int
    program: Program
    mesh: Any
    in_specs: Sequence[P]
    out_shardings: Any  # a tree like the results, or None: left to the compiler
    text: str  # all a reader of a failure wants to know

    @property
    def explicit(self) -> bool:
        """Whether the mesh has explicit axes, and has to be the current one."""
        return self.mesh.axis_types[0] == AxisType.Explicit

    @property
    def tolerance(self) -> float:
        return self.program.tolerance

    def arguments(self) -> list[jax.Array]:
        """The inputs, on the devices."""
        shardings = [NamedSharding(self.mesh, spec) for spec in self.in_specs]
        return [jax.device_put(x, sharding) for x, sharding in zip(self.program.inputs, shardings, strict=True)]

    def compiled(self) -> Any:
        """The jitted function."""
        shardings = {} if self.out_shardings is None else {"out_shardings": self.out_shardings}
        return jax.jit(self.program.function, donate_argnums=self.program.donated, **shardings)


def make(seed: int, number: int, devices: Sequence[Any]) -> Case:
    """Case `number` of `seed`, on a mesh of some of these devices."""
    name = family_of(number)
    draw = Draw(np.random.default_rng([seed, number]), devices, explicit=name == "automatic.explicit")
    program = FAMILIES[name](draw)
    in_specs = program.in_specs or [draw.spec(np.shape(x)) for x in program.inputs]
    out_shardings = None
    if program.drawn_outputs and program.how == "jit" and draw.chance(0.6):
        shapes = jax.eval_shape(program.function, *program.inputs)
        out_shardings = jax.tree.map(lambda x: draw.sharding(x.shape), shapes)
    lines = [f"{name}: {program.text}" if program.text else name, ", ".join(draw.notes)]
    lines += [
        f"argument {i}: {np.asarray(x).dtype}{list(np.shape(x))} as {spec}"
        + (" donated" if i in program.donated else "")
        for i, (x, spec) in enumerate(zip(program.inputs, in_specs, strict=True))
    ]
    if out_shardings is not None:
        lines.append(f"results as {[str(s.spec) for s in jax.tree.leaves(out_shardings)]}")
    if program.steps > 1:
        lines.append(f"{program.steps} steps")
    if is_wide(number):
        lines.append("with jax_enable_x64")
    return Case(number, program, draw.mesh, in_specs, out_shardings, "\n".join(lines))
