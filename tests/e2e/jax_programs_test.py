"""What ordinary JAX programs do, each thing once, on one worker with 8 devices. Results are checked against NumPy."""

from __future__ import annotations

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster, RemoteError, eventually
from jax.experimental.layout import Format, Layout
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P


def mesh(*shape: int) -> jax.sharding.Mesh:
    """All devices as a mesh with axes a, b, …"""
    return jax.make_mesh(shape, tuple("abc"[: len(shape)]), axis_types=(AxisType.Auto,) * len(shape))


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


# ---------------------------------------------------------------- devices


def test_the_cluster_is_one_process_with_all_devices(client: Client) -> None:
    @client.run
    def _() -> None:
        assert jax.device_count() == jax.local_device_count() == 8
        assert jax.process_count() == 1
        assert jax.default_backend() == "cpu"
        assert len({device.id for device in jax.devices()}) == 8


def test_devices_are_found_by_the_name_of_their_platform_too(client: Client) -> None:
    @client.run
    def _() -> None:
        assert jax.devices("cpu") == jax.devices("causeway") == jax.devices()


def test_the_program_knows_which_cluster_it_is_on(client: Client, one_worker: Cluster) -> None:
    def address() -> str | None:
        import causeway

        return causeway.address()

    assert client.call(address) == f"grpc://{one_worker.client_address}"


# ---------------------------------------------------------------- transformations


def test_jit(client: Client) -> None:
    @client.run
    def _() -> None:
        f = jax.jit(lambda x, y: (x @ y, {"sum": x.sum()}))
        product, rest = f(numbers(3, 4), numbers(4, 2))
        np.testing.assert_allclose(product, numbers(3, 4) @ numbers(4, 2))
        assert float(rest["sum"]) == numbers(3, 4).sum()


def test_jit_of_no_arguments_and_of_no_results(client: Client) -> None:
    @client.run
    def _() -> None:
        assert jax.jit(lambda: jnp.float32(7))() == 7
        assert jax.jit(lambda x: ())(1.0) == ()


def test_a_program_runs_often_and_one_result_feeds_the_next(client: Client) -> None:
    @client.run
    def _() -> None:
        x = jnp.zeros(4)
        add = jax.jit(lambda x: x + 1)
        for _ in range(500):
            x = add(x)
        np.testing.assert_array_equal(x, np.full(4, 500))


def test_grad_vmap_and_scan_together(client: Client) -> None:
    @client.run
    def _() -> None:
        def loss(w: jax.Array, xs: jax.Array) -> jax.Array:
            return jax.lax.scan(lambda c, x: (jnp.tanh(c * w + x), None), 0.0, xs)[0]

        def slope(w: float, xs: np.ndarray, h: float = 1e-3) -> float:
            def forward(w: float) -> float:
                return functools.reduce(lambda c, x: np.tanh(c * w + x), xs, 0.0)

            return (forward(w + h) - forward(w - h)) / (2 * h)

        xs = np.linspace(-1, 1, 12).reshape(3, 4)
        ours = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(0.5, xs.astype(np.float32))
        np.testing.assert_allclose(ours, [slope(0.5, row) for row in xs], rtol=1e-3)


def test_control_flow_on_the_device(client: Client) -> None:
    @client.run
    def _() -> None:
        @jax.jit
        def collatz(n: jax.Array) -> jax.Array:
            def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
                n, count = state
                return jax.lax.cond(n % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, n), count + 1

            return jax.lax.while_loop(lambda state: state[0] != 1, step, (n, 0))[1]

        assert int(collatz(27)) == 111


def test_random_numbers_are_those_of_stock_jax(client: Client) -> None:
    @client.run
    def _() -> None:
        # What stock JAX on CPU says.
        bits = jax.random.bits(jax.random.key(0), (3,), jnp.uint32)
        np.testing.assert_array_equal(bits, [4070199207, 4202968722, 1427181096])
        np.testing.assert_array_equal(jax.random.permutation(jax.random.key(1), 8), [7, 6, 3, 2, 0, 1, 5, 4])


def test_linear_algebra(client: Client) -> None:
    @client.run
    def _() -> None:
        a = np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32)
        a = a @ a.T + 6 * np.eye(6, dtype=np.float32)
        np.testing.assert_allclose(jnp.linalg.solve(a, a[0]), np.linalg.solve(a, a[0]), atol=1e-4)
        factor = np.asarray(jnp.linalg.cholesky(a))
        np.testing.assert_allclose(factor @ factor.T, a, rtol=1e-4)
        np.testing.assert_allclose(jnp.linalg.eigvalsh(a), np.linalg.eigvalsh(a), rtol=1e-4)
        np.testing.assert_allclose(jnp.linalg.svd(a)[1], np.linalg.svd(a)[1], rtol=1e-4)


# ---------------------------------------------------------------- several devices


def test_a_program_is_partitioned_over_a_mesh(client: Client) -> None:
    @client.run
    def _() -> None:
        grid = mesh(4, 2)
        x = jax.device_put(numbers(8, 16), NamedSharding(grid, P("a", "b")))
        w = jax.device_put(numbers(16, 6), NamedSharding(grid, P("b", None)))
        y = jax.jit(lambda x, w: x @ w, out_shardings=NamedSharding(grid, P("a")))(x, w)
        assert len(y.sharding.device_set) == 8
        np.testing.assert_allclose(y, numbers(8, 16) @ numbers(16, 6))


def test_shard_map_and_its_collectives(client: Client) -> None:
    @client.run
    def _() -> None:
        ring = [(i, (i + 1) % 8) for i in range(8)]

        @jax.jit
        @functools.partial(jax.shard_map, mesh=mesh(8), in_specs=P("a"), out_specs=(P(), P("a"), P("a"), P("a")))
        def collectives(x: jax.Array) -> tuple[jax.Array, ...]:
            gathered = jax.lax.all_gather(x, "a", tiled=True)
            return (
                jax.lax.psum(x.sum(), "a"),
                jax.lax.ppermute(x, "a", ring),
                jax.lax.psum_scatter(gathered, "a", tiled=True),
                x + jax.lax.axis_index("a"),
            )

        x = numbers(16)
        total, shifted, scattered, numbered = collectives(x)
        assert float(total) == x.sum()
        np.testing.assert_array_equal(shifted, np.roll(x, 2))
        np.testing.assert_array_equal(scattered, 8 * x)
        np.testing.assert_array_equal(numbered, x + np.repeat(np.arange(8), 2))


def test_pmap(client: Client) -> None:
    @client.run
    def _() -> None:
        y = jax.pmap(lambda x: x / jax.lax.psum(x, "i"), axis_name="i")(numbers(8, 3) + 1)
        np.testing.assert_allclose(y, (numbers(8, 3) + 1) / (numbers(8, 3) + 1).sum(0), rtol=1e-6)


def test_many_collective_launches_without_waiting(client: Client) -> None:
    """Stock JAX hangs here once its thread pool is full of launches that wait for each other."""

    @client.run
    def _() -> None:
        x = jax.device_put(np.ones(8, np.float32), NamedSharding(mesh(8), P("a")))
        mean = jax.jit(
            jax.shard_map(lambda x: jax.lax.pmean(x, "a") + 1, mesh=mesh(8), in_specs=P("a"), out_specs=P("a"))
        )
        for _ in range(300):
            x = mean(x)
        np.testing.assert_array_equal(x, np.full(8, 301))


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int4", "int8", "uint16", "int32", "float16", "bfloat16", "float32", "complex64", "float8_e4m3fn"],
)
def test_arrays_come_back_as_they_went(client: Client, dtype: str) -> None:
    def round_trip(dtype: str) -> None:
        x = (numbers(4, 6) % 2).astype(jnp.dtype(dtype))
        for sharding in (jax.devices()[5], NamedSharding(mesh(4, 2), P("a", "b")), NamedSharding(mesh(8), P())):
            y = jax.device_put(x, sharding)
            assert y.dtype == x.dtype
            np.testing.assert_array_equal(np.asarray(y), x)

    client.call(round_trip, dtype)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (7, 5, 3)])
def test_arrays_of_any_shape(client: Client, shape: tuple[int, ...]) -> None:
    def round_trip(shape: tuple[int, ...]) -> None:
        x = np.full(shape, 3, np.int32)
        np.testing.assert_array_equal(np.asarray(jnp.asarray(x) + 1), x + 1)

    client.call(round_trip, shape)


def test_arrays_larger_than_a_chunk(client: Client) -> None:
    @client.run
    def _() -> None:
        x = np.random.default_rng(0).standard_normal((3000, 2001)).astype(np.float32)
        np.testing.assert_array_equal(np.asarray(jax.device_put(x, jax.devices()[3])), x)
        np.testing.assert_array_equal(np.asarray(jax.device_put(x, NamedSharding(mesh(8), P("a")))), x)


def test_transposed_host_arrays(client: Client) -> None:
    @client.run
    def _() -> None:
        np.testing.assert_array_equal(np.asarray(jnp.asarray(numbers(5, 7).T) * 2), numbers(5, 7).T * 2)


def test_copies_between_devices_and_shardings(client: Client) -> None:
    @client.run
    def _() -> None:
        x = numbers(8, 8)
        y = jax.device_put(x, jax.devices()[0])
        grid = mesh(2, 4)
        for target in (
            jax.devices()[7],
            NamedSharding(grid, P("a", "b")),
            NamedSharding(grid, P("b")),
            NamedSharding(grid, P(None, ("a", "b"))),
            NamedSharding(grid, P()),
            jax.devices()[1],
        ):
            y = jax.device_put(y, target)
            np.testing.assert_array_equal(np.asarray(y), x)


def test_moves_to_a_mesh_with_its_devices_in_another_order(client: Client) -> None:
    @client.run
    def _() -> None:
        backwards = jax.sharding.Mesh(np.array(jax.devices())[::-1].reshape(4, 2), ("a", "b"))
        x = jax.device_put(numbers(8, 2), NamedSharding(mesh(2, 4), P("a")))  # two parts, four copies of each
        y = jax.device_put(x, NamedSharding(backwards, P("a")))
        np.testing.assert_array_equal(np.asarray(y), numbers(8, 2))
        on_device_0 = next(shard for shard in y.addressable_shards if shard.device == jax.devices()[0])
        np.testing.assert_array_equal(np.asarray(on_device_0.data), numbers(8, 2)[6:])
        np.testing.assert_array_equal(np.asarray(jax.jit(lambda y: y + 1)(y)), numbers(8, 2) + 1)


def test_shards_are_arrays_of_their_own_and_make_arrays_again(client: Client) -> None:
    @client.run
    def _() -> None:
        x = jax.device_put(numbers(8, 2), NamedSharding(mesh(8), P("a")))
        shards = [shard.data for shard in x.addressable_shards]
        for number, shard in enumerate(shards):
            np.testing.assert_array_equal(np.asarray(shard), numbers(8, 2)[number : number + 1])
        again = jax.make_array_from_single_device_arrays(x.shape, x.sharding, shards)
        np.testing.assert_array_equal(np.asarray(again + 1), numbers(8, 2) + 1)


def test_a_donated_argument_is_gone(client: Client) -> None:
    @client.run
    def _() -> None:
        x = jax.device_put(numbers(64), jax.devices()[2])
        y = jax.jit(lambda x: x + 1, donate_argnums=0)(x)
        assert x.is_deleted()
        np.testing.assert_array_equal(y, numbers(64) + 1)


def test_an_argument_that_was_donated_for_nothing_is_there(client: Client) -> None:
    @client.run
    def _() -> None:
        x = jax.device_put(numbers(8, 2), NamedSharding(mesh(8), P("a")))
        jax.jit(lambda x: x @ x.T, donate_argnums=0)(x)  # nothing of the result's shape to reuse
        assert not x.is_deleted()
        np.testing.assert_array_equal(np.asarray(x), numbers(8, 2))


def test_a_deleted_array_says_so(client: Client) -> None:
    @client.run
    def _() -> None:
        x = jnp.arange(3)
        x.delete()
        assert x.is_deleted()
        with pytest.raises(RuntimeError, match="deleted"):
            np.asarray(x)


def test_deleted_arrays_are_freed_in_the_workers(folder: Path) -> None:
    def make(kept: dict) -> None:
        kept["x"] = [jax.device_put(numbers(100, 100), device) for device in jax.devices()]

    def drop(kept: dict) -> None:
        for x in kept["x"]:
            x.delete()

    with Cluster.up(folder, devices=2) as cluster, Client(cluster.client_address, folder) as client:
        client.call(make)
        eventually(lambda: cluster.device_bytes() == 2 * 40_000, "the arrays show in the workers' accounts")
        client.call(drop)
        eventually(lambda: cluster.device_bytes() == 0, "the arrays are gone from the workers' accounts")


def test_memory_kinds(client: Client) -> None:
    @client.run
    def _() -> None:
        device = jax.devices()[0]
        kinds = {memory.kind for memory in device.addressable_memories()}
        assert device.default_memory().kind in kinds
        for kind in kinds:
            x = jax.device_put(numbers(16), jax.sharding.SingleDeviceSharding(device, memory_kind=kind))
            assert x.sharding.memory_kind == kind
            np.testing.assert_array_equal(np.asarray(x), numbers(16))


def test_layouts(client: Client) -> None:
    @client.run
    def _() -> None:
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        column_major = Format(Layout(major_to_minor=(1, 0)), sharding)
        y = jax.jit(lambda x: x * 2, out_shardings=column_major)(numbers(3, 5))
        assert y.format.layout.major_to_minor == (1, 0)
        np.testing.assert_array_equal(np.asarray(y), numbers(3, 5) * 2)


# ---------------------------------------------------------------- asynchrony and errors


def test_dispatch_does_not_wait_for_the_device(client: Client) -> None:
    """A launch is accepted while the one before it is running, so the last result is not ready when it is returned."""

    @client.run
    def _() -> None:
        slow = jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda _, x: jnp.tanh(x @ x), x))
        x = jax.block_until_ready(slow(jnp.ones((400, 400))))
        for _ in range(5):
            x = slow(x)
        assert not x.is_ready()
        x.block_until_ready()
        assert x.is_ready()


def test_what_cannot_be_compiled_is_an_error_and_nothing_else(client: Client) -> None:
    @client.run
    def _() -> None:
        call = jax.ffi.ffi_call("no_such_target", jax.ShapeDtypeStruct((2,), np.float32))
        with pytest.raises(jax.errors.JaxRuntimeError, match="no_such_target"):
            jax.jit(call)(np.ones(2, np.float32))
        assert float(jnp.ones(3).sum()) == 3


def test_host_callbacks_are_refused_by_the_client_and_harm_nothing(client: Client) -> None:
    def call_back() -> None:
        jax.jit(lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), np.float32), x))(np.float32(1))

    with pytest.raises(RemoteError, match=r"(?i)callback"):
        client.call(call_back)
    assert client.call(lambda: float(jnp.ones(3).sum())) == 3


def test_a_program_can_be_looked_at(client: Client) -> None:
    @client.run
    def _() -> None:
        compiled = jax.jit(lambda x: x @ x).lower(numbers(8, 8)).compile()
        assert compiled.memory_analysis().output_size_in_bytes == 8 * 8 * 4
        assert "f32[8,8]" in compiled.as_text()
        assert compiled.cost_analysis()["flops"] == 2 * 8 * 8 * 8
