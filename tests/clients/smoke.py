"""What a client of any version must be able to do, one thing a case; results are checked against NumPy.

    JAX_PLATFORMS=causeway CAUSEWAY_ADDRESS=unix:/tmp/x/client.sock build/clients/0.8.3/bin/python smoke.py [CASE…]

This runs in the client's own environment, where there is nothing but JAX and what JAX needs, and uses only what jax of
every version in the window has. The cluster has two workers with the same number of devices. Each case writes a line
when it begins and one when it ends, so that whoever reads them knows in which case a process died:

    {"begin": "jit"}
    {"end": "jit", "error": null}
"""

from __future__ import annotations

import functools
import json
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.layout import Format, Layout
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

CASES: dict[str, Callable[[], None]] = {}


def case(function: Callable[[], None]) -> Callable[[], None]:
    """Registers a case. Its docstring is its line in docs/COMPATIBILITY.md."""
    CASES[function.__name__] = function
    return function


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def workers() -> tuple[list[jax.Device], list[jax.Device]]:
    """The devices of the one worker and of the other: programs run on one of them."""
    half = jax.device_count() // 2
    return jax.devices()[:half], jax.devices()[half:]


def mesh(*shape: int) -> Mesh:
    """The first worker's devices with axes a, b, …"""
    return Mesh(np.array(workers()[0]).reshape(shape or -1), tuple("abc"[: max(1, len(shape))]))


def expect_error(text: str, function: Callable[[], object]) -> None:
    """Runs `function`, which must raise an error that matches `text`."""
    try:
        function()
    except RuntimeError as error:
        if not re.search(text, str(error)):
            raise AssertionError(f"the error does not say {text!r}: {error}") from error
        return
    raise AssertionError(f"no error; wanted one that says {text!r}")


# ---------------------------------------------------------------- devices and programs


@case
def devices() -> None:
    """list devices, their workers and their memories"""
    assert jax.process_count() == 1
    assert jax.default_backend() == jax.devices()[0].platform == "cpu"
    assert len({device.id for device in jax.devices()}) == jax.device_count()
    assert len({device.virtual_task_index for device in jax.devices()}) == 2
    for device in jax.devices():
        assert device.default_memory() in device.addressable_memories()


@case
def jit() -> None:
    """`jit`, called again with other arguments, no arguments, no results"""
    f = jax.jit(lambda x, y: (x @ y, {"sum": x.sum()}))
    for k in range(3):
        product, rest = f(numbers(3, 4) + k, numbers(4, 2))
        np.testing.assert_allclose(product, (numbers(3, 4) + k) @ numbers(4, 2))
        assert float(rest["sum"]) == (numbers(3, 4) + k).sum()
    assert jax.jit(lambda: jnp.float32(7))() == 7
    assert jax.jit(lambda x: ())(1.0) == ()


@case
def grad() -> None:
    """`grad`, `vmap`, `jvp`"""
    ours = jax.jit(jax.vmap(jax.grad(lambda w, x: jnp.tanh(w * x) ** 2), (None, 0)))(0.5, numbers(5))
    t = np.tanh(0.5 * numbers(5))
    np.testing.assert_allclose(ours, 2 * t * (1 - t**2) * numbers(5), rtol=1e-4, atol=1e-6)
    value, slope = jax.jvp(jnp.sin, (jnp.float32(0.3),), (jnp.float32(2),))
    np.testing.assert_allclose([value, slope], [np.sin(0.3), 2 * np.cos(0.3)], rtol=1e-5)


@case
def control_flow() -> None:
    """`scan`, `cond`, `while_loop`, `switch`"""

    @jax.jit
    def collatz(n: jax.Array) -> jax.Array:
        def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            n, count = state
            return jax.lax.cond(n % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, n), count + 1

        return jax.lax.while_loop(lambda state: state[0] != 1, step, (n, 0))[1]

    assert int(collatz(27)) == 111
    total, partial = jax.jit(lambda xs: jax.lax.scan(lambda c, x: (c + x, c), jnp.float32(0), xs))(numbers(6))
    assert float(total) == 15
    np.testing.assert_array_equal(partial, [0, 0, 1, 3, 6, 10])
    switched = jax.jit(lambda i, x: jax.lax.switch(i, [lambda x: x, lambda x: -x, lambda x: x * 2], x))
    assert [float(switched(i, jnp.float32(3))) for i in range(3)] == [3, -3, 6]


@case
def operations() -> None:
    """sort, gather, scatter, convolution, FFT, cumulative sums, reductions, integers and bits"""
    x = np.random.default_rng(0).standard_normal((4, 9)).astype(np.float32)
    np.testing.assert_array_equal(jnp.sort(x, axis=1), np.sort(x, axis=1))
    np.testing.assert_array_equal(jax.lax.top_k(x, 3)[0], -np.sort(-x, axis=1)[:, :3])
    np.testing.assert_array_equal(jnp.take(x, np.array([3, 1]), axis=0), x[[3, 1]])
    np.testing.assert_array_equal(jnp.zeros(5).at[np.array([1, 1, 4])].add(1.0), [0, 2, 0, 0, 1])
    kernel = np.array([1, 2, -1], np.float32)
    np.testing.assert_allclose(jnp.convolve(x[0], kernel), np.convolve(x[0], kernel), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(jnp.fft.fft(x), np.fft.fft(x), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(jnp.cumsum(x, 1), np.cumsum(x, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(jnp.argmax(x, axis=1), x.argmax(1))
    np.testing.assert_array_equal(jax.lax.population_count(np.arange(9, dtype=np.int32)), [0, 1, 1, 2, 1, 2, 2, 3, 1])
    np.testing.assert_array_equal(jax.lax.dynamic_slice(x, (1, 2), (2, 3)), x[1:3, 2:5])


@case
def random() -> None:
    """random numbers are those of stock JAX, with either generator"""
    bits = jax.random.bits(jax.random.key(0), (3,), jnp.uint32)
    np.testing.assert_array_equal(bits, [4070199207, 4202968722, 1427181096])
    np.testing.assert_array_equal(jax.random.permutation(jax.random.key(1), 8), [7, 6, 3, 2, 0, 1, 5, 4])
    normal = np.asarray(jax.random.normal(jax.random.key(2, impl="rbg"), (2000,)))
    assert abs(normal.mean()) < 0.2
    assert abs(normal.std() - 1) < 0.2


@case
def linear_algebra() -> None:
    """solve, Cholesky, QR, SVD, eigenvalues (LAPACK in the worker)"""
    a = np.random.default_rng(0).standard_normal((6, 6)).astype(np.float32)
    a = a @ a.T + 6 * np.eye(6, dtype=np.float32)
    np.testing.assert_allclose(jnp.linalg.solve(a, a[0]), np.linalg.solve(a, a[0]), atol=1e-4)
    factor = np.asarray(jnp.linalg.cholesky(a))
    np.testing.assert_allclose(factor @ factor.T, a, rtol=1e-4)
    q, r = jnp.linalg.qr(a)
    np.testing.assert_allclose(np.asarray(q) @ np.asarray(r), a, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(jnp.linalg.eigvalsh(a), np.linalg.eigvalsh(a), rtol=1e-4)
    np.testing.assert_allclose(jnp.linalg.svd(a)[1], np.linalg.svd(a)[1], rtol=1e-4)
    np.testing.assert_allclose(jnp.sort(jnp.linalg.eigvals(a).real), np.linalg.eigvalsh(a), rtol=1e-3)
    np.testing.assert_allclose(jnp.linalg.det(a), np.linalg.det(a), rtol=1e-3)


@case
def element_types() -> None:
    """bfloat16 and the other element types, there and back, and computing in bfloat16"""
    x = numbers(8, 16) % 2
    names = [
        "bool",
        "int4",
        "int8",
        "uint16",
        "int32",
        "float16",
        "bfloat16",
        "float32",
        "complex64",
        "float8_e4m3fn",
        "float8_e5m2",
    ]
    for name in names:
        typed = x.astype(jnp.dtype(name))
        for target in (workers()[1][0], NamedSharding(mesh(), P("a"))):
            back = np.asarray(jax.device_put(typed, target))
            assert back.dtype == typed.dtype
            np.testing.assert_array_equal(back, typed)
    y = jax.jit(lambda x: x @ x.T)(x.astype(jnp.bfloat16))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.asarray(y, np.float32), x @ x.T)


@case
def double_precision() -> None:
    """64-bit types (`jax_enable_x64`)"""
    jax.config.update("jax_enable_x64", True)
    try:
        x = np.linspace(0, 1, 7)
        y = jax.jit(lambda x: jnp.sin(x) + 1)(x)
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, np.sin(x) + 1, rtol=1e-15)
        assert int(jnp.int64(2**40) + 1) == 2**40 + 1
    finally:
        jax.config.update("jax_enable_x64", False)


@case
def ahead_of_time() -> None:
    """`lower().compile()`: memory analysis, text, layouts of inputs and outputs, donation"""
    compiled = jax.jit(lambda x: x @ x, donate_argnums=0).lower(numbers(8, 8)).compile()
    assert compiled.memory_analysis().output_size_in_bytes == 8 * 8 * 4
    assert "f32[8,8]" in compiled.as_text()
    assert compiled.output_shardings.device_set == {jax.devices()[0]}
    np.testing.assert_array_equal(compiled(jnp.asarray(numbers(8, 8))), numbers(8, 8) @ numbers(8, 8))


@case
def layouts() -> None:
    """arrays of a layout of one's own"""
    column_major = Format(Layout(major_to_minor=(1, 0)), SingleDeviceSharding(jax.devices()[0]))
    y = jax.jit(lambda x: x * 2, out_shardings=column_major)(numbers(3, 5))
    assert y.format.layout.major_to_minor == (1, 0)
    np.testing.assert_array_equal(np.asarray(y), numbers(3, 5) * 2)
    z = jax.device_put(numbers(3, 5), column_major)
    np.testing.assert_array_equal(np.asarray(z + 1), numbers(3, 5) + 1)


@case
def export() -> None:
    """`jax.export`, and the exported function called in another"""
    exported = jax.export.export(jax.jit(lambda x: jnp.sin(x) * 2))(jax.ShapeDtypeStruct((4,), np.float32))
    ours = jax.jit(lambda x: exported.call(x) + 1)(numbers(4))
    np.testing.assert_allclose(ours, np.sin(numbers(4)) * 2 + 1, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------- several devices


@case
def sharded_matmul() -> None:
    """a matrix product partitioned over a mesh"""
    grid = mesh(2, len(workers()[0]) // 2)
    x = jax.device_put(numbers(8, 16), NamedSharding(grid, P("a", "b")))
    w = jax.device_put(numbers(16, 6), NamedSharding(grid, P("b", None)))
    y = jax.jit(lambda x, w: x @ w, out_shardings=NamedSharding(grid, P("a")))(x, w)
    assert y.sharding.device_set == set(workers()[0])
    for _ in range(3):
        np.testing.assert_allclose(y, numbers(8, 16) @ numbers(16, 6))
        y = jax.jit(lambda x, w: x @ w, out_shardings=NamedSharding(grid, P("b", "a")))(x, w)


@case
def shard_map() -> None:
    """`shard_map` and its collectives"""
    size = len(workers()[0])
    ring = [(i, (i + 1) % size) for i in range(size)]

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh(), in_specs=P("a"), out_specs=(P(), P("a"), P("a"), P("a")))
    def collectives(x: jax.Array) -> tuple[jax.Array, ...]:
        gathered = jax.lax.all_gather(x, "a", tiled=True)
        return (
            jax.lax.psum(x.sum(), "a"),
            jax.lax.ppermute(x, "a", ring),
            jax.lax.psum_scatter(gathered, "a", tiled=True),
            x + jax.lax.axis_index("a"),
        )

    x = numbers(2 * size)
    for _ in range(2):
        total, shifted, scattered, numbered = collectives(x)
        assert float(total) == x.sum()
        np.testing.assert_array_equal(shifted, np.roll(x, 2))
        np.testing.assert_array_equal(scattered, size * x)
        np.testing.assert_array_equal(numbered, x + np.repeat(np.arange(size), 2))


@case
def pmap() -> None:
    """`pmap`"""
    here = workers()[0]
    x = numbers(len(here), 3) + 1
    normalise = jax.pmap(lambda x: x / jax.lax.psum(x, "i"), axis_name="i", devices=here)
    np.testing.assert_allclose(normalise(x), x / x.sum(0), rtol=1e-6)


@case
def training() -> None:
    """a training loop: data-parallel `value_and_grad` over a mesh, parameters donated from step to step"""
    grid = mesh()
    x = np.random.default_rng(0).standard_normal((32, 6)).astype(np.float32)
    target = np.tanh(x[:, 0])
    parameters = {"in": numbers(6, 8) / 50 - 0.4, "out": numbers(8) / 8 - 0.4}

    def loss(p: dict[str, jax.Array], x: jax.Array, target: jax.Array) -> jax.Array:
        return ((jnp.tanh(x @ p["in"]) @ p["out"] - target) ** 2).mean()

    @functools.partial(jax.jit, donate_argnums=0)
    def step(p: dict[str, jax.Array], x: jax.Array, target: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        value, slopes = jax.value_and_grad(loss)(p, x, target)
        return jax.tree.map(lambda w, g: w - 0.3 * g, p, slopes), value

    curves = []
    for along, whole in ((NamedSharding(grid, P("a")), NamedSharding(grid, P())), (jax.devices()[0],) * 2):
        state = jax.device_put(parameters, whole)
        batch = jax.device_put((x, target), along)
        curve = []
        for _ in range(20):
            state, value = step(state, *batch)
            curve.append(value)
        curves.append([float(value) for value in curve])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-4)
    assert curves[0][-1] < 0.9 * curves[0][0]


@case
def two_workers() -> None:
    """a program on each worker, and `device_put` between them, before and after the data exist"""
    here, there = (NamedSharding(Mesh(np.array(half), "a"), P("a")) for half in workers())
    first = jax.jit(lambda x: jnp.sin(x) * 2)
    second = jax.jit(lambda x: x.sum(-1) + 1)
    results = [second(jax.device_put(first(jax.device_put(numbers(4, 8) + i, here)), there)) for i in range(20)]
    for i, result in enumerate(results):
        assert result.sharding.device_set == set(workers()[1])
        np.testing.assert_allclose(result, (np.sin(numbers(4, 8) + i) * 2).sum(-1) + 1, rtol=1e-5, atol=1e-5)
    big = np.random.default_rng(0).standard_normal((1024, 1025)).astype(np.float32)
    copy = jax.device_put(jax.device_put(big, workers()[0][1]), workers()[1][1])
    np.testing.assert_array_equal(np.asarray(copy), big)


# ---------------------------------------------------------------- arrays


@case
def small_arrays() -> None:
    """`device_put` and fetch of small arrays: scalars, empty ones, transposed ones"""
    for shape in ((), (0,), (3, 0, 2), (1,), (7, 5, 3)):
        x = np.full(shape, 3, np.int32)
        np.testing.assert_array_equal(np.asarray(jax.device_put(x, workers()[1][0]) + 1), x + 1)
    np.testing.assert_array_equal(np.asarray(jnp.asarray(numbers(5, 7).T)), numbers(5, 7).T)


@case
def backward_arrays() -> None:
    """`device_put` of NumPy arrays with negative or zero strides"""
    np.testing.assert_array_equal(np.asarray(jnp.asarray(numbers(5, 7)[::-1])), numbers(5, 7)[::-1])
    np.testing.assert_array_equal(np.asarray(jnp.asarray(np.broadcast_to(numbers(3), (2, 3)))), [[0, 1, 2]] * 2)


@case
def large_arrays() -> None:
    """`device_put` and fetch of arrays above 1 MiB, on one device, sharded and replicated"""
    x = np.random.default_rng(0).standard_normal((1200, 2000)).astype(np.float32)
    for target in (workers()[1][0], NamedSharding(mesh(), P("a")), NamedSharding(mesh(), P(None, "a"))):
        np.testing.assert_array_equal(np.asarray(jax.device_put(x, target)), x)
    replicated = jax.device_put(x, NamedSharding(mesh(), P()))
    for shard in replicated.addressable_shards:
        np.testing.assert_array_equal(np.asarray(shard.data), x)


@case
def resharding() -> None:
    """copies between devices and shardings of one worker"""
    grid = mesh(2, len(workers()[0]) // 2)
    y = jax.device_put(numbers(8, 8), jax.devices()[0])
    for target in (
        workers()[0][-1],
        NamedSharding(grid, P("a", "b")),
        NamedSharding(grid, P("b")),
        NamedSharding(grid, P(None, ("a", "b"))),
        NamedSharding(grid, P()),
        workers()[0][1],
    ):
        y = jax.device_put(y, target)
        np.testing.assert_array_equal(np.asarray(y), numbers(8, 8))


@case
def shards() -> None:
    """shards as arrays of their own, and arrays made of them, over both workers"""
    everywhere = NamedSharding(Mesh(np.array(jax.devices()), "a"), P("a"))
    x = jax.device_put(numbers(2 * jax.device_count(), 2), everywhere)
    np.testing.assert_array_equal(np.asarray(x), numbers(*x.shape))
    again = jax.make_array_from_single_device_arrays(x.shape, x.sharding, [s.data for s in x.addressable_shards])
    np.testing.assert_array_equal(np.asarray(again), numbers(*x.shape))
    made = jax.make_array_from_callback(x.shape, everywhere, lambda index: numbers(*x.shape)[index])
    np.testing.assert_array_equal(np.asarray(made), numbers(*x.shape))


def pathways() -> Any:
    """What `pathwaysutils` calls in jaxlib."""
    from jaxlib import _pathways

    return _pathways


def rows_of(grid: Mesh) -> list[NamedSharding]:
    """A sharding for each row of a mesh of two rows."""
    return [NamedSharding(Mesh(grid.devices[i : i + 1], grid.axis_names), P("a", "b")) for i in range(2)]


@case
def pathways_reshard() -> None:
    """`pathwaysutils`: reshard from one mesh to another"""
    there = NamedSharding(Mesh(np.array(workers()[1]), "a"), P(None, "a"))
    x = jax.device_put(numbers(8, 8), NamedSharding(mesh(), P("a")))
    (y,) = pathways()._transfer_to_shardings([x], [there])
    assert y.sharding == there
    np.testing.assert_array_equal(np.asarray(y), numbers(8, 8))


@case
def pathways_split() -> None:
    """`pathwaysutils`: split arrays by an axis of the mesh"""
    grid = mesh(2, len(workers()[0]) // 2)
    x = jax.device_put(numbers(8, 8), NamedSharding(grid, P("a", "b")))
    ((upper, lower),) = pathways()._split_by_mesh_axis(
        [x], [0], grid.axis_sizes, 0, [1, 2], [rows_of(grid)], donate=False
    )
    np.testing.assert_array_equal(np.asarray(upper), numbers(8, 8)[:4])
    np.testing.assert_array_equal(np.asarray(lower), numbers(8, 8)[4:])


@case
def pathways_concatenate() -> None:
    """`pathwaysutils`: concatenate arrays by an axis of the mesh"""
    grid = mesh(2, len(workers()[0]) // 2)
    parts = [jax.device_put(numbers(8, 8)[4 * i : 4 * i + 4], row) for i, row in enumerate(rows_of(grid))]
    (x,) = pathways()._concatenate_by_mesh_axis(
        [parts], [0], grid.axis_sizes, 0, [1, 2], [NamedSharding(grid, P("a", "b"))], donate=True
    )
    np.testing.assert_array_equal(np.asarray(x), numbers(8, 8))


@case
def memory_kinds() -> None:
    """every kind of memory that the devices have"""
    device = jax.devices()[0]
    for memory in device.addressable_memories():
        x = jax.device_put(numbers(16), SingleDeviceSharding(device, memory_kind=memory.kind))
        assert x.sharding.memory_kind == memory.kind
        np.testing.assert_array_equal(np.asarray(x), numbers(16))


@case
def donation() -> None:
    """donated arguments are gone"""
    x = jax.device_put(numbers(64), jax.devices()[1])
    add = jax.jit(lambda x: x + 1, donate_argnums=0)
    for _ in range(3):
        before, x = x, add(x)
        assert before.is_deleted()
    np.testing.assert_array_equal(x, numbers(64) + 3)
    sharded = jax.device_put(numbers(64), NamedSharding(mesh(), P("a")))
    y = add(sharded)
    assert sharded.is_deleted()
    np.testing.assert_array_equal(y, numbers(64) + 1)


@case
def deletion() -> None:
    """`delete()` and `is_deleted()`"""
    x = jax.device_put(numbers(3), jax.devices()[0])
    x.delete()
    assert x.is_deleted()
    expect_error("deleted", lambda: np.asarray(x))


# ---------------------------------------------------------------- asynchrony and errors


@case
def many_dispatches() -> None:
    """5,000 launches without waiting"""
    add = jax.jit(lambda x: x + 1)
    x = jnp.zeros(4)
    for _ in range(5000):
        x = add(x)
    np.testing.assert_array_equal(x, np.full(4, 5000))


@case
def many_arguments() -> None:
    """a pytree of 300 arrays as arguments and results"""
    tree = {f"p{i}": np.full((2, 3), i, np.float32) for i in range(300)}
    doubled = jax.jit(lambda tree: jax.tree.map(lambda x: x * 2, tree))(tree)
    for i in range(300):
        np.testing.assert_array_equal(doubled[f"p{i}"], np.full((2, 3), 2 * i))


@case
def asynchronous() -> None:
    """dispatch does not wait for the device"""
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda _, x: jnp.tanh(x @ x), x))
    x = jax.block_until_ready(slow(jnp.ones((400, 400))))
    for _ in range(5):
        x = slow(x)
    assert not x.is_ready()
    assert x.block_until_ready().is_ready()


@case
def launch_status() -> None:
    """waiting for the end of a launch itself (what JAX does for ordered effects)"""
    compiled = jax.jit(lambda x: x + 1).lower(numbers(4)).compile()
    x = jax.device_put(numbers(4), jax.devices()[0])
    for _ in range(2):
        results = compiled.runtime_executable().execute_sharded([x], with_tokens=True)
        results.consume_token().block_until_ready()


@case
def compile_error() -> None:
    """what cannot be compiled raises an error, and the session goes on"""
    call = jax.ffi.ffi_call("no_such_target", jax.ShapeDtypeStruct((2,), np.float32))
    expect_error("no_such_target", lambda: jax.jit(call)(np.ones(2, np.float32)))
    assert float(jnp.ones(3).sum()) == 3


@case
def asynchronous_error() -> None:
    """a launch that fails poisons what depends on it, and nothing else"""
    # More than an address space holds.
    huge = jax.jit(lambda x: jnp.broadcast_to(x, (2**46,)))
    bad = huge(jnp.float32(1))
    dependent = jax.jit(lambda x: x[:4] + 1)(bad)
    moved = jax.device_put(dependent, workers()[1][0])
    for poisoned in (dependent, moved, bad):
        expect_error("(?i)memory|RESOURCE_EXHAUSTED", functools.partial(jax.block_until_ready, poisoned))
    assert float(jnp.ones(3).sum()) == 3


@case
def traceback_of_launch() -> None:
    """an error that comes later names the line that launched what failed"""
    huge = jax.jit(lambda x: jnp.broadcast_to(x, (2**46,)))

    def launch_too_much() -> jax.Array:
        return huge(jnp.float32(1))

    expect_error("launch_too_much", launch_too_much().block_until_ready)


@case
def many_errors() -> None:
    """hundreds of failed launches, some looked at, some dropped, and work between them"""
    huge = jax.jit(lambda x: jnp.broadcast_to(x, (2**46,)))
    head = jax.jit(lambda x: x[:4] + 1)
    add = jax.jit(lambda x: x + 1)
    y = jnp.zeros(4)
    for i in range(300):
        bad = head(huge(jnp.float32(i)))
        y = add(y)
        if i % 50 == 0:
            expect_error("(?i)memory|RESOURCE_EXHAUSTED", bad.block_until_ready)
        elif i % 3 == 0:
            bad.delete()
    np.testing.assert_array_equal(y, np.full(4, 300))


@case
def reconnection() -> None:
    """a new session in the same process (`clear_backends`)"""
    jax.extend.backend.clear_backends()
    assert float(jax.jit(jnp.sum)(numbers(4))) == 6


@case
def dlpack() -> None:
    """DLPack"""
    np.testing.assert_array_equal(np.from_dlpack(jax.device_put(numbers(4), jax.devices()[0])), numbers(4))


@case
def memory_stats() -> None:
    """`device.memory_stats()`"""
    assert jax.devices()[0].memory_stats()["bytes_in_use"] >= 0


@case
def host_callbacks() -> None:
    """`pure_callback`, `io_callback`, `jax.debug.print` in a jitted function"""
    y = jax.jit(lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((), np.float32), x))(np.float32(1))
    np.testing.assert_allclose(y, np.sin(1), rtol=1e-5)


@case
def executable_serialization() -> None:
    """serialised executables (`jax_compilation_cache_dir`)"""
    compiled = jax.jit(lambda x: x + 1).lower(numbers(4)).compile()
    assert compiled.runtime_executable().serialize()


def main(names: list[str]) -> None:
    jax.devices()  # without a connection there are no cases
    for name in names or CASES:
        print(json.dumps({"begin": name}), flush=True)
        error = None
        try:
            CASES[name]()
        except Exception:
            error = traceback.format_exc()
        print(json.dumps({"end": name, "error": error}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
