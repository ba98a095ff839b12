"""One program over the devices of several workers, and what happens to it when one of them dies."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster, RemoteError, alive, clean_environment, eventually, short_folder
from jax import lax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from causeway.binary import find_binary

# A lost worker is known by its closed connection. This is far more than that takes, for a busy machine.
SOON_S = 20
WORKERS = {"2 islands x 2 workers": {"islands": 2, "hosts": 2}, "4 workers": {"islands": 1, "hosts": 4}}


@pytest.fixture(scope="module", params=WORKERS)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """Four workers with two devices each."""
    with short_folder() as path, Cluster.up(path, devices=2, **WORKERS[request.param]) as running:
        yield running


@pytest.fixture(scope="module")
def spmd(cluster: Cluster) -> Iterator[Client]:
    """A client of it, shared by tests that leave it as it was."""
    with Client(cluster.client_address, cluster.folder) as process:
        yield process


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def line(*positions: int) -> Mesh:
    """A mesh of one axis over these devices, all if none is named."""
    devices = jax.devices()
    return Mesh(np.array([devices[i] for i in positions or range(len(devices))]), ("x",))


def put(array: np.ndarray, mesh: Mesh, *spec: str | None) -> jax.Array:
    return jax.device_put(array, NamedSharding(mesh, P(*spec)))


def averaging(mesh: Mesh):
    """Each device's numbers become the mean of all; exact for what the tests put in."""
    count = mesh.size

    def average(x: jax.Array) -> jax.Array:
        return lax.psum(x, "x") * (1 / count)

    return jax.jit(jax.shard_map(average, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))


def expect_full_mesh_works() -> None:
    mesh = line()
    x = numbers(16, 3)
    np.testing.assert_array_equal(np.asarray(jax.jit(lambda x: x.sum(0))(put(x, mesh, "x"))), x.sum(0))


# ---------------------------------------------------------------- results


def test_a_product_over_all_devices_is_that_of_numpy(spmd: Client) -> None:
    @spmd.run
    def _() -> None:
        mesh = jax.make_mesh((4, 2), ("rows", "columns"), axis_types=(AxisType.Auto,) * 2)
        rng = np.random.default_rng(0)
        a, b = (rng.standard_normal((64, 64)).astype(np.float32) for _ in range(2))
        product = jax.jit(jnp.matmul, out_shardings=NamedSharding(mesh, P("rows", "columns")))
        c = product(put(a, mesh, "rows", "columns"), put(b, mesh, "columns", "rows"))
        assert c.sharding.device_set == set(jax.devices())
        np.testing.assert_allclose(np.asarray(c), a @ b, rtol=1e-4, atol=1e-4)


def test_a_sum_over_all_devices_is_on_all_of_them(spmd: Client) -> None:
    @spmd.run
    def _() -> None:
        mesh = line()
        x = numbers(8, 4)
        total = jax.jit(jax.shard_map(lambda x: lax.psum(x[0], "x"), mesh=mesh, in_specs=P("x"), out_specs=P()))
        y = total(put(x, mesh, "x"))
        assert len(y.addressable_shards) == 8
        for shard in y.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), x.sum(0))


def test_ten_thousand_sums_that_nobody_waits_for(spmd: Client) -> None:
    """More than may be in flight, each of which needs all workers: they do not deadlock, and none is lost."""

    def sums(count: int) -> np.ndarray:
        mesh = line()

        def step(x: jax.Array) -> jax.Array:
            return lax.psum(x, "x") * (1 / 8) + 1

        program = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))
        x = put(numbers(32), mesh, "x")
        for _ in range(count):
            x = program(x)
        return np.asarray(x)

    expected = np.tile(numbers(8, 4).mean(0), 8) + 10_000
    np.testing.assert_array_equal(spmd.call(sums, 10_000, limit_s=240), expected)


def test_programs_of_different_devices_beside_each_other(spmd: Client) -> None:
    """Gangs that share some devices are in the same order on all of them."""

    @spmd.run
    def _() -> None:
        meshes = [line(*positions) for positions in ((0, 2, 4, 6), (1, 3, 5, 7), (6, 5, 1, 2), (0, 7))]
        programs = [averaging(mesh) for mesh in meshes]
        inputs = [put(numbers(mesh.size * 2), mesh, "x") for mesh in meshes]
        arrays = list(inputs)
        for _ in range(200):
            arrays = [program(x) for program, x in zip(programs, arrays, strict=True)]
        for mesh, array in zip(meshes, arrays, strict=True):
            expected = np.tile(numbers(mesh.size, 2).mean(0), mesh.size)
            np.testing.assert_array_equal(np.asarray(array), expected)


def test_a_mesh_in_any_order(spmd: Client) -> None:
    @spmd.run
    def _() -> None:
        order = (5, 0, 7, 2, 3, 6, 1, 4)
        mesh = line(*order)
        x = numbers(8, 4)
        around = [(i, (i + 1) % 8) for i in range(8)]
        program = jax.jit(
            jax.shard_map(
                lambda x: (lax.ppermute(x, "x", around), lax.all_gather(x, "x", tiled=True), lax.axis_index("x")[None]),
                mesh=mesh,
                in_specs=P("x"),
                out_specs=(P("x"), P("x"), P("x")),
                check_vma=False,
            )
        )
        shifted, gathered, indices = program(put(x, mesh, "x"))
        np.testing.assert_array_equal(np.asarray(shifted), np.roll(x, 1, 0))
        np.testing.assert_array_equal(np.asarray(gathered), np.tile(x, (8, 1)))
        np.testing.assert_array_equal(np.asarray(indices), np.arange(8))
        places = {shard.device: int(shard.data[0]) for shard in indices.addressable_shards}
        assert places == {jax.devices()[device]: place for place, device in enumerate(order)}


def test_the_same_program_gives_the_same_bits(spmd: Client) -> None:
    @spmd.run
    def _() -> None:
        mesh = line()
        x = np.random.default_rng(1).standard_normal((1024, 257)).astype(np.float32)
        program = jax.jit(lambda x: (jnp.tanh(x).sum(0), jnp.linalg.norm(x), x.T @ x))
        placed = put(x, mesh, "x")
        results = [[np.asarray(y).tobytes() for y in program(placed)] for _ in range(5)]
        assert all(result == results[0] for result in results)


def test_pmap(spmd: Client) -> None:
    @spmd.run
    def _() -> None:
        x = numbers(8, 3)
        result = jax.pmap(lambda x: x - lax.pmean(x, "i"), axis_name="i")(x)
        np.testing.assert_array_equal(np.asarray(result), x - x.mean(0))


def test_a_replicated_result_is_one_array(spmd: Client) -> None:
    @spmd.run
    def _() -> None:
        mesh = line()
        everywhere = jax.jit(lambda x: x * 2, out_shardings=NamedSharding(mesh, P()))
        y = everywhere(put(numbers(16, 5), mesh, "x"))
        assert y.is_fully_replicated
        np.testing.assert_array_equal(np.asarray(y), numbers(16, 5) * 2)


def test_exchanges_of_uneven_parts(spmd: Client) -> None:
    """Stock JAX has no ragged_all_to_all on the CPU, so it is compared with what it is to mean."""

    @spmd.run
    def _() -> None:
        mesh, rows = line(), 3
        # How many rows each device sends each, from the start of the part for it; they arrive in the sender's part.
        sizes = np.random.default_rng(0).integers(0, rows + 1, (8, 8)).astype(np.int32)
        starts = np.arange(8, dtype=np.int32) * rows

        def exchange(x: jax.Array) -> jax.Array:
            me = lax.axis_index("x")
            table = jnp.asarray(sizes)
            there = jnp.full(8, me * rows, jnp.int32)
            empty = jnp.full(x.shape, -1, x.dtype)
            return lax.ragged_all_to_all(x, empty, jnp.asarray(starts), table[me], there, table[:, me], axis_name="x")

        program = jax.jit(jax.shard_map(exchange, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))
        x = numbers(8 * 8 * rows, 2)
        sent = x.reshape(8, 8, rows, 2)
        expected = np.full_like(sent, -1)
        for source in range(8):
            for target in range(8):
                count = sizes[source, target]
                expected[target, source, :count] = sent[source, target, :count]
        np.testing.assert_array_equal(np.asarray(program(put(x, mesh, "x"))), expected.reshape(x.shape))


def test_reductions_of_bits(spmd: Client) -> None:
    """Stock JAX refuses these on the CPU where they cross devices."""

    @spmd.run
    def _() -> None:
        x = np.random.default_rng(0).integers(0, 1 << 30, (16, 5)).astype(np.int32)
        placed = put(x, line(), "x")
        for operation in (np.bitwise_xor, np.bitwise_and, np.bitwise_or):
            reduce = jax.jit(lambda x, name=operation.__name__: getattr(jnp, name).reduce(x, axis=0))
            np.testing.assert_array_equal(np.asarray(reduce(placed)), operation.reduce(x, axis=0))


def test_what_cannot_be_done_is_refused_by_name(spmd: Client) -> None:
    """A reduction by a function of one's own: stock JAX refuses it on the CPU too."""

    def odd_reduction() -> None:
        x = put(numbers(16), line(), "x")
        reduce = jax.jit(lambda x: lax.reduce(x, np.float32(0), lambda a, b: a + b + a * b, (0,)))
        reduce(x).block_until_ready()

    with pytest.raises(RemoteError, match=r"UNIMPLEMENTED: .*all-reduce"):
        spmd.call(odd_reduction)
    spmd.call(expect_full_mesh_works)


def test_the_status_shows_programs(cluster: Cluster, spmd: Client) -> None:
    def run_named(kept: dict) -> None:
        def a_name_of_its_own(x: jax.Array) -> jax.Array:
            return x.sum()

        kept["named"] = jax.jit(a_name_of_its_own)  # a program that nobody has any more is not shown
        float(kept["named"](put(numbers(16), line(), "x")))

    spmd.call(run_named)
    done = subprocess.run(
        [str(find_binary()), "status", "--programs", "--controller", cluster.control_address],
        capture_output=True,
        text=True,
        timeout=20,
        env=clean_environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "a_name_of_its_own" in done.stdout


# ---------------------------------------------------------------- loss


def average_until_it_fails(kept: dict) -> None:
    """Sums over all devices, a few in flight, until one says why not."""
    mesh = line()
    program = averaging(mesh)
    x = put(numbers(32), mesh, "x")
    kept["elsewhere"] = put(numbers(8), line(0, 1, 4, 5), "x")
    x = program(x).block_until_ready()
    kept["running"] = True
    try:
        while True:
            for _ in range(20):
                x = program(x)
            x.block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        kept["error"] = str(error)
        kept["failed_at"] = time.monotonic()


@pytest.mark.parametrize("workers", WORKERS.values(), ids=WORKERS)
def test_a_worker_that_dies_in_the_middle_of_sums(folder: Path, workers: dict[str, int]) -> None:
    with (
        Cluster.up(folder, devices=2, **workers) as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        before = cluster.workers()
        pids = [worker["pid"] for worker in before]
        client.start(average_until_it_fails)
        eventually(lambda: any(s["launches"] > 100 for s in cluster.status()["sessions"]), "sums run")
        killed_at = time.monotonic()
        cluster.kill_worker(1)
        client.result(limit_s=SOON_S)
        assert time.monotonic() - killed_at < SOON_S

        def outcome(kept: dict) -> str:
            return kept["error"]

        assert "DATA_LOSS" in client.call(outcome)

        def others_go_on(kept: dict) -> None:
            # What lies on the other workers is there, and programs over several of them run.
            mesh = line(0, 1, 4, 5)
            np.testing.assert_array_equal(np.asarray(kept["elsewhere"]), numbers(8))
            np.testing.assert_array_equal(
                np.asarray(averaging(mesh)(kept["elsewhere"])), np.tile(numbers(4, 2).mean(0), 4)
            )
            rest = line(6, 7)
            np.testing.assert_array_equal(
                np.asarray(averaging(rest)(put(numbers(4), rest, "x"))), np.tile(numbers(2, 2).mean(0), 2)
            )

        client.call(others_go_on)
        assert all(alive(pid) for i, pid in enumerate(pids) if i != 1)

        eventually(lambda: all(worker["alive"] for worker in cluster.workers()), "the worker is back", 60)
        after = [worker["pid"] for worker in cluster.workers()]
        assert [pid for i, pid in enumerate(after) if i != 1] == [pid for i, pid in enumerate(pids) if i != 1]
        assert after[1] != pids[1]
        client.call(expect_full_mesh_works)


def test_a_worker_that_dies_while_nobody_waits(folder: Path) -> None:
    """The launches that were enqueued fail; whoever asks for any of their results is told."""
    with (
        Cluster.up(folder, hosts=4, devices=2) as cluster,
        Client(cluster.client_address, folder) as client,
    ):

        def enqueue(kept: dict) -> None:
            mesh = line()

            def slow(x: jax.Array) -> jax.Array:
                return lax.fori_loop(0, 300, lambda _, x: lax.pmean(jnp.tanh(x @ x), "x"), x)

            program = jax.jit(jax.shard_map(slow, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))
            x = put(np.ones((8 * 64, 64), np.float32), mesh, "x")
            kept["x"] = [x := program(x) for _ in range(40)][-1]

        client.call(enqueue)
        cluster.kill_worker(2)

        def error_of(kept: dict) -> str:
            with pytest.raises(jax.errors.JaxRuntimeError) as caught:
                kept["x"].block_until_ready()
            return str(caught.value)

        assert "DATA_LOSS" in client.call(error_of, limit_s=60)
        eventually(lambda: all(worker["alive"] for worker in cluster.workers()), "the worker is back", 60)
        client.call(expect_full_mesh_works)


def test_a_client_that_dies_in_the_middle_of_sums_leaves_nothing(folder: Path) -> None:
    with (
        Cluster.up(folder, hosts=4, devices=2) as cluster,
        Client(cluster.client_address, folder, "survivor") as survivor,
    ):
        survivor.call(expect_full_mesh_works)
        pids = [worker["pid"] for worker in cluster.workers()]
        with Client(cluster.client_address, folder, "victim") as victim:
            victim.start(average_until_it_fails)
            eventually(
                lambda: (session := cluster.session_of(victim)) and session["launches"] > 100, "the victim's sums run"
            )
            victim.kill()
        eventually(lambda: cluster.session_of(victim) is None, "its session ends")
        survivor.call(expect_full_mesh_works)
        eventually(lambda: cluster.device_buffers() == 0, "its buffers are freed")
        assert [worker["pid"] for worker in cluster.workers()] == pids
