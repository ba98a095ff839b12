"""Schedules of pipelines: complete, in an order that can be run, and keeping and idling no more than they promise."""

from __future__ import annotations

import itertools

import pytest

from pipeline_schedules import (
    BACKWARD_TICKS,
    FORWARD_TICKS,
    Unit,
    by_mesh,
    draw,
    interleaved,
    make_schedule,
    merged,
    most_kept,
    one_f_one_b,
    ticks,
)

SIZES = [
    *((name, meshes, m, 1) for name in ("gpipe", "1f1b") for meshes in (1, 2, 3, 4, 8) for m in (1, 2, 3, 8, 13)),
    *(("interleaved", meshes, k * meshes, v) for meshes in (1, 2, 3, 4, 8) for k in (1, 2, 5) for v in (1, 2, 3)),
]


@pytest.mark.parametrize(("name", "meshes", "micro_batches", "chunks"), SIZES)
def test_every_unit_comes_once_and_after_what_it_needs(name: str, meshes: int, micro_batches: int, chunks: int) -> None:
    order = make_schedule(name, meshes, micro_batches, chunks)
    stages = meshes * chunks
    every = itertools.product(range(stages), range(micro_batches), (False, True))
    assert sorted(order) == sorted(Unit(*unit) for unit in every)

    position = {unit: number for number, unit in enumerate(order)}
    for stage, micro_batch in itertools.product(range(stages), range(micro_batches)):
        way = [(s, False) for s in range(stages)] + [(s, True) for s in reversed(range(stages))]
        there_and_back = [position[Unit(s, micro_batch, backward)] for s, backward in way]
        assert there_and_back == sorted(there_and_back)
        # Gradients are added in the same order whatever the schedule.
        backward = [position[Unit(stage, m, True)] for m in range(micro_batches)]
        assert backward == sorted(backward)


@pytest.mark.parametrize(("name", "meshes", "micro_batches", "chunks"), SIZES)
def test_meshes_idle_no_longer_than_the_schedule_says(name: str, meshes: int, micro_batches: int, chunks: int) -> None:
    """All idle for as long as a micro-batch takes through the other meshes' stages, there and back, and no longer."""
    order = make_schedule(name, meshes, micro_batches, chunks)
    assert ticks(order, meshes) == (micro_batches * chunks + meshes - 1) * (FORWARD_TICKS + BACKWARD_TICKS)


@pytest.mark.parametrize("micro_batches", [1, 3, 4, 16])
@pytest.mark.parametrize("stages", [1, 2, 4, 7])
def test_what_is_kept(stages: int, micro_batches: int) -> None:
    for stage in range(stages):
        in_stage = [unit for unit in one_f_one_b(stages, micro_batches) if unit.stage == stage]
        assert most_kept(in_stage) == min(stages - stage, micro_batches)
        in_stage = [unit for unit in make_schedule("gpipe", stages, micro_batches) if unit.stage == stage]
        assert most_kept(in_stage) == micro_batches


@pytest.mark.parametrize("chunks", [1, 2, 4])
@pytest.mark.parametrize("meshes", [2, 4])
def test_what_interleaving_keeps_does_not_grow_with_the_micro_batches(meshes: int, chunks: int) -> None:
    for micro_batches in (meshes, 2 * meshes, 16 * meshes):
        for mesh, order in enumerate(by_mesh(interleaved(meshes, micro_batches, chunks), meshes)):
            limit = 2 * (meshes - mesh - 1) + (chunks - 1) * meshes + 1
            assert most_kept(order) == min(limit, micro_batches * chunks)


def test_interleaving_puts_every_chunk_on_its_mesh_and_idles_less() -> None:
    order = interleaved(4, 8, 3)
    for mesh, units in enumerate(by_mesh(order, 4)):
        assert {unit.stage for unit in units} == {mesh, mesh + 4, mesh + 8}
    # A chunk is a third of a stage.
    assert ticks(order, 4) / 3 < ticks(one_f_one_b(4, 8), 4)


def test_drawing() -> None:
    assert draw(one_f_one_b(2, 2), 2).splitlines() == [
        "mesh  0 | 0   1          (0) (0)     (1) (1)|",
        "mesh  1 |     0  (0) (0)  1  (1) (1)        |",
    ]


def test_orders_that_wait_for_each_other_are_no_schedule() -> None:
    first = [Unit(0, 0, False), Unit(0, 0, True)]
    with pytest.raises(ValueError, match="wait for each other"):
        merged([first, [Unit(1, 0, True), Unit(1, 0, False)]])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("interleaved", 4, 6, 2), "multiples of its meshes"),
        (("1f1b", 4, 8, 2), "chunks are for the interleaved"),
        (("gpipe", 0, 8), "at least one stage"),
        (("zero-bubble", 2, 2), "no schedule; there are gpipe, 1f1b, interleaved"),
    ],
)
def test_what_cannot_be_had_is_refused(arguments: tuple, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make_schedule(*arguments)
