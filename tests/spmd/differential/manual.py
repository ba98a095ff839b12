"""Families with shard_map: every collective that a program can name itself, also inside loops and branches.

(Not ragged_all_to_all, which stock JAX cannot do on CPU, so that there is nothing to compare with.)

The local arrays are cut from a global one whose first dimension goes over all axes of the mesh. What differs between
devices comes out the same way, so that every device's result is compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from .draw import Draw, Program

Body = Callable[..., Any]


def _all(draw: Draw) -> P:
    return P(tuple(draw.axes))


def _global(draw: Draw, local: Sequence[int], dtype: str) -> np.ndarray:
    return draw.array((draw.mesh.size * local[0], *local[1:]), dtype)


def _local(draw: Draw) -> tuple[int, int]:
    return draw.choice(2, 4, 6), draw.choice(3, 4, 8)


def _mapped(draw: Draw, body: Body, out_specs: Any = None, *, inputs: int = 1, check: bool = False) -> Body:
    """The body over the whole mesh; its results differ between all devices unless `out_specs` says otherwise."""
    spec = _all(draw)
    return jax.shard_map(
        body,
        mesh=draw.mesh,
        in_specs=(spec,) * inputs,
        out_specs=spec if out_specs is None else out_specs,
        check_vma=check,
    )


def _program(
    draw: Draw, body: Body, local: Sequence[int], dtype: str, text: str, out_specs: Any = None, **how: Any
) -> Program:
    check = how.pop("check", False)
    return Program(
        _mapped(draw, body, out_specs, check=check),
        [_global(draw, local, dtype)],
        text,
        in_specs=[_all(draw)] if draw.chance(0.7) else None,
        **{"drawn_outputs": draw.chance(0.2), "tolerance": 2, **how},
    )


# ---------------------------------------------------------------- one collective each


def psum(draw: Draw) -> Program:
    axes = draw.subset()
    dtype = draw.dtype("float32", "bfloat16", "float16", "float64", "int32", "uint8", "int8", "complex64")
    # Replicated along what it was summed over, which JAX checks.
    return _program(
        draw, lambda x: lax.psum(x, axes), _local(draw), dtype, f"over {axes}", P(draw.rest(axes) or None), check=True
    )


def pmean(draw: Draw) -> Program:
    axes = draw.subset()
    return _program(draw, lambda x: x - lax.pmean(x, axes), _local(draw), draw.dtype(), f"over {axes}")


def pmax_pmin(draw: Draw) -> Program:
    axes, others = draw.subset(), draw.subset()
    dtype = draw.dtype("float32", "bfloat16", "float64", "int32", "uint8", "int8")
    return _program(
        draw,
        lambda x: (lax.pmax(x, axes), lax.pmin(x, others)),
        _local(draw),
        dtype,
        f"maximum over {axes}, minimum over {others}",
    )


def all_gather(draw: Draw) -> Program:
    axes = draw.subset()
    dimension, tiled = draw.choice(0, 1), draw.chance(0.5)
    dtype = draw.dtype("float32", "bfloat16", "int8", "bool", "complex64", "uint8")
    return _program(
        draw,
        lambda x: lax.all_gather(x, axes, axis=dimension, tiled=tiled),
        _local(draw),
        dtype,
        f"over {axes}, dimension {dimension}, tiled={tiled}",
    )


def psum_scatter(draw: Draw) -> Program:
    axes = draw.subset()
    size, tiled = draw.size(axes), draw.chance(0.6)
    dimension = draw.choice(0, 1)
    local = [draw.choice(2, 4), draw.choice(2, 4)]
    local[dimension] = size * (draw.choice(1, 2) if tiled else 1)
    dtype = draw.dtype("float32", "bfloat16", "int32", "float64", "uint8")

    def body(x: jax.Array) -> jax.Array:
        scattered = lax.psum_scatter(x, axes, scatter_dimension=dimension, tiled=tiled)
        return scattered if scattered.ndim == 2 else scattered[:, None]

    return _program(draw, body, local, dtype, f"over {axes}, dimension {dimension}, tiled={tiled}")


def all_to_all(draw: Draw) -> Program:
    axes = draw.choice(draw.subset(), (draw.axis(),))
    size, tiled = draw.size(axes), draw.chance(0.6)
    split, concat = draw.choice(0, 1), draw.choice(0, 1)
    local = [draw.choice(2, 3), draw.choice(2, 3), draw.choice(1, 2)]
    local[split] = size * (draw.choice(1, 2) if tiled else 1)
    dtype = draw.dtype("float32", "bfloat16", "int8", "bool", "complex64")
    return _program(
        draw,
        lambda x: lax.all_to_all(x, axes, split, concat, tiled=tiled),
        local,
        dtype,
        f"over {axes}, split {split}, concatenate {concat}, tiled={tiled}",
    )


def ppermute_cycle(draw: Draw) -> Program:
    axis = draw.axis()
    size = draw.size(axis)
    shift = draw.integer(1, size)
    around = [(i, (i + shift) % size) for i in range(size)]
    dtype = draw.dtype("float32", "bfloat16", "int8", "bool", "complex64")
    return _program(draw, lambda x: lax.ppermute(x, axis, around), _local(draw), dtype, f"{axis}: {around}")


def ppermute_partial(draw: Draw) -> Program:
    """Some get nothing, which is zeros."""
    axes = draw.subset()
    size = draw.size(axes)
    pairs = list(zip(draw.permutation(size), draw.permutation(size), strict=True))[: draw.integer(1, size)]
    dtype = draw.dtype("float32", "int32", "uint8")
    return _program(draw, lambda x: lax.ppermute(x, axes, pairs), _local(draw), dtype, f"{axes}: {pairs}")


def axis_indices(draw: Draw) -> Program:
    axes = draw.subset()

    def body(x: jax.Array) -> Any:
        own = [jnp.broadcast_to(lax.axis_index(axis), (1,)) for axis in draw.axes]
        return own, x * lax.axis_index(axes), lax.psum(1, axes) * x

    return _program(draw, body, _local(draw), draw.dtype("int32", "float32"), f"of {axes}")


def broadcast_from_one(draw: Draw) -> Program:
    axes = draw.subset()
    root = draw.integer(0, draw.size(axes) - 1)

    def body(x: jax.Array) -> jax.Array:
        return lax.psum(jnp.where(lax.axis_index(axes) == root, x, jnp.zeros_like(x)), axes)

    return _program(draw, body, _local(draw), draw.dtype("float32", "int8", "bfloat16"), f"{root} along {axes}")


def many_dtypes(draw: Draw) -> Program:
    axes = draw.subset()

    def body(x: jax.Array) -> Any:
        tree = {"f": x, "i": x.astype(jnp.int32), "h": x.astype(jnp.bfloat16), "scalars": (x[0, 0], x.sum())}
        return jax.tree.map(lambda x: jnp.atleast_1d(x)[None], lax.psum(tree, axes))

    return _program(draw, body, _local(draw), "float32", f"over {axes}")


def scalars(draw: Draw) -> Program:
    every = tuple(draw.axes)
    return _program(
        draw,
        lambda x: (lax.psum(x.sum(), every), lax.pmax(x.max(), every), lax.pmean(x[0], every)),
        _local(draw),
        draw.dtype("float32", "float64"),
        "one number from all",
        P(),
        check=True,
    )


def hierarchical(draw: Draw) -> Program:
    """An all-reduce as people write it over two kinds of links."""
    first = draw.axis()
    rest = draw.rest((first,))
    size = draw.size(first)

    def body(x: jax.Array) -> Any:
        part = lax.psum_scatter(x, first, tiled=True)
        part = lax.psum(part, rest) if rest else part
        return lax.all_gather(part, first, tiled=True) - lax.psum(x, tuple(draw.axes))

    return _program(draw, lambda x: (body(x), x), (size * 2, 4), "int32", f"{first}, then {rest}")


def several(draw: Draw) -> Program:
    """Collectives that do not depend on each other, in one program."""
    axes, others, axis = draw.subset(), draw.subset(), draw.axis()
    size = draw.size(axis)
    back = [(i, (i - 1) % size) for i in range(size)]
    return _program(
        draw,
        lambda x: (
            lax.psum(x, axes),
            lax.psum(x * 2, others),
            lax.ppermute(x, axis, back),
            lax.all_gather(x, axis, tiled=True),
            lax.pmax(x.T, axes).T,
        ),
        _local(draw),
        draw.dtype("float32", "int32"),
        f"over {axes}, {others}, {axis}",
    )


# ---------------------------------------------------------------- in loops and branches


def chain(draw: Draw) -> Program:
    count = draw.choice(3, 8, 20)
    axes = draw.subset()

    def body(x: jax.Array) -> jax.Array:
        for _ in range(count):
            x = lax.psum(x, axes) / draw.size(axes) + 1
        return x

    return _program(draw, body, _local(draw), draw.dtype("float32", "float64"), f"{count} over {axes}")


def in_scan(draw: Draw) -> Program:
    axes, axis = draw.subset(), draw.axis()
    steps = draw.choice(3, 6)
    around = [(i, (i + 1) % draw.size(axis)) for i in range(draw.size(axis))]

    def body(x: jax.Array) -> Any:
        def step(carry: jax.Array, i: jax.Array) -> Any:
            total = lax.psum(carry, axes)
            return lax.ppermute(carry, axis, around) + i, total[:, 0]

        last, totals = lax.scan(step, x, jnp.arange(steps, dtype=x.dtype))
        return last, totals.T

    dtype = draw.dtype("float32", "int32")
    return _program(draw, body, _local(draw), dtype, f"{steps} steps: psum over {axes}, ppermute along {axis}")


def in_while(draw: Draw) -> Program:
    """The condition itself is a sum over devices."""
    every = tuple(draw.axes)
    limit = draw.integer(1000, 5000)

    def body(x: jax.Array) -> Any:
        grow = jnp.abs(x) + 1 + lax.axis_index(every)
        final, turns = lax.while_loop(
            lambda c: lax.psum(c[0].sum(), every) < limit, lambda c: (c[0] + grow, c[1] + 1), (x, jnp.int32(0))
        )
        return final, turns[None]

    return _program(draw, body, _local(draw), "int32", f"until the sum over all is {limit}")


def uneven_loops(draw: Draw) -> Program:
    """Groups of devices go round a loop with a collective differently often."""
    axis = draw.axis()
    rest = draw.rest((axis,))

    def body(x: jax.Array) -> jax.Array:
        turns = 1 + (lax.axis_index(rest) if rest else 1)
        return lax.fori_loop(0, turns, lambda i, x: lax.pmean(x, axis) + i + x, x)

    return _program(draw, body, _local(draw), "float32", f"means over {axis}, counts by {rest}", tolerance=4)


def in_branches(draw: Draw) -> Program:
    """All devices of a group take the same branch; other groups may take another."""
    axis = draw.axis()
    rest = draw.rest((axis,))

    def body(p: jax.Array, x: jax.Array) -> jax.Array:
        take = p + (lax.axis_index(rest) if rest else 0)
        return lax.switch(
            take % 3,
            [lambda x: lax.psum(x, axis), lambda x: x * 2, lambda x: lax.all_gather(x, axis).max(0)],
            x,
        )

    function = jax.shard_map(body, mesh=draw.mesh, in_specs=(P(), _all(draw)), out_specs=_all(draw), check_vma=False)
    return Program(
        function,
        [np.int32(draw.integer(0, 2)), _global(draw, _local(draw), "float32")],
        f"along {axis}, by {rest}",
        drawn_outputs=False,
        tolerance=2,
    )


def nested_loops(draw: Draw) -> Program:
    axes = draw.subset()

    def body(x: jax.Array) -> jax.Array:
        def outer(i: jax.Array, x: jax.Array) -> jax.Array:
            x = lax.fori_loop(0, 2, lambda j, x: lax.pmean(x, axes) + j + 0.5 * x, x)
            return lax.cond(i % 2 == 0, lambda x: lax.pmax(x, axes) - x, lambda x: x, x)

        return lax.fori_loop(0, 3, outer, x)

    return _program(draw, body, _local(draw), draw.dtype("float32", "float64"), f"over {axes}", tolerance=8)


# ---------------------------------------------------------------- what people build of them


def ring_product(draw: Draw) -> Program:
    """A product whose right side goes round a ring."""
    axis = draw.axis()
    size = draw.size(axis)
    around = [(i, (i + 1) % size) for i in range(size)]
    k, n = draw.choice(2, 4), draw.choice(4, 8)

    def body(a: jax.Array, b: jax.Array) -> jax.Array:
        me = lax.axis_index(axis)

        def step(i: jax.Array, carry: Any) -> Any:
            total, b = carry
            part = lax.dynamic_slice_in_dim(a, ((me - i) % size) * k, k, 1)
            return total + part @ b, lax.ppermute(b, axis, around)

        return lax.fori_loop(0, size, step, (jnp.zeros((a.shape[0], n), a.dtype), b))[0]

    dtype = draw.dtype("float32", "float64")
    # Devices add up in different orders, so their copies differ: each shows its own.
    function = jax.shard_map(body, mesh=draw.mesh, in_specs=(P(), P(axis)), out_specs=_all(draw), check_vma=False)
    inputs = [draw.array((4, k * size), dtype), draw.array((k * size, n), dtype)]
    return Program(function, inputs, f"round {axis}", drawn_outputs=False, tolerance=8)


def pipeline(draw: Draw) -> Program:
    """Micro-batches through stages that hand on by ppermute."""
    axis = draw.axis()
    stages = draw.size(axis)
    micro, width = draw.choice(3, 5), draw.choice(4, 8)
    on = [(i, i + 1) for i in range(stages - 1)]

    def body(w: jax.Array, x: jax.Array) -> jax.Array:
        me = lax.axis_index(axis)

        def step(carry: jax.Array, i: jax.Array) -> Any:
            here = jnp.where(me == 0, x[jnp.minimum(i, micro - 1)], carry)
            here = jnp.tanh(here @ w[0])
            return lax.ppermute(here, axis, on) if on else here, here

        results = lax.scan(step, jnp.zeros_like(x[0]), jnp.arange(micro + stages - 1))[1]
        return lax.psum(jnp.where(me == stages - 1, results[stages - 1 :], 0), axis)

    function = jax.shard_map(body, mesh=draw.mesh, in_specs=(P(axis), P()), out_specs=P(), check_vma=False)
    weights = draw.array((stages, width, width), "float32") / np.float32(math.sqrt(width))
    inputs = [weights, draw.array((micro, 2, width), "float32")]
    return Program(function, inputs, f"{micro} micro-batches, {stages} stages", tolerance=20)


def halo(draw: Draw) -> Program:
    """A stencil whose neighbours lie on other devices."""
    every = tuple(draw.axes)
    size = draw.mesh.size
    steps = draw.integer(1, 4)

    def body(x: jax.Array) -> jax.Array:
        def step(_: jax.Array, x: jax.Array) -> jax.Array:
            left = lax.ppermute(x[-1:], every, [(i, i + 1) for i in range(size - 1)])
            right = lax.ppermute(x[:1], every, [(i + 1, i) for i in range(size - 1)])
            wide = jnp.concatenate([left, x, right])
            return (wide[:-2] + wide[2:]) / 2 - wide[1:-1] / 4

        return lax.fori_loop(0, steps, step, x)

    return _program(draw, body, _local(draw), draw.dtype("float32", "float64"), f"{steps} steps", tolerance=4)


def distributed_sort(draw: Draw) -> Program:
    """Odd-even transposition: neighbours merge and split."""
    axis = draw.axis()
    size = draw.size(axis)
    rows = draw.choice(2, 4)

    def body(x: jax.Array) -> jax.Array:
        me = lax.axis_index(axis)
        x = jnp.sort(x[:, 0])
        for turn in range(size):
            pairs = [(i, i + 1) for i in range(turn % 2, size - 1, 2)]
            if not pairs:
                continue
            other = lax.ppermute(x, axis, pairs + [(j, i) for i, j in pairs])
            low = jnp.isin(me, jnp.array([i for i, _ in pairs]))
            high = jnp.isin(me, jnp.array([j for _, j in pairs]))
            both = jnp.sort(jnp.concatenate([x, other]))
            x = jnp.where(low, both[:rows], jnp.where(high, both[rows:], x))
        return x

    return _program(draw, body, (rows, 1), draw.dtype("float32", "int32"), f"along {axis}")


def distributed_fourier(draw: Draw) -> Program:
    """Two-dimensional FFT: rows, all_to_all, columns."""
    axis = draw.axis()
    size = draw.size(axis)

    def body(x: jax.Array) -> jax.Array:
        x = jnp.fft.fft(x, axis=1)
        x = lax.all_to_all(x, axis, 1, 0, tiled=True)
        return jnp.fft.fft(x, axis=0)

    return _program(draw, body, (2, 2 * size), "complex64", f"along {axis}", tolerance=8)


def expert_exchange(draw: Draw) -> Program:
    axis = draw.axis()
    size = draw.size(axis)
    width = draw.choice(2, 4)

    def body(x: jax.Array, w: jax.Array) -> jax.Array:
        x = lax.all_to_all(x, axis, 1, 0, tiled=True)
        x = jnp.einsum("btd,df->btf", x, w[0])
        return lax.all_to_all(jax.nn.relu(x), axis, 0, 1, tiled=True)

    function = jax.shard_map(
        body, mesh=draw.mesh, in_specs=(_all(draw), P(axis)), out_specs=_all(draw), check_vma=False
    )
    inputs = [_global(draw, (2, 2 * size, width), "float32"), draw.array((size, width, width), "float32")]
    return Program(function, inputs, f"along {axis}", drawn_outputs=False, tolerance=4)


def ring_attention(draw: Draw) -> Program:
    """Keys and values go round; the softmax is made as they come."""
    axis = draw.axis()
    size = draw.size(axis)
    around = [(i, (i + 1) % size) for i in range(size)]

    def body(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        def step(carry: Any, _: None) -> Any:
            k, v, top, total, out = carry
            scores = q @ k.T
            higher = jnp.maximum(top, scores.max(-1))
            weights = jnp.exp(scores - higher[:, None])
            fade = jnp.exp(top - higher)
            total, out = total * fade + weights.sum(-1), out * fade[:, None] + weights @ v
            return (lax.ppermute(k, axis, around), lax.ppermute(v, axis, around), higher, total, out), None

        start = (k, v, jnp.full(q.shape[:1], -1e30, q.dtype), jnp.zeros(q.shape[:1], q.dtype), jnp.zeros_like(v))
        _, _, _, total, out = lax.scan(step, start, None, length=size)[0]
        return out / total[:, None]

    function = _mapped(draw, body, inputs=3)
    inputs = [_global(draw, (3, 4), "float32") for _ in range(3)]
    return Program(function, inputs, f"round {axis}", drawn_outputs=False, tolerance=8)


def gradients(draw: Draw) -> Program:
    """Through collectives: what is a sum forwards is a broadcast backwards, and the other way round."""
    axis = draw.axis()
    size = draw.size(axis)
    around = [(i, (i + 1) % size) for i in range(size)]
    kind = draw.choice("psum", "all_gather", "ppermute", "psum_scatter", "all_to_all")

    def collective(x: jax.Array) -> jax.Array:
        if kind == "psum":
            return lax.psum(x, axis)
        if kind == "all_gather":
            return lax.all_gather(x, axis, tiled=True)
        if kind == "ppermute":
            return lax.ppermute(x, axis, around)
        if kind == "psum_scatter":
            return lax.psum_scatter(x, axis, tiled=True)
        return lax.all_to_all(x, axis, 0, 1, tiled=True)

    def body(w: jax.Array, x: jax.Array) -> jax.Array:
        return lax.psum(jnp.square(jnp.sin(collective(x @ w))).sum(), tuple(draw.axes))

    mapped = jax.shard_map(body, mesh=draw.mesh, in_specs=(P(), _all(draw)), out_specs=P())
    inputs = [draw.array((4, 6), "float32"), _global(draw, (size, 4), "float32")]
    if kind == "psum" and draw.rest((axis,)):
        # The sum is the same along `axis`, so summing it over all axes again wants it to be told so.
        mapped = jax.shard_map(
            lambda w, x: lax.psum(jnp.square(jnp.sin(collective(x @ w))).sum(), draw.rest((axis,))),
            mesh=draw.mesh,
            in_specs=(P(), _all(draw)),
            out_specs=P(),
        )
    elif kind == "psum":
        mapped = jax.shard_map(
            lambda w, x: jnp.square(jnp.sin(collective(x @ w))).sum(),
            mesh=draw.mesh,
            in_specs=(P(), _all(draw)),
            out_specs=P(),
        )
    return Program(jax.value_and_grad(mapped, (0, 1)), inputs, f"of {kind} along {axis}", tolerance=10)


def partly_manual(draw: Draw) -> Program:
    """One axis by hand, the rest left to the compiler."""
    axis = draw.axis()
    size = draw.size(axis)
    around = [(i, (i + 1) % size) for i in range(size)]

    def body(x: jax.Array, w: jax.Array) -> Any:
        y = x @ w
        return lax.ppermute(y, axis, around), lax.pmean(y.sum(0), axis)

    mapped = jax.shard_map(body, mesh=draw.mesh, in_specs=(P(axis), P()), out_specs=(P(axis), P()), axis_names={axis})
    inputs = [draw.array((size * 4, 8), "float32"), draw.array((8, 16), "float32")]
    return Program(mapped, inputs, f"{axis} by hand", tolerance=4)


def inside_automatic(draw: Draw) -> Program:
    """A manual part between automatic ones."""
    axes = draw.subset()

    def function(x: jax.Array, w: jax.Array) -> Any:
        y = jnp.tanh(x @ w)
        mapped = _mapped(draw, lambda y: y - lax.pmean(y, axes))
        return mapped(y) @ w.T, y.sum()

    inputs = [draw.array((draw.mesh.size * 2, 8), "float32"), draw.array((8, 4), "float32")]
    return Program(function, inputs, f"mean over {axes} in the middle", tolerance=8)


def random_by_device(draw: Draw) -> Program:
    every = tuple(draw.axes)

    def body(x: jax.Array) -> Any:
        key = jax.random.fold_in(jax.random.key(3), lax.axis_index(every))
        noise = jax.random.normal(key, x.shape)
        return x + noise, lax.psum(jax.random.uniform(key, x.shape), every)

    return _program(draw, body, _local(draw), "float32", "a key for each device", tolerance=4)
