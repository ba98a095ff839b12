#!/usr/bin/env python3
"""In which order a pipeline's units of work are dispatched: GPipe, 1F1B and interleaved 1F1B.

    for stage, micro_batch, backward in one_f_one_b(stages=4, micro_batches=8): ...

    python examples/pipeline_schedules.py --schedule 1f1b --stages 4 --micro-batches 8   # draws it

A unit is the forward or backward pass of one stage over one micro-batch. Stage `s` lives on mesh `s % meshes`; only
the interleaved schedule has more stages than meshes (`chunks` of them on each). A schedule is decided mesh by mesh, as
each mesh runs its units in one order; the list that comes out holds those orders merged, so that every unit comes after
all that it needs. Nothing here knows of JAX.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import NamedTuple


class Unit(NamedTuple):
    """One pass of one stage over one micro-batch."""

    stage: int
    micro_batch: int
    backward: bool


SCHEDULES = ("gpipe", "1f1b", "interleaved")
FORWARD_TICKS, BACKWARD_TICKS = 1, 2  # how long a unit takes, where it matters for the merged order


def make_schedule(name: str, meshes: int, micro_batches: int, chunks: int = 1) -> list[Unit]:
    """The schedule of that name. Raises ValueError where it cannot be had."""
    if min(meshes, micro_batches, chunks) < 1:
        raise ValueError("a pipeline needs at least one stage, one micro-batch and one chunk")
    if name != "interleaved" and chunks != 1:
        raise ValueError(f"{name} has one stage on each mesh; chunks are for the interleaved schedule")
    if name == "gpipe":
        return gpipe(meshes, micro_batches)
    if name == "1f1b":
        return one_f_one_b(meshes, micro_batches)
    if name == "interleaved":
        return interleaved(meshes, micro_batches, chunks)
    raise ValueError(f"{name!r} is no schedule; there are {', '.join(SCHEDULES)}")


def gpipe(stages: int, micro_batches: int) -> list[Unit]:
    """All micro-batches forward, then all backward. Simple; keeps what all of them need for the way back."""
    order = [Unit(0, m, backward) for backward in (False, True) for m in range(micro_batches)]
    return merged([[unit._replace(stage=stage) for unit in order] for stage in range(stages)])


def one_f_one_b(stages: int, micro_batches: int) -> list[Unit]:
    """As soon as a stage can go backward it does: stage `s` never keeps more than `stages - s` micro-batches."""
    return merged(
        [
            alternating(
                [Unit(stage, m, False) for m in range(micro_batches)],
                [Unit(stage, m, True) for m in range(micro_batches)],
                warm_up=stages - stage - 1,
            )
            for stage in range(stages)
        ]
    )


def interleaved(meshes: int, micro_batches: int, chunks: int) -> list[Unit]:
    """1F1B with `chunks` shorter stages on each mesh: the pipeline fills that much sooner, for more transfers.

    A mesh takes `meshes` micro-batches through its first chunk, then through its second, and so on.
    """
    if micro_batches % meshes:
        raise ValueError(
            f"interleaved wants micro-batches in multiples of its meshes; {micro_batches} of {meshes} are not"
        )
    orders = []
    for mesh in range(meshes):
        forward, backward = [], []
        for start in range(0, micro_batches, meshes):
            for chunk in range(chunks):
                group = range(start, start + meshes)
                forward += [Unit(mesh + chunk * meshes, m, False) for m in group]
                backward += [Unit(mesh + (chunks - 1 - chunk) * meshes, m, True) for m in group]
        orders.append(alternating(forward, backward, warm_up=2 * (meshes - mesh - 1) + (chunks - 1) * meshes))
    return merged(orders)


def alternating(forward: list[Unit], backward: list[Unit], warm_up: int) -> list[Unit]:
    """`warm_up` passes forward, then one forward and one backward in turn, then the rest backward."""
    warm_up = min(warm_up, len(forward))
    pairs = zip(forward[warm_up:], backward, strict=False)
    return [*forward[:warm_up], *(unit for pair in pairs for unit in pair), *backward[len(forward) - warm_up :]]


def needed_by(unit: Unit, stages: int) -> list[Unit]:
    """The units that have to come before this one: whose results it takes."""
    stage, micro_batch, backward = unit
    if not backward:
        return [Unit(stage - 1, micro_batch, False)] if stage else []
    own = Unit(stage, micro_batch, False)
    return [own, Unit(stage + 1, micro_batch, True)] if stage + 1 < stages else [own]


def timed(orders: Sequence[Sequence[Unit]]) -> dict[Unit, int]:
    """When each unit starts, in ticks, if every mesh runs its order and transfers take no time, first ones first.

    Raises ValueError if the orders wait for each other.
    """
    stages = 1 + max(unit.stage for order in orders for unit in order)
    starts: dict[Unit, int] = {}
    ends: dict[Unit, int] = {}
    done, free = [0] * len(orders), [0] * len(orders)
    while len(starts) < sum(map(len, orders)):
        ready = [
            (max([free[mesh], *(ends[needed] for needed in needed_by(order[done[mesh]], stages))]), mesh)
            for mesh, order in enumerate(orders)
            if done[mesh] < len(order) and all(needed in ends for needed in needed_by(order[done[mesh]], stages))
        ]
        if not ready:
            raise ValueError("the meshes' orders wait for each other: not a schedule")
        start, mesh = min(ready)
        unit = orders[mesh][done[mesh]]
        starts[unit] = start
        ends[unit] = free[mesh] = start + (BACKWARD_TICKS if unit.backward else FORWARD_TICKS)
        done[mesh] += 1
    return starts


def merged(orders: Sequence[Sequence[Unit]]) -> list[Unit]:
    """The meshes' orders as one: by when each unit would start."""
    return list(timed(orders))


def by_mesh(order: Sequence[Unit], meshes: int) -> list[list[Unit]]:
    """The order of each mesh in a merged one."""
    return [[unit for unit in order if unit.stage % meshes == mesh] for mesh in range(meshes)]


def most_kept(order: Sequence[Unit], of: Callable[[Unit], bool] = lambda unit: True) -> int:
    """How many forward passes, among those that `of` picks, wait for their backward pass at most."""
    kept = most = 0
    for unit in filter(of, order):
        kept += -1 if unit.backward else 1
        most = max(most, kept)
    return most


def ticks(order: Sequence[Unit], meshes: int) -> int:
    """How long all of it takes."""
    starts = timed(by_mesh(order, meshes))
    return max(start + (BACKWARD_TICKS if unit.backward else FORWARD_TICKS) for unit, start in starts.items())


def draw(order: Sequence[Unit], meshes: int) -> str:
    """A line for each mesh, a column for each tick: 3 is micro-batch 3 forward, (3) is backward; b3 in chunk b."""
    lines = [[""] * ticks(order, meshes) for _ in range(meshes)]
    chunks = 1 + max(unit.stage for unit in order) // meshes
    for (stage, micro_batch, backward), start in timed(by_mesh(order, meshes)).items():
        name = f"{chr(ord('a') + stage // meshes) if chunks > 1 else ''}{micro_batch}"
        for tick in range(start, start + (BACKWARD_TICKS if backward else FORWARD_TICKS)):
            lines[stage % meshes][tick] = f"({name})" if backward else name
    width = max(len(cell) for line in lines for cell in line)
    return "\n".join(
        f"mesh {mesh:2} |{' '.join(f'{cell:^{width}}' for cell in line)}|" for mesh, line in enumerate(lines)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedule", choices=SCHEDULES, default="1f1b")
    parser.add_argument("--stages", type=int, default=4, help="meshes; one stage lives on each, or --chunks of them")
    parser.add_argument("--chunks", type=int, default=2, help="stages on each mesh, of the interleaved schedule")
    parser.add_argument("--micro-batches", type=int, default=8)
    options = parser.parse_args()
    chunks = options.chunks if options.schedule == "interleaved" else 1
    try:
        order = make_schedule(options.schedule, options.stages, options.micro_batches, chunks)
    except ValueError as error:
        parser.error(str(error))
    # A pass over one chunk is that much shorter.
    busy = options.micro_batches * chunks * (FORWARD_TICKS + BACKWARD_TICKS) / ticks(order, options.stages)
    print(draw(order, options.stages))
    print(f"{ticks(order, options.stages) / chunks:g} times a stage's pass forward; {busy:.0%} of it busy")


if __name__ == "__main__":
    main()
