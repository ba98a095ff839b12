"""Families that resemble what people train: gradients, random numbers, optimisers, and some linear algebra."""

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


def _key(draw: Draw) -> np.ndarray:
    return draw.rng.integers(0, 1 << 32, 2, dtype=np.uint32)


# ---------------------------------------------------------------- random numbers


def random_numbers(draw: Draw) -> Program:
    shape = draw.dims(2)
    placed = draw.sharding(shape)

    def numbers(raw: jax.Array) -> Any:
        keys = jax.random.split(jax.random.wrap_key_data(raw), 4)
        return (
            lax.with_sharding_constraint(jax.random.uniform(keys[0], shape), placed),
            lax.with_sharding_constraint(jax.random.normal(keys[1], shape), placed),
            jax.random.bits(keys[2], shape),
            jax.random.randint(keys[3], shape, -5, 1000),
        )

    return Program(numbers, [_key(draw)], f"{shape}, constrained to {placed.spec}")


def random_choices(draw: Draw) -> Program:
    rows, width = draw.dims(2)

    def choices(raw: jax.Array, x: jax.Array) -> Any:
        keys = jax.random.split(jax.random.wrap_key_data(raw), 5)
        return (
            jax.random.permutation(keys[0], x),
            jax.random.bernoulli(keys[1], 0.3, x.shape),
            jax.random.categorical(keys[2], jnp.zeros((rows, width))),
            jax.random.choice(keys[3], x[:, 0], (width,)),
            jax.random.key_data(jax.random.fold_in(keys[4], 7)),
        )

    return Program(choices, [_key(draw), draw.array((rows, width), "float32")])


def random_by_row(draw: Draw) -> Program:
    rows, width = draw.choice(8, 16, 24), draw.choice(4, 8)
    distribution = draw.choice(
        jax.random.exponential, jax.random.gumbel, jax.random.laplace, jax.random.truncated_normal
    )

    def numbers(raw: jax.Array) -> Any:
        keys = jax.random.split(jax.random.wrap_key_data(raw), rows)
        if distribution is jax.random.truncated_normal:
            return jax.vmap(lambda key: distribution(key, -2.0, 2.0, (width,)))(keys)
        return jax.vmap(lambda key: distribution(key, (width,)))(keys)

    return Program(numbers, [_key(draw)], distribution.__name__, tolerance=2)


def dropout(draw: Draw) -> Program:
    batch, width = draw.dims(2)
    rate = draw.choice(0.1, 0.5)

    def loss(w: jax.Array, x: jax.Array, raw: jax.Array) -> jax.Array:
        kept = jax.random.bernoulli(jax.random.wrap_key_data(raw), 1 - rate, x.shape)
        return jnp.square(jnp.where(kept, x / (1 - rate), 0) @ w).mean()

    return Program(
        jax.value_and_grad(loss),
        [draw.array((width, 8), "float32"), draw.array((batch, width), "float32"), _key(draw)],
        f"rate {rate}",
        tolerance=4,
    )


# ---------------------------------------------------------------- gradients


def mlp_step(draw: Draw) -> Program:
    batch, width, hidden = draw.choice(8, 16, 24), draw.choice(8, 12), draw.choice(16, 24)
    dtype = draw.dtype("float32", "float32", "float64", "bfloat16")

    def loss(w1: jax.Array, w2: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.square(jnp.tanh(x @ w1) @ w2 - y).mean()

    def step(w1: jax.Array, w2: jax.Array, x: jax.Array, y: jax.Array) -> Any:
        value, (g1, g2) = jax.value_and_grad(loss, (0, 1))(w1, w2, x, y)
        norm = jnp.sqrt(jnp.square(g1).sum() + jnp.square(g2).sum())
        return value, w1 - 0.1 * g1, w2 - 0.1 * g2, norm

    shapes = [(width, hidden), (hidden, width), (batch, width), (batch, width)]
    inputs = [draw.array(shape, dtype) for shape in shapes]
    inputs[:2] = [(w / math.sqrt(len(w))).astype(dtype) for w in inputs[:2]]
    return Program(step, inputs, "value, updated weights, norm of the gradients", tolerance=8)


def adam_step(draw: Draw) -> Program:
    batch, width = draw.choice(8, 16), draw.choice(8, 16)
    spec = draw.spec((width, width))

    def step(w: jax.Array, m: jax.Array, v: jax.Array, x: jax.Array) -> Any:
        g = jax.grad(lambda w: jax.nn.softplus(x @ w).mean())(w)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        return w - 0.01 * m / (jnp.sqrt(v) + 1e-3), m, v

    inputs = [draw.array((width, width), "float32") for _ in range(3)]
    inputs[2] = np.abs(inputs[2])
    return Program(
        step,
        [*inputs, draw.array((batch, width), "float32")],
        "the state donated",
        in_specs=[spec, spec, spec, draw.spec((batch, width))],
        drawn_outputs=False,
        donated=(0, 1, 2),
        tolerance=8,
    )


def attention_gradients(draw: Draw) -> Program:
    batch, seq, heads, width = draw.choice(4, 8), draw.choice(6, 8), draw.choice(2, 4), 4
    causal = draw.chance(0.5)
    dtype = draw.dtype("float32", "float32", "bfloat16")

    def loss(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return jnp.square(jax.nn.dot_product_attention(q, k, v, is_causal=causal)).sum()

    inputs = [draw.array((batch, seq, heads, width), dtype) for _ in range(3)]
    return Program(jax.value_and_grad(loss, (0, 1, 2)), inputs, f"causal={causal}", tolerance=8)


def embedding_softmax_gradients(draw: Draw) -> Program:
    vocabulary, width, batch, seq = draw.choice(16, 24, 48), draw.choice(8, 16), draw.choice(4, 8), draw.choice(6, 8)

    def loss(table: jax.Array, tokens: jax.Array) -> jax.Array:
        logits = table[tokens[:, :-1]] @ table.T
        picked = jnp.take_along_axis(logits, tokens[:, 1:, None], -1)[..., 0]
        return (jax.nn.logsumexp(logits, -1) - picked).mean()

    inputs = [draw.array((vocabulary, width), "float32"), draw.indices((batch, seq), vocabulary)]
    return Program(jax.value_and_grad(loss), inputs, "cross entropy with tied embeddings", tolerance=8)


def scan_gradients(draw: Draw) -> Program:
    layers, batch, width = draw.choice(2, 3), draw.choice(8, 16), draw.choice(8, 12)

    def loss(w: jax.Array, x: jax.Array) -> jax.Array:
        return lax.scan(jax.checkpoint(lambda x, w: (jnp.sin(x @ w), None)), x, w)[0].sum()

    weights = draw.array((layers, width, width), "float32") / np.float32(math.sqrt(width))
    return Program(
        jax.value_and_grad(loss), [weights, draw.array((batch, width), "float32")], f"{layers} layers", tolerance=20
    )


def own_gradients(draw: Draw) -> Program:
    rows, width = draw.dims(2)

    @jax.custom_vjp
    def clipped(x: jax.Array) -> jax.Array:
        return x

    clipped.defvjp(lambda x: (x, x.sum(0)), lambda total, g: (jnp.clip(g, -0.5, 0.5) + 0 * total,))

    def both(x: jax.Array) -> Any:
        value, tangent = jax.jvp(lambda x: jnp.cumsum(jnp.sin(x), 0).mean(1), (x,), (x * 2,))
        return jax.grad(lambda x: jnp.square(clipped(x)).sum())(x), value, tangent

    return Program(both, [draw.array((rows, width), "float32")], "custom_vjp and jvp", tolerance=8)


def hessians(draw: Draw) -> Program:
    n = draw.choice(4, 6, 8)
    dtype = draw.dtype("float32", "float64")
    return Program(
        lambda x, a: (jax.hessian(lambda x: jnp.tanh(a @ x).sum())(x), jax.jacrev(lambda x: jnp.sort(x) * x.sum())(x)),
        [draw.array((n,), dtype), draw.array((n, n), dtype)],
        tolerance=8,
    )


def mixture_of_experts(draw: Draw) -> Program:
    tokens, width, experts, room = draw.choice(16, 24), 8, draw.choice(4, 8), 4

    def route(x: jax.Array, gate: jax.Array, w: jax.Array) -> Any:
        weights = jax.nn.softmax(x @ gate)
        chosen = jnp.argmax(x @ gate, -1)
        member = jax.nn.one_hot(chosen, experts, dtype=jnp.int32)
        place = (jnp.cumsum(member, 0) - 1) * member
        slot = jax.nn.one_hot(place.sum(-1), room) * (place.sum(-1) < room)[:, None]
        dispatch = member[:, :, None] * slot[:, None, :]
        done = jnp.einsum("ecd,edf->ecf", jnp.einsum("tec,td->ecd", dispatch, x), w)
        return jnp.einsum("tec,ecf,te->tf", dispatch, done, weights), chosen

    inputs = [(tokens, width), (width, experts), (experts, width, width)]
    return Program(route, [draw.array(shape, "float32") for shape in inputs], f"{experts} experts", tolerance=8)


# ---------------------------------------------------------------- linear algebra


def factorisations(draw: Draw) -> Program:
    batch, n = draw.choice(4, 8), draw.choice(3, 4, 6)
    dtype = draw.dtype("float32", "float64")

    def factor(a: jax.Array, b: jax.Array) -> Any:
        definite = a @ jnp.swapaxes(a, -1, -2) + n * jnp.eye(n, dtype=a.dtype)
        return jnp.linalg.cholesky(definite), jnp.linalg.solve(definite, b[..., None])[..., 0], jnp.linalg.det(definite)

    return Program(factor, [draw.array((batch, n, n), dtype), draw.array((batch, n), dtype)], "LAPACK", tolerance=50)


# ---------------------------------------------------------------- pmap


def pmapped(draw: Draw) -> Program:
    """The oldest way to write such a program."""
    count = draw.mesh.size
    devices = list(draw.mesh.devices.flat)
    width = draw.choice(4, 6)
    dtype = draw.dtype("float32", "int32")
    shift = draw.integer(1, count)

    def step(x: jax.Array) -> Any:
        around = [(i, (i + shift) % count) for i in range(count)]
        return x + lax.psum(x, "i"), lax.ppermute(x, "i", around), lax.all_gather(x, "i"), lax.axis_index("i")

    return Program(
        jax.pmap(step, axis_name="i", devices=devices),
        [draw.array((count, width), dtype)],
        "psum, ppermute, all_gather",
        how="raw",
        tolerance=2,
    )


def pmapped_gradients(draw: Draw) -> Program:
    count = draw.mesh.size
    devices = list(draw.mesh.devices.flat)
    width = draw.choice(4, 6)

    def step(w: jax.Array, x: jax.Array) -> Any:
        value, g = jax.value_and_grad(lambda w: jnp.tanh(x @ w).mean())(w)
        return lax.pmean(value, "i"), w - lax.pmean(g, "i")

    return Program(
        jax.pmap(step, axis_name="i", devices=devices, in_axes=(None, 0)),
        [draw.array((width, width), "float32"), draw.array((count, 3, width), "float32")],
        "averaged gradients",
        how="raw",
        tolerance=4,
    )


# ---------------------------------------------------------------- a whole small model


def transformer_step(draw: Draw) -> Program:
    batch, seq, width, heads, vocabulary = draw.choice(8, 16), 8, 16, draw.choice(2, 4), 32
    axes = [*draw.axes]
    data, model = axes[0], axes[-1] if len(axes) > 1 else None
    sharded = NamedSharding(draw.mesh, P(data if batch % draw.axes[data] == 0 else None, None, None))

    def block(x: jax.Array, qkv: jax.Array, out: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
        q, k, v = jnp.einsum("btd,dchk->cbthk", x, qkv.reshape(width, 3, heads, width // heads))
        scores = jnp.einsum("bthk,bshk->bhts", q, k) / math.sqrt(width // heads)
        seen = jnp.tril(jnp.ones((seq, seq), bool))
        y = jnp.einsum("bhts,bshk->bthk", jax.nn.softmax(jnp.where(seen, scores, -1e9)), v)
        x = lax.with_sharding_constraint(x + y.reshape(x.shape) @ out, sharded)
        return x + jax.nn.gelu(x @ up) @ down

    def loss(params: list[jax.Array], tokens: jax.Array) -> jax.Array:
        table, *weights = params
        logits = block(table[tokens], *weights) @ table.T
        return -jnp.take_along_axis(jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], -1).mean()

    def step(*arguments: jax.Array) -> Any:
        *params, tokens = arguments
        value, gradients = jax.value_and_grad(loss)(params, tokens)
        return value, [w - 0.1 * g for w, g in zip(params, gradients, strict=True)]

    shapes = [(vocabulary, width), (width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    specs = [P(), P(None, model), P(model), P(None, model), P(model)]
    for number, (shape, spec) in enumerate(zip(shapes, specs, strict=True)):
        sizes = [size % draw.axes[name] for size, name in zip(shape, spec, strict=False) if name]
        specs[number] = P() if any(sizes) else spec
    weights = [draw.array(shape, "float32") / np.float32(math.sqrt(shape[0])) for shape in shapes]
    return Program(
        step,
        [*weights, draw.indices((batch, seq), vocabulary)],
        f"data over {data}, model over {model}",
        in_specs=[*specs, P(sharded.spec[0])],
        drawn_outputs=draw.chance(0.5),
        tolerance=10,
    )
