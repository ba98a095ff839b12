"""Families of programs that the compiler partitions: ordinary JAX, with shardings on what goes in and comes out."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from .draw import Draw, Program

# ---------------------------------------------------------------- products


def matmul(draw: Draw) -> Program:
    m, k, n = draw.dims(3)
    dtype = draw.dtype("float32", "bfloat16", "float16", "float64", "int32", "complex64")
    return Program(jnp.matmul, [draw.array((m, k), dtype), draw.array((k, n), dtype)], "a @ b", tolerance=2)


def einsum(draw: Draw) -> Program:
    equation = draw.choice("bij,bjk->bik", "ij,kj->ik", "bhqd,bhkd->bhqk", "ijk,ij->k", "ab,cb,cd->ad", "ii->i", "ij->")
    letters = {letter: draw.choice(4, 8, 12) for letter in equation if letter.isalpha()}
    dtype = draw.dtype()
    shapes = [tuple(letters[letter] for letter in term) for term in equation.partition("->")[0].split(",")]
    return Program(
        lambda *x: jnp.einsum(equation, *x), [draw.array(shape, dtype) for shape in shapes], equation, tolerance=4
    )


def matmul_chain(draw: Draw) -> Program:
    sizes = draw.dims(4)
    dtype = draw.dtype("float32", "float64")
    between = draw.sharding((sizes[0], sizes[2]))

    def chain(a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        return jnp.tanh(lax.with_sharding_constraint(a @ b, between)) @ c

    inputs = [draw.array(sizes[:2], dtype), draw.array(sizes[1:3], dtype), draw.array(sizes[2:], dtype)]
    return Program(chain, inputs, f"tanh(a @ b, constrained to {between.spec}) @ c", tolerance=4)


def vmapped_dots(draw: Draw) -> Program:
    batch, n = draw.dims(2)
    dtype = draw.dtype()
    function = jax.vmap(lambda m, v: m @ v + jnp.dot(v, v))
    return Program(function, [draw.array((batch, n, n), dtype), draw.array((batch, n), dtype)], tolerance=4)


# ---------------------------------------------------------------- reductions


def _some_axes(draw: Draw, rank: int) -> tuple[int, ...]:
    return tuple(sorted(draw.permutation(rank)[: draw.integer(1, rank)]))


def sums(draw: Draw) -> Program:
    shape = draw.dims(draw.integer(1, 3))
    axes = _some_axes(draw, len(shape))
    dtype = draw.dtype("float32", "float64", "bfloat16", "int32", "uint8", "int8", "complex64")
    operation = draw.choice(jnp.sum, jnp.mean) if "int" not in dtype else jnp.sum
    keep = draw.chance(0.3)
    text = f"{operation.__name__} over {axes}, keepdims={keep}"
    return Program(
        lambda x: operation(x, axis=axes, keepdims=keep), [draw.array(shape, dtype, high=100)], text, tolerance=2
    )


def extremes(draw: Draw) -> Program:
    shape = draw.dims(draw.integer(1, 3))
    axes = _some_axes(draw, len(shape))
    dtype = draw.dtype("float32", "float64", "bfloat16", "int32", "uint8", "int8", "float16")
    return Program(
        lambda x: (x.max(axes), x.min(axes), jnp.ptp(x.astype(jnp.float32), axes)), [draw.array(shape, dtype)]
    )


def whole_numbers(draw: Draw) -> Program:
    shape = draw.dims(2)
    axes = _some_axes(draw, 2)
    dtype = draw.dtype("int32", "uint8", "int8", "int64")
    return Program(
        lambda x: (x.prod(axes), (x > 3).sum(axes), x.sum(), x.max(axes)),
        [draw.array(shape, dtype)],
        f"product, count, sum and maximum over {axes}",
    )


def logic(draw: Draw) -> Program:
    shape = draw.dims(2)
    axes = _some_axes(draw, 2)
    return Program(
        lambda x, y: (x.any(axes), x.all(axes), x ^ y, (x & ~y).sum(axes), jnp.where(x, 1, y)),
        [draw.array(shape, "bool"), draw.array(shape, "bool")],
        f"any, all, xor, count over {axes}",
    )


def arg_extremes(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1, None)
    dtype = draw.dtype("float32", "int32", "bfloat16", "float64")
    return Program(
        lambda x: (jnp.argmax(x, axis), jnp.argmin(x, axis), jnp.nanargmax(x.astype(jnp.float32), axis)),
        [draw.array(shape, dtype)],
        f"over {axis}",
    )


def softmaxes(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1)
    dtype = draw.dtype()
    return Program(
        lambda x: (jax.nn.softmax(x, axis), jax.nn.logsumexp(x, axis), jax.nn.log_softmax(x, axis)),
        [draw.array(shape, dtype)],
        f"over {axis}",
        tolerance=2,
    )


def cumulative(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1)
    reverse = draw.chance(0.5)
    operations = [lax.cumsum, lax.cummax, lax.cummin]
    dtype = draw.dtype("float32", "int32", "float64")
    if dtype != "int32":
        operations.append(lax.cumlogsumexp)
    return Program(
        lambda x: [operation(x, axis=axis, reverse=reverse) for operation in operations],
        [draw.array(shape, dtype)],
        f"over {axis}, reverse={reverse}",
        tolerance=4,
    )


def normalise(draw: Draw) -> Program:
    shape = draw.dims(3)
    axis = draw.choice(0, 1, 2, -1)
    dtype = draw.dtype()

    def layer_norm(x: jax.Array, scale: jax.Array) -> Any:
        centred = x - x.mean(axis, keepdims=True)
        return centred * lax.rsqrt(x.var(axis, keepdims=True) + 1e-3) * scale, x.std(axis), jnp.linalg.norm(x)

    return Program(layer_norm, [draw.array(shape, dtype), draw.array(shape[2:], dtype)], f"over {axis}", tolerance=4)


def scan_associatively(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("float32", "float64", "int32")
    axis = draw.choice(0, 1)

    def combine(left: Any, right: Any) -> Any:
        return left[0] * right[0], left[1] * right[0] + right[1]

    def recurrence(decay: jax.Array, x: jax.Array) -> jax.Array:
        if dtype != "int32":
            decay = jnp.tanh(decay)
        return lax.associative_scan(combine, (decay, x), axis=axis)[1]

    return Program(
        recurrence,
        [draw.array(shape, dtype, low=-1, high=2), draw.array(shape, dtype)],
        "linear recurrence",
        tolerance=4,
    )


# ---------------------------------------------------------------- indexing


def take(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1)
    mode = draw.choice("clip", "fill", "wrap")
    dtype = draw.dtype("float32", "int8", "bfloat16", "bool", "complex64", "uint8")
    wide = draw.indices((draw.choice(4, 8, 10),), shape[axis] + 3)
    return Program(
        lambda x, i: jnp.take(x, i, axis=axis, mode=mode), [draw.array(shape, dtype), wide], f"axis {axis}, {mode}"
    )


def take_along(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1)
    dtype = draw.dtype("float32", "int32", "bfloat16")
    return Program(
        lambda x, i: (jnp.take_along_axis(x, i, axis), x[i[0] % shape[0], i[1] % shape[1]] if shape else x),
        [draw.array(shape, dtype), draw.indices(shape, shape[axis])],
        f"axis {axis}",
    )


def scatter(draw: Draw) -> Program:
    shape = draw.dims(2)
    rows = draw.choice(4, 8, 12)
    dtype = draw.dtype("float32", "int32", "float64", "bfloat16")
    operation = draw.choice("add", "max", "min", "multiply")
    unique = np.array(draw.permutation(shape[0])[: min(rows, shape[0])], np.int32)
    return Program(
        lambda x, i, u, y: (getattr(x.at[i], operation)(y), x.at[u].set(y[: len(unique)])),
        [draw.array(shape, dtype), draw.indices((rows,), shape[0]), unique, draw.array((rows, shape[1]), dtype)],
        f"rows: {operation}, set",
        tolerance=2,
    )


def one_hot_embedding(draw: Draw) -> Program:
    vocabulary, width, batch, seq = draw.choice(16, 24, 48), draw.choice(8, 16), draw.choice(4, 8), draw.choice(6, 8)
    dtype = draw.dtype()
    return Program(
        lambda table, tokens: (jax.nn.one_hot(tokens, vocabulary, dtype=table.dtype) @ table, table[tokens]),
        [draw.array((vocabulary, width), dtype), draw.indices((batch, seq), vocabulary)],
        "one-hot product and lookup",
    )


def dynamic_slices(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("float32", "int8", "bool", "bfloat16")
    part = tuple(draw.integer(1, size) for size in shape)

    def slices(x: jax.Array, at: jax.Array, y: jax.Array) -> Any:
        return lax.dynamic_slice(x, (at[0], at[1]), part), lax.dynamic_update_slice(x, y, (at[0], at[1]))

    return Program(
        slices,
        [draw.array(shape, dtype), draw.indices((2,), max(shape)), draw.array(part, dtype)],
        f"{part} out of {shape}",
    )


def static_slices(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("float32", "uint8", "complex64", "float16")
    start, step = draw.integer(0, 2), draw.choice(1, 2, 3, -1)
    return Program(
        lambda x: (x[start::step], x[:, 1:-1], x[-1], x[..., None, ::2], x[::-1, ::-1]),
        [draw.array(shape, dtype)],
        f"start {start}, step {step}",
    )


def segments(draw: Draw) -> Program:
    rows, width = draw.choice(16, 24), draw.choice(4, 8)
    count = draw.choice(4, 6, 8)
    dtype = draw.dtype("float32", "int32")
    return Program(
        lambda x, i: (
            jax.ops.segment_sum(x, i, count),
            jax.ops.segment_max(x, i, count),
            jnp.bincount(i, length=count),
            jnp.searchsorted(jnp.sort(i), jnp.arange(count)),
        ),
        [draw.array((rows, width), dtype), draw.indices((rows,), count)],
        f"{count} segments",
        tolerance=2,
    )


# ---------------------------------------------------------------- order


def sorts(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1)
    dtype = draw.dtype("float32", "int32", "bfloat16", "uint8", "float64")
    descending = draw.chance(0.3)
    return Program(
        lambda x: (jnp.sort(x, axis, descending=descending), jnp.argsort(x, axis, descending=descending)),
        [draw.array(shape, dtype)],
        f"axis {axis}, descending={descending}",
    )


def sort_by_keys(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1)
    values = draw.dtype("float32", "int8", "complex64")
    return Program(
        lambda k, j, v: lax.sort((k, j, v), dimension=axis, num_keys=2),
        [draw.array(shape, "int32", low=0, high=4), draw.array(shape, "float32"), draw.array(shape, values)],
        f"two keys, axis {axis}",
    )


def top_k(draw: Draw) -> Program:
    shape = draw.dims(2)
    k = draw.integer(1, min(4, shape[1]))
    dtype = draw.dtype("float32", "int32", "bfloat16")
    return Program(
        lambda x: (lax.top_k(x, k), jnp.median(x.astype(jnp.float32), axis=0)), [draw.array(shape, dtype)], f"k={k}"
    )


# ---------------------------------------------------------------- control flow


def scan_rnn(draw: Draw) -> Program:
    steps, batch, width = draw.choice(3, 5, 8), *draw.dims(2)
    dtype = draw.dtype("float32", "float64")
    reverse = draw.chance(0.4)

    def rnn(w: jax.Array, x: jax.Array, h: jax.Array) -> Any:
        def step(h: jax.Array, x: jax.Array) -> Any:
            h = jnp.tanh(h @ w + x)
            return h, h.sum(-1)

        return lax.scan(step, h, x, reverse=reverse)

    inputs = [
        draw.array((width, width), dtype) / math.sqrt(width),
        draw.array((steps, batch, width), dtype),
        draw.array((batch, width), dtype),
    ]
    return Program(rnn, [x.astype(dtype) for x in inputs], f"{steps} steps, reverse={reverse}", tolerance=20)


def scan_layers(draw: Draw) -> Program:
    layers, batch, width = draw.choice(2, 4), *draw.dims(2)
    dtype = draw.dtype("float32", "bfloat16")
    hidden = draw.sharding((batch, width))

    def forward(w: jax.Array, x: jax.Array) -> jax.Array:
        def layer(x: jax.Array, w: jax.Array) -> Any:
            return lax.with_sharding_constraint(x + jnp.tanh(x @ w), hidden), None

        return lax.scan(jax.checkpoint(layer), x, w)[0]

    weights = (draw.array((layers, width, width), dtype) / math.sqrt(width)).astype(dtype)
    return Program(
        forward,
        [weights, draw.array((batch, width), dtype)],
        f"{layers} layers, constrained to {hidden.spec}",
        tolerance=20,
    )


def while_loops(draw: Draw) -> Program:
    shape = draw.dims(2)
    limit = draw.integer(500, 5000)

    def grow(x: jax.Array) -> Any:
        return lax.while_loop(lambda c: c[0].sum() < limit, lambda c: (c[0] + jnp.abs(x) + 1, c[1] + 1), (x, 0))

    return Program(grow, [draw.array(shape, "int32")], f"until the sum is {limit}")


def fori_loops(draw: Draw) -> Program:
    n, count = draw.choice(8, 12, 16), draw.integer(2, 6)
    dtype = draw.dtype("float32", "float64")

    def power(x: jax.Array) -> Any:
        return lax.fori_loop(0, count, lambda i, y: (y @ x) / jnp.abs(y).max() + i, x)

    return Program(power, [draw.array((n, n), dtype)], f"{count} products", tolerance=20)


def conditions(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("float32", "int32")

    def choose(p: jax.Array, x: jax.Array) -> Any:
        return lax.cond(p.sum() % 2 == 0, lambda x: (x.T @ x, x.max()), lambda x: (x.T @ (x * 2), x.min()), x)

    return Program(choose, [draw.array((8,), "int32"), draw.array(shape, dtype)], "sums in both branches", tolerance=4)


def switches(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("float32", "float64")
    branches = [jnp.cos, lambda x: jnp.cumsum(x, 0), lambda x: x - x.mean(), lambda x: jnp.sort(x, 1)]

    def choose(i: jax.Array, x: jax.Array) -> Any:
        by_row = jax.vmap(lambda row: lax.switch((row[0] > 0).astype(jnp.int32), [jnp.sin, jnp.cos], row))
        return lax.switch(i, branches, x), by_row(x)

    inputs = [np.int32(draw.integer(0, 3)), draw.array(shape, dtype)]
    return Program(choose, inputs, "four branches, and one a row", tolerance=4)


# ---------------------------------------------------------------- signals and pictures


def convolution(draw: Draw) -> Program:
    batch, channels, features = draw.choice(4, 8), draw.choice(4, 8), draw.choice(4, 8)
    size, kernel = draw.choice(8, 12, 16), draw.choice(1, 3, 5)
    padding, stride = draw.choice("SAME", "VALID"), draw.choice(1, 2)
    groups = draw.choice(1, 1, 2)
    dtype = draw.dtype("float32", "float32", "float64", "bfloat16")

    def convolve(x: jax.Array, w: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(x, w, (stride, stride), padding, feature_group_count=groups)

    inputs = [
        draw.array((batch, channels, size, size), dtype),
        draw.array((features, channels // groups, kernel, kernel), dtype),
    ]
    return Program(convolve, inputs, f"{kernel}x{kernel}, {padding}, stride {stride}, {groups} groups", tolerance=4)


def convolution_gradients(draw: Draw) -> Program:
    batch, channels, size = draw.choice(4, 8), draw.choice(4, 8), draw.choice(8, 16)
    dtype = draw.dtype("float32", "float64")

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return jnp.tanh(lax.conv(x, w, (1,), "SAME")).mean()

    inputs = [draw.array((channels, channels, 3), dtype), draw.array((batch, channels, size), dtype)]
    return Program(jax.value_and_grad(loss, (0, 1)), inputs, "1-d", tolerance=10)


def pooling(draw: Draw) -> Program:
    shape = (draw.choice(4, 8), draw.choice(8, 12, 16), draw.choice(8, 16))
    dtype = draw.dtype("float32", "int32")
    window = draw.choice(2, 3)

    def pool(x: jax.Array) -> Any:
        zero = np.zeros((), x.dtype)
        return (
            lax.reduce_window(x, zero, lax.add, (1, window, window), (1, 1, 1), "SAME"),
            lax.reduce_window(x, -99 + zero, lax.max, (1, window, window), (1, window, window), "VALID"),
        )

    return Program(pool, [draw.array(shape, dtype)], f"window {window}", tolerance=2)


def fourier(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1)
    return Program(
        lambda x: (jnp.fft.fft(x, axis=axis), jnp.fft.ifft2(x), jnp.fft.rfft(x.real, axis=axis)),
        [draw.array(shape, draw.dtype("complex64", "complex128"))],
        f"axis {axis}",
        tolerance=8,
    )


# ---------------------------------------------------------------- shapes


def joins(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis, new = draw.choice(0, 1), draw.choice(0, 1, 2)
    dtype = draw.dtype("float32", "bool", "uint8", "bfloat16")
    return Program(
        lambda x, y: (
            jnp.concatenate([x, y, x], axis),
            jnp.stack([x, y], new),
            jnp.split(x, 2, axis),
            jnp.tile(x, (2, 1)),
        ),
        [draw.array(shape, dtype), draw.array(shape, dtype)],
        f"along {axis}, stacked as {new}",
    )


def pads(draw: Draw) -> Program:
    shape = draw.dims(2)
    axis = draw.choice(0, 1)
    dtype = draw.dtype("float32", "int8", "float16")
    low, high, between = draw.integer(0, 3), draw.integer(-1, 3), draw.integer(0, 1)
    return Program(
        lambda x: (
            jnp.roll(x, low + 1, axis),
            jnp.flip(x, axis),
            lax.pad(x, np.ones((), x.dtype), ((low, high, between), (0, 0, 0))),
            jnp.repeat(x, 2, axis),
            jnp.diff(x, axis=axis),
        ),
        [draw.array(shape, dtype)],
        f"axis {axis}, pad {low, high, between}",
    )


def reshapes(draw: Draw) -> Program:
    a, b, c = draw.dims(3)
    dtype = draw.dtype("float32", "uint8", "complex64")
    return Program(
        lambda x: (x.reshape(a * b, c), x.transpose(2, 0, 1), x.reshape(a, b * c).T, x.ravel(), jnp.swapaxes(x, 0, 1)),
        [draw.array((a, b, c), dtype)],
    )


def broadcasts(draw: Draw) -> Program:
    rows, width = draw.dims(2)
    first, second = draw.dtype("float32", "bfloat16", "int8"), draw.dtype("float32", "float16", "int32", "uint8")
    return Program(
        lambda x, y, z: (x[:, None] + y[None], x[:, None] * z, (y / 3).astype(jnp.bfloat16), z - y, jnp.outer(x, y)),
        [draw.array((rows,), first), draw.array((width,), second), draw.array((), "float32")],
    )


def elementwise(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype()
    functions = [jnp.sin, jnp.exp, jnp.tanh, jax.scipy.special.erf, jax.nn.gelu, jnp.cbrt, jnp.log1p, jnp.floor]
    chosen = [functions[i] for i in draw.permutation(len(functions))[:4]]
    return Program(
        lambda x: [function(jnp.abs(x)) for function in chosen],
        [draw.array(shape, dtype)],
        ", ".join(function.__name__ for function in chosen),
        tolerance=2,
    )


def integer_arithmetic(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("int32", "uint8", "int8", "int64")
    return Program(
        lambda x, y: (
            x // jnp.maximum(jnp.abs(y), 1),
            x % jnp.maximum(jnp.abs(y), 1),
            x * y,
            (x << 2) ^ (y >> 1),
            lax.population_count(x),
            lax.clamp(x.min(), x + y, x.max()),
            x.astype(jnp.float32) @ y.T.astype(jnp.float32),
        ),
        [draw.array(shape, dtype, high=100), draw.array(shape, dtype, high=100)],
    )


def complex_arithmetic(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("complex64", "complex128")
    return Program(
        lambda x, y: (x * y.conj(), jnp.abs(x).sum(0), jnp.angle(x), (x @ y.T).real, jnp.exp(1j * x.imag)),
        [draw.array(shape, dtype), draw.array(shape, dtype)],
        tolerance=4,
    )


def nothing(draw: Draw) -> Program:
    """Scalars, empty arrays, results that are constants, an argument that nobody uses."""
    width = draw.choice(4, 8)
    return Program(
        lambda s, e, unused: (s * 2, e.sum(), e, jnp.arange(width), np.float32(3), {"none": None, "empty": e @ e.T}),
        [draw.array((), "float32"), np.zeros((0, width), np.float32), draw.array((width,), "int32")],
    )


def made_there(draw: Draw) -> Program:
    """Arrays that come from no argument."""
    rows, width = draw.dims(2)
    return Program(
        lambda: (
            jnp.arange(rows * width).reshape(rows, width),
            jnp.linspace(0, 1, width),
            jnp.eye(rows),
            jnp.tri(width),
        ),
        [],
    )


# ---------------------------------------------------------------- where arrays lie


def reshard(draw: Draw) -> Program:
    shape = draw.dims(3)
    dtype = draw.dtype("float32", "int8", "bool", "bfloat16", "complex64")
    return Program(lambda x: x, [draw.array(shape, dtype)], "the same elsewhere")


def constraints(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("float32", "int32")
    stops = [draw.sharding(shape) for _ in range(3)]

    def wander(x: jax.Array) -> jax.Array:
        for number, stop in enumerate(stops):
            x = lax.with_sharding_constraint(x * 2 + number, stop)
        return x

    return Program(wander, [draw.array(shape, dtype)], " then ".join(str(stop.spec) for stop in stops))


def donations(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("float32", "bfloat16", "int32")
    spec = draw.spec(shape)
    sharding = NamedSharding(draw.mesh, spec)

    def update(x: jax.Array, y: jax.Array) -> Any:
        return lax.with_sharding_constraint(x + y, sharding), (x * y).sum()

    return Program(
        update,
        [draw.array(shape, dtype), draw.array(shape, dtype)],
        "the first argument donated",
        in_specs=[spec, draw.spec(shape)],
        drawn_outputs=False,
        donated=(0,),
        tolerance=4,
    )


def repeated(draw: Draw) -> Program:
    n = draw.choice(8, 16)
    dtype = draw.dtype("float32", "float64")
    sharding = draw.sharding((n, n))

    def step(x: jax.Array) -> jax.Array:
        return lax.with_sharding_constraint(jnp.tanh(x @ x.T / n) + x.mean(), sharding)

    return Program(
        step,
        [draw.array((n, n), dtype)],
        "x = f(x) without waiting",
        in_specs=[sharding.spec],
        drawn_outputs=False,
        donated=(0,) if draw.chance(0.5) else (),
        tolerance=40,
        steps=draw.integer(4, 12),
    )


def large(draw: Draw) -> Program:
    rows = draw.choice(256, 512)
    dtype = draw.dtype("float32", "bfloat16", "int8")
    return Program(
        lambda x: (x, x.astype(jnp.float32).sum(0), x.T, x[::-1]), [draw.array((rows, 1024), dtype)], tolerance=4
    )


def eager(draw: Draw) -> Program:
    shape = draw.dims(2)
    dtype = draw.dtype("float32", "int32")

    def steps(x: jax.Array, y: jax.Array) -> Any:
        z = x + y
        return z.sum(), z[1:3], jnp.sort(z, 0), x.T @ y, jnp.concatenate([x, y]), z.max(1), z.reshape(-1)[:5]

    return Program(
        steps, [draw.array(shape, dtype), draw.array(shape, dtype)], "operation by operation", how="eager", tolerance=4
    )


def explicit(draw: Draw) -> Program:
    """A mesh of explicit axes, whose shardings are part of the types."""
    shape = (draw.choice(8, 16, 24), draw.choice(8, 16, 24))
    dtype = draw.dtype("float32", "bfloat16")

    axes = draw.subset()
    rows = axes if shape[0] % draw.size(axes) == 0 else None

    def move(x: jax.Array, y: jax.Array) -> Any:
        z = jax.sharding.reshard(x, P()) + jax.sharding.reshard(y, P())
        return x * 2, x.sum(0), jnp.sin(z), jax.sharding.reshard(y, P(rows))

    return Program(
        move, [draw.array(shape, dtype), draw.array(shape, dtype)], f"rows to {rows}", drawn_outputs=False, tolerance=2
    )
