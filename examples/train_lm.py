#!/usr/bin/env python3
"""Trains a byte-level transformer language model on real text, data- and tensor-parallel over all devices.

    python examples/train_lm.py                        # on whatever devices JAX finds
    JAX_PLATFORMS=causeway python examples/train_lm.py # on a Causeway cluster; nothing else changes
    python examples/train_lm.py --data ~/notes --steps 2000

The text is the Python standard library's sources, or every text file below --data. The program is ordinary JAX with
Flax and Optax. The same seed gives the same losses, within floating-point tolerance, on any number of devices: batches
and initial weights do not depend on the mesh.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import queue
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import optax
from flax.training.train_state import TrainState
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from tqdm import tqdm

matplotlib.use("Agg")
import matplotlib.pyplot as plt

VOCABULARY = 256  # bytes
HELD_OUT = 0.05  # the last part of the text, which training never sees
LOOK_AHEAD = 2  # steps dispatched before the loss of an earlier one is read


# ---------------------------------------------------------------- text


def read_text(folder: Path | None, max_bytes: int) -> np.ndarray:
    """Up to `max_bytes` of text as bytes, in an order that is the same on every machine with the same files."""
    if folder is None:
        root = Path(sysconfig.get_path("stdlib"))
        skipped = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
        files = (f for f in sorted(root.rglob("*.py")) if skipped.isdisjoint(f.relative_to(root).parts))
    else:
        files = (f for f in sorted(folder.rglob("*")) if f.is_file())
    parts: list[bytes] = []
    size = 0
    for file in files:
        with contextlib.suppress(OSError, UnicodeDecodeError):
            text = file.read_bytes()
            text.decode()  # what is no text is left out
            parts.append((text + b"\n")[: max_bytes - size])
            size += len(parts[-1])
        if size >= max_bytes:
            break
    return np.frombuffer(b"".join(parts), np.uint8)


def batches(text: np.ndarray, batch: int, seq: int, seed: int) -> Iterator[np.ndarray]:
    """Random windows of the text, (batch, seq + 1), for ever: inputs and, one further on, targets."""
    random = np.random.default_rng(seed)
    offsets = np.arange(seq + 1)
    while True:
        starts = random.integers(0, len(text) - seq - 1, size=(batch, 1))
        yield text[starts + offsets].astype(np.int32)


def prefetched(host: Iterator[np.ndarray], sharding: NamedSharding, depth: int = 2) -> Iterator[jax.Array]:
    """The host's batches on the devices, put there by a thread that is `depth` batches ahead."""
    ready: queue.Queue[jax.Array | BaseException | None] = queue.Queue(depth)

    def fill() -> None:
        try:
            for item in host:
                ready.put(jax.device_put(item, sharding))
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=fill, daemon=True).start()
    while (item := ready.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item


# ---------------------------------------------------------------- model


class Block(nn.Module):
    """Attention and a two-layer network, heads and hidden units split over the mesh's axis `model`."""

    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        width = x.shape[-1]
        head = width // self.heads
        init = nn.initializers.lecun_normal()
        by_heads = nn.with_partitioning(init, (None, None, "model", None))
        from_heads = nn.with_partitioning(init, ("model", None, None))
        by_columns = nn.with_partitioning(init, (None, "model"))
        by_rows = nn.with_partitioning(init, ("model", None))

        y = nn.LayerNorm(use_bias=False)(x)
        qkv = nn.DenseGeneral((3, self.heads, head), use_bias=False, kernel_init=by_heads, name="qkv")(y)
        query, key, value = jnp.moveaxis(qkv, -3, 0)
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(head)
        causal = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        weights = jax.nn.softmax(jnp.where(causal, scores, -1e9), axis=-1)
        y = jnp.einsum("bhqk,bkhd->bqhd", weights, value)
        x = x + nn.DenseGeneral(width, axis=(-2, -1), use_bias=False, kernel_init=from_heads, name="out")(y)

        y = nn.LayerNorm(use_bias=False)(x)
        y = nn.gelu(nn.Dense(4 * width, use_bias=False, kernel_init=by_columns, name="up")(y))
        return x + nn.Dense(width, use_bias=False, kernel_init=by_rows, name="down")(y)


class LanguageModel(nn.Module):
    """From bytes to the logits of the byte after each."""

    layers: int
    width: int
    heads: int
    context: int

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        init = nn.initializers.normal(0.02)
        embedding = self.param("embedding", init, (VOCABULARY, self.width))
        position = self.param("position", init, (self.context, self.width))
        x = embedding[tokens] + position[: tokens.shape[1]]
        for number in range(self.layers):
            x = Block(self.heads, name=f"block{number}")(x)
        return nn.LayerNorm(use_bias=False)(x) @ embedding.T


def mean_loss(apply: Callable[..., jax.Array], params: Any, batch: jax.Array) -> jax.Array:
    """Mean cross entropy, in nats a byte."""
    logits = apply({"params": params}, batch[:, :-1])
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[:, 1:]).mean()


def train_step(state: TrainState, batch: jax.Array) -> tuple[TrainState, jax.Array]:
    loss, gradients = jax.value_and_grad(lambda params: mean_loss(state.apply_fn, params, batch))(state.params)
    return state.apply_gradients(grads=gradients), loss


def generate(state: TrainState, prompt: jax.Array, key: jax.Array, length: int, temperature: float) -> jax.Array:
    """`length` bytes after `prompt`, sampled one by one, all inside one program."""

    def next_byte(window: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        logits = state.apply_fn({"params": state.params}, window[None])[0, -1]
        byte = jax.random.categorical(key, logits / temperature).astype(window.dtype)
        return jnp.append(window[1:], byte), byte

    return jax.lax.scan(next_byte, prompt, jax.random.split(key, length))[1]


def make_state(options: argparse.Namespace, mesh: Mesh) -> tuple[TrainState, Any]:
    """The model and its optimiser, made on the devices where each part belongs; and the sharding of every part."""
    model = LanguageModel(options.layers, options.width, options.heads, options.seq)
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, options.rate, warmup_steps=max(1, options.steps // 10), decay_steps=max(2, options.steps)
    )
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, weight_decay=0.01))

    def make(key: jax.Array) -> TrainState:
        params = model.init(key, jnp.zeros((1, options.seq), jnp.int32))["params"]
        return TrainState.create(apply_fn=model.apply, params=params, tx=optimiser)

    key = jax.random.key(options.seed)
    specs = nn.get_partition_spec(jax.eval_shape(make, key))
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    return nn.unbox(jax.jit(make, out_shardings=shardings)(key)), nn.unbox(shardings)


# ---------------------------------------------------------------- the run


def make_mesh(model_parallel: int | None) -> Mesh:
    """All devices, as (data, model). Two by default share each layer, where their number is even."""
    devices = len(jax.devices())
    model = model_parallel or (2 if devices % 2 == 0 else 1)
    if devices % model:
        sys.exit(f"train_lm: {devices} devices cannot be split into groups of {model} (--model-parallel)")
    return jax.make_mesh((devices // model, model), ("data", "model"), axis_types=(AxisType.Auto,) * 2)


def train(
    state: TrainState, step: Callable[..., Any], data: Iterator[jax.Array], options: argparse.Namespace
) -> tuple[TrainState, list[float], float]:
    """Runs all steps; returns the state, every loss, and tokens a second, not counting the first step's compilation."""
    tokens_per_step = options.batch * options.seq
    pending: list[jax.Array] = []
    losses: list[float] = []
    start = time.perf_counter()
    with tqdm(total=options.steps, unit="step", mininterval=0.5 if sys.stderr.isatty() else 10) as bar:
        for number, batch in enumerate(data):
            state, loss = step(state, batch)
            pending.append(loss)
            while pending and (len(pending) > LOOK_AHEAD or number in (0, options.steps - 1)):
                losses.append(float(pending.pop(0)))
            if number == 0:
                start = time.perf_counter()
            rate = number * tokens_per_step / (time.perf_counter() - start)
            bar.set_postfix_str(f"loss {np.mean(losses[-10:] or np.nan):.3f}, {rate:,.0f} tokens/s", refresh=False)
            bar.update()
    return state, losses, (options.steps - 1) * tokens_per_step / (time.perf_counter() - start)


def plot(losses: list[float], held_out: float, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 4.5))
    axes.plot(np.arange(1, len(losses) + 1), losses, lw=1)
    axes.axhline(held_out, ls="--", lw=1, color="tab:red", label=f"held-out text: {held_out:.3f}")
    axes.set(xlabel="step", ylabel="loss (nats a byte)", title="train_lm")
    axes.legend()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a folder of text (default: the Python standard library's sources)")
    parser.add_argument("--max-bytes", type=int, default=8_000_000, help="read no more text than this")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=16, help="sequences in a batch, over all devices")
    parser.add_argument("--seq", type=int, default=128, help="bytes in a sequence")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--rate", type=float, default=3e-3, help="the highest learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model-parallel", type=int, help="devices that share each layer (default: 2, or 1)")
    parser.add_argument("--sample", type=int, default=300, help="bytes of text to generate at the end; 0: none")
    parser.add_argument("--plot", type=Path, default=Path("train_lm.png"), help="where the plot of the loss goes")
    parser.add_argument("--losses", type=Path, help="write every loss and the speed to this JSON file")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    text = read_text(options.data, options.max_bytes)
    split = int(len(text) * (1 - HELD_OUT))
    if len(text) - split <= options.seq + 1:
        sys.exit(f"train_lm: {len(text)} bytes of text are too few for sequences of {options.seq}")

    mesh = make_mesh(options.model_parallel)
    if options.batch % mesh.shape["data"] or options.heads % mesh.shape["model"]:
        sys.exit(f"train_lm: --batch and --heads have to be multiples of the mesh's axes, {dict(mesh.shape)}")
    batch_sharding = NamedSharding(mesh, P("data"))
    replicated = NamedSharding(mesh, P())
    state, shardings = make_state(options, mesh)
    count = sum(x.size for x in jax.tree.leaves(state.params))
    print(
        f"{count:,} parameters, {len(text):,} bytes of text, {mesh.size} devices "
        f"({mesh.shape['data']} data x {mesh.shape['model']} model), platform {jax.devices()[0].platform}",
        flush=True,
    )

    step = jax.jit(train_step, donate_argnums=0, out_shardings=(shardings, replicated))
    training = batches(text[:split], options.batch, options.seq, options.seed)
    data = prefetched(itertools.islice(training, options.steps), batch_sharding)
    state, losses, tokens_per_s = train(state, step, data, options)

    evaluate = jax.jit(lambda params, batch: mean_loss(state.apply_fn, params, batch))
    unseen = itertools.islice(batches(text[split:], options.batch, options.seq, options.seed), 8)
    held_out = float(np.mean([evaluate(state.params, jax.device_put(batch, batch_sharding)) for batch in unseen]))
    print(f"final loss {np.mean(losses[-10:]):.4f}, on held-out text {held_out:.4f}, {tokens_per_s:,.0f} tokens/s")

    if options.sample:
        prompt = jax.device_put(text[split : split + options.seq].astype(np.int32), replicated)
        sampler = jax.jit(generate, static_argnums=(3, 4), out_shardings=replicated)
        written = sampler(state, prompt, jax.random.key(options.seed + 1), options.sample, 0.7)
        print("---- a sample ----")
        print(np.asarray(written).astype(np.uint8).tobytes().decode(errors="replace"))
        print("------------------")
    plot(losses, held_out, options.plot)
    print(f"plot: {options.plot}")
    if options.losses:
        result = {"losses": losses, "held_out": held_out, "tokens_per_s": tokens_per_s, "devices": mesh.size}
        options.losses.parent.mkdir(parents=True, exist_ok=True)
        options.losses.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
