#!/usr/bin/env python3
"""Trains a transformer cut into stages, one on each island: GPipe, 1F1B or interleaved, in plain JAX.

    JAX_PLATFORMS=causeway CAUSEWAY_ISLANDS=4 CAUSEWAY_DEVICES=2 python examples/pipeline.py --schedule 1f1b
    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 python examples/pipeline.py --stages 4
    python examples/pipeline.py --schedule interleaved --stages 2 --chunks 2 --model-parallel 2
    python examples/pipeline_schedules.py --schedule interleaved      # draws a schedule

A stage is three jitted functions on its own mesh (forward, backward, update), a schedule is a list (see
pipeline_schedules.py), and the pipeline is one Python loop over it with `jax.device_put` between the stages. The loop
waits for nothing: all steps are dispatched before the first loss is fetched. Inside its mesh a stage is data-parallel,
and tensor-parallel with --model-parallel. At the end the same model is trained again in one program, and the losses and
gradients of both are compared.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from outcome import add_outcome_options, finish, is_close, show_times

from islands import describe, island_count, island_meshes
from pipeline_schedules import SCHEDULES, Unit, make_schedule, most_kept

Tree = Any
VOCABULARY = 64
BY_ROWS = P("data")  # of a micro-batch

# How each weight is split over its stage's mesh: heads and hidden units over `model`.
LAYER_SPECS = {
    "qkv": P(None, None, "model", None),
    "out": P("model", None, None),
    "up": P(None, "model"),
    "down": P("model", None),
}
EVERYWHERE = P()


# ---------------------------------------------------------------- model


def make_weights(options: argparse.Namespace) -> list[Tree]:
    """The weights of every layer, the embedding before the first and the read-out after the last."""
    random = np.random.default_rng(options.seed)
    width, head = options.width, options.width // options.heads

    def normal(*shape: int, fan_in: int) -> np.ndarray:
        return (random.standard_normal(shape) / np.sqrt(fan_in)).astype(np.float32)

    def layer() -> Tree:
        return {
            "qkv": normal(width, 3, options.heads, head, fan_in=width),
            "out": normal(options.heads, head, width, fan_in=width),
            "up": normal(width, 4 * width, fan_in=width),
            "down": normal(4 * width, width, fan_in=4 * width),
        }

    embed = {"embedding": normal(VOCABULARY, width, fan_in=1), "position": normal(options.seq, width, fan_in=1)}
    return [embed, *(layer() for _ in range(options.layers)), {"read_out": normal(width, VOCABULARY, fan_in=width)}]


def normalised(x: jax.Array) -> jax.Array:
    return (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-6)


def attention_and_mlp(weights: Tree, x: jax.Array) -> jax.Array:
    query, key, value = jnp.einsum("bsw,wthd->tbshd", normalised(x), weights["qkv"])
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(query.shape[-1])
    causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(causal, scores, -1e9)), value)
    x = x + jnp.einsum("bqhd,hdw->bqw", mixed, weights["out"])
    return x + jax.nn.gelu(normalised(x) @ weights["up"]) @ weights["down"]


def apply(layers: list[Tree], x: jax.Array, targets: jax.Array | None) -> jax.Array:
    """Some consecutive layers of the model: from tokens, if the first is the embedding, and to the loss, if the last is
    the read-out."""
    for weights in layers:
        if "embedding" in weights:
            x = weights["embedding"][x] + weights["position"]
        elif "read_out" in weights:
            logits = normalised(x) @ weights["read_out"]
            return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
        else:
            x = attention_and_mlp(weights, x)
    return x


def make_batches(options: argparse.Namespace) -> np.ndarray:
    """Sequences to be learnt, (steps, micro-batches, rows, seq + 1): mostly, a token decides the next one."""
    random = np.random.default_rng(options.seed + 1)
    following = random.permutation(VOCABULARY)
    tokens = random.integers(VOCABULARY, size=(options.seq + 1, options.steps, options.micro_batches, options.rows))
    for now, after in itertools.pairwise(tokens):
        known = random.random(now.shape) < 0.9
        after[known] = following[now[known]]
    return np.moveaxis(tokens, 0, -1).astype(np.int32)


# ---------------------------------------------------------------- a stage


class Stage:
    """Some layers of the model on a mesh, with the programs that run them there.

    What the way back needs is kept as --keep says: the stage's input, from which backward computes the rest again; or
    all of jax.vjp's residuals, which are an ordinary pytree and so may leave a jitted function.
    """

    def __init__(self, layers: list[Tree], mesh: Mesh, options: argparse.Namespace) -> None:
        self.mesh = mesh
        self.by_rows = NamedSharding(mesh, BY_ROWS)
        self.everywhere = NamedSharding(mesh, EVERYWHERE)
        self.is_first, self.is_last = "embedding" in layers[0], "read_out" in layers[-1]
        optimiser = optax.adam(options.rate)

        specs = [{name: LAYER_SPECS.get(name, EVERYWHERE) for name in layer} for layer in layers]
        shardings = jax.tree.map(partial(NamedSharding, mesh), specs)
        self.weights = jax.device_put(layers, shardings)
        state_shardings = optax.tree_map_params(
            optimiser,
            lambda _, sharding: sharding,  # Adam's moments lie where their weights do
            jax.eval_shape(optimiser.init, layers),
            shardings,
            transform_non_params=lambda _: self.everywhere,
        )
        start = jax.jit(
            lambda weights: (optimiser.init(weights), jax.tree.map(jnp.zeros_like, weights)),
            out_shardings=(state_shardings, shardings),
        )
        self.optimiser_state, self.gradients = start(self.weights)

        # The first stage's input is tokens, which have no gradient.
        def vjp(weights: Tree, x: jax.Array, targets: jax.Array | None) -> tuple[jax.Array, Tree]:
            if self.is_first:
                return jax.vjp(lambda w: apply(w, x, targets), weights)
            return jax.vjp(lambda w, x: apply(w, x, targets), weights, x)

        def add(pull_back: Tree, change: jax.Array, gradients: Tree) -> tuple[jax.Array | None, Tree]:
            """The gradient of the stage's input, and the sum so far of those of its weights."""
            by_weights, *by_input = pull_back(change)
            return (by_input[0] if by_input else None), jax.tree.map(jnp.add, gradients, by_weights)

        def forward(weights: Tree, x: jax.Array, targets: jax.Array | None) -> tuple[jax.Array, Tree]:
            if options.keep == "residuals":
                return vjp(weights, x, targets)
            return apply(weights, x, targets), ()

        def backward(weights: Tree, kept: Tree, change: jax.Array, gradients: Tree) -> tuple[jax.Array | None, Tree]:
            if options.keep == "residuals":
                return add(kept, change, gradients)
            return add(vjp(weights, *kept)[1], change, gradients)

        def update(weights: Tree, state: Tree, gradients: Tree) -> tuple[Tree, Tree, Tree, jax.Array]:
            """Also zeroes the gradients for the next step, and tells how large they were."""
            mean = jax.tree.map(lambda gradient: gradient / options.micro_batches, gradients)
            changes, state = optimiser.update(mean, state, weights)
            norms = jnp.stack([optax.global_norm(layer) for layer in mean])
            return optax.apply_updates(weights, changes), state, jax.tree.map(jnp.zeros_like, gradients), norms

        out = self.everywhere if self.is_last else self.by_rows
        self._forward = jax.jit(forward, out_shardings=(out, None))
        self._backward = jax.jit(
            backward, out_shardings=(None if self.is_first else self.by_rows, shardings), donate_argnums=3
        )
        self._update = jax.jit(
            update, out_shardings=(shardings, state_shardings, shardings, self.everywhere), donate_argnums=(0, 1, 2)
        )
        self._keep_input = options.keep == "input"
        self._kept: dict[int, Tree] = {}

    def forward(self, micro_batch: int, x: jax.Array, targets: jax.Array | None) -> jax.Array:
        out, kept = self._forward(self.weights, x, targets)
        self._kept[micro_batch] = (x, targets) if self._keep_input else kept
        return out

    def backward(self, micro_batch: int, change: jax.Array) -> jax.Array | None:
        kept = self._kept.pop(micro_batch)
        back, self.gradients = self._backward(self.weights, kept, change, self.gradients)
        return back

    def update(self) -> jax.Array:
        """Ends a step. Returns the norm of each layer's gradient."""
        self.weights, self.optimiser_state, self.gradients, norms = self._update(
            self.weights, self.optimiser_state, self.gradients
        )
        return norms


# ---------------------------------------------------------------- the pipeline


@jax.jit
def mean(losses: list[jax.Array]) -> jax.Array:
    return jnp.stack(losses).mean()


def run_step(stages: list[Stage], schedule: list[Unit], tokens: np.ndarray) -> tuple[jax.Array, list[jax.Array]]:
    """One step of training, dispatched: the loss, and the norms of each stage's gradients, when they are done."""
    last = len(stages) - 1
    losses: list[jax.Array] = []
    arrived: dict[Unit, jax.Array] = {}  # what was sent to a unit that has not been dispatched yet
    for micro_batch, rows in enumerate(tokens):
        arrived[Unit(0, micro_batch, False)] = jax.device_put(rows[:, :-1], stages[0].by_rows)
    all_targets = [jax.device_put(rows[:, 1:], stages[last].by_rows) for rows in tokens]
    one = jax.device_put(np.float32(1), stages[last].everywhere)

    for unit in schedule:
        number, micro_batch, backward = unit
        stage, x = stages[number], arrived.pop(unit)
        if backward:
            change = stage.backward(micro_batch, x)
            if change is not None:
                before = unit._replace(stage=number - 1)
                arrived[before] = jax.device_put(change, stages[number - 1].by_rows)
        elif number < last:
            out = stage.forward(micro_batch, x, None)
            arrived[unit._replace(stage=number + 1)] = jax.device_put(out, stages[number + 1].by_rows)
        else:
            losses.append(stage.forward(micro_batch, x, all_targets[micro_batch]))
            arrived[unit._replace(backward=True)] = one
    return mean(losses), [stage.update() for stage in stages]


def make_stages(weights: list[Tree], meshes: list[Mesh], count: int, options: argparse.Namespace) -> list[Stage]:
    """`count` stages of as many layers each, dealt out to the meshes."""
    embed, *layers, read_out = weights
    size = len(layers) // count
    parts = [layers[start : start + size] for start in range(0, len(layers), size)]
    parts[0] = [embed, *parts[0]]
    parts[-1] = [*parts[-1], read_out]
    return [Stage(part, meshes[number % len(meshes)], options) for number, part in enumerate(parts)]


def train(stages: list[Stage], schedule: list[Unit], batches: np.ndarray) -> dict[str, Any]:
    """All steps. Nothing is waited for until the last has been dispatched."""
    start = time.perf_counter()
    steps = [run_step(stages, schedule, tokens) for tokens in batches]
    dispatched_s = time.perf_counter() - start
    losses, norms = zip(*jax.device_get(steps), strict=True)
    return {
        "losses": [float(loss) for loss in losses],
        "gradient_norms": np.concatenate(norms[0]).tolist(),  # of the first step, layer by layer
        "dispatched_s": dispatched_s,
        "total_s": time.perf_counter() - start,
    }


def train_in_one_program(options: argparse.Namespace, mesh: Mesh) -> dict[str, Any]:
    """What train() returns, of the same model with everything in one jitted step, all micro-batches at once."""
    optimiser = optax.adam(options.rate)

    @jax.jit
    def step(weights: list[Tree], state: Tree, tokens: jax.Array) -> tuple[Tree, Tree, tuple[jax.Array, jax.Array]]:
        loss, gradients = jax.value_and_grad(apply)(weights, tokens[:, :-1], tokens[:, 1:])
        norms = jnp.stack([optax.global_norm(layer) for layer in gradients])
        changes, state = optimiser.update(gradients, state, weights)
        return optax.apply_updates(weights, changes), state, (loss, norms)

    weights = jax.device_put(make_weights(options), NamedSharding(mesh, EVERYWHERE))
    state, steps = optimiser.init(weights), []
    for batch in make_batches(options):
        tokens = jax.device_put(batch.reshape(-1, batch.shape[-1]), NamedSharding(mesh, BY_ROWS))
        weights, state, told = step(weights, state, tokens)
        steps.append(told)
    losses, norms = zip(*jax.device_get(steps), strict=True)
    return {"losses": [float(loss) for loss in losses], "gradient_norms": norms[0].tolist()}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(["examples:", *__doc__.splitlines()[2:6]]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--schedule", choices=SCHEDULES, default="1f1b")
    parser.add_argument(
        "--stages", type=int, help="meshes to cut the devices into (default: one for each island, or 2)"
    )
    parser.add_argument("--chunks", type=int, default=2, help="stages on each mesh, of the interleaved schedule")
    parser.add_argument("--micro-batches", type=int, default=8, help="of each step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rows", type=int, default=8, help="sequences of a micro-batch")
    parser.add_argument("--seq", type=int, default=32, help="tokens of a sequence")
    parser.add_argument("--layers", type=int, default=8, help="a multiple of the number of stages")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rate", type=float, default=3e-3, help="Adam's learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model-parallel", type=int, default=1, help="devices that share each layer")
    parser.add_argument(
        "--keep",
        choices=("input", "residuals"),
        default="input",
        help="what a stage keeps for the way back: its input, to compute the rest again (default), or all of it",
    )
    add_outcome_options(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    meshes = island_meshes(options.stages or max(2, island_count()), options.model_parallel)
    chunks = options.chunks if options.schedule == "interleaved" else 1
    count = len(meshes) * chunks
    try:
        schedule = make_schedule(options.schedule, len(meshes), options.micro_batches, chunks)
    except ValueError as error:
        sys.exit(f"pipeline: {error}")
    data, model = meshes[0].shape.values()
    if (
        options.steps < 1
        or options.layers % count
        or options.rows % data
        or options.heads % model
        or options.width % options.heads
    ):
        sys.exit(
            f"pipeline: --layers has to be a multiple of {count} stages, --rows of {data}, --heads of {model}, "
            f"--width of --heads, and --steps at least 1"
        )
    kept = [
        most_kept(schedule, lambda unit, mesh=mesh: unit.stage % len(meshes) == mesh) for mesh in range(len(meshes))
    ]
    print(describe("stages on mesh" if chunks > 1 else "stage", meshes))
    print(f"{options.schedule}: {count} stages, each {data} data x {model} model; micro-batches kept, by mesh: {kept}")

    stages = make_stages(make_weights(options), meshes, count, options)
    result = train(stages, schedule, make_batches(options))
    losses = result["losses"]
    shown = losses[:: max(1, len(losses) // 12)]
    print("losses:", " ".join(f"{loss:.4f}" for loss in shown))
    show_times(options.steps, result)

    matches = True
    if options.check:
        whole = train_in_one_program(options, meshes[0])
        error = max(
            float(np.max(np.abs(np.subtract(result[what], whole[what])))) for what in ("losses", "gradient_norms")
        )
        matches = is_close(result, error)
    finish(options, result, matches, kept=kept, meshes=len(meshes))


if __name__ == "__main__":
    main()
