#!/usr/bin/env python3
"""Two encoders with different programs, on different islands, feeding one decoder on a third.

    JAX_PLATFORMS=causeway CAUSEWAY_ISLANDS=3 CAUSEWAY_DEVICES=2 python examples/multimodal.py
    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=4 python examples/multimodal.py --groups 2

Questions about pictures: a picture has a square of some colour in some quarter, a question asks for the colour or for
the place, in one of several wordings. Patches of the picture go through convolutions on the first mesh, the words of
the question through attention on the second, and a decoder on the third (the second, where there are only two) reads
both and writes the answer's two words. The encoders run ahead of the decoder by --ahead micro-batches, and Python ahead
of them all: it dispatches every step before it fetches the first loss. At the end the same model is trained again in
one program, and the losses of both are compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from outcome import add_outcome_options, finish, is_close, show_times

from islands import describe, island_count, island_meshes

Tree = Any

COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "white": (1, 1, 1)}
PLACES = {"top-left": (0, 0), "top-right": (0, 1), "bottom-left": (1, 0), "bottom-right": (1, 1)}
QUESTIONS = (
    ("colour", ("which colour has the square", "the square is of what colour", "please name its colour")),
    ("place", ("which place has the square", "the square is at what place", "please name its place")),
)
WORDS = sorted({"", *COLOURS, *PLACES, *(w for _, wordings in QUESTIONS for text in wordings for w in text.split())})
QUESTION_WORDS = 6
PICTURE = 16  # pixels a side


# ---------------------------------------------------------------- data


def make_batches(options: argparse.Namespace) -> list[list[dict[str, np.ndarray]]]:
    """The micro-batches of every step: pictures, questions, and answers of two words, such as "colour", "red"."""
    random = np.random.default_rng(options.seed + 1)

    def pick(choices: Any) -> Any:
        return choices[random.integers(len(choices))]

    def one() -> tuple[np.ndarray, list[int], list[int]]:
        colour, place, (asked, wordings) = pick(list(COLOURS)), pick(list(PLACES)), pick(QUESTIONS)
        picture = random.normal(0, 0.3, (PICTURE, PICTURE, 3))
        half = PICTURE // 2
        top, left = np.array(PLACES[place]) * half + random.integers(0, half - 3, size=2)
        picture[top : top + 4, left : left + 4] += COLOURS[colour]
        question = [*pick(wordings).split(), *[""] * QUESTION_WORDS][:QUESTION_WORDS]
        answer = [asked, colour if asked == "colour" else place]
        return picture, [WORDS.index(word) for word in question], [WORDS.index(word) for word in answer]

    def micro_batch() -> dict[str, np.ndarray]:
        pictures, questions, answers = zip(*(one() for _ in range(options.rows)), strict=True)
        return {
            "picture": np.array(pictures, np.float32),
            "question": np.array(questions, np.int32),
            "answer": np.array(answers, np.int32),
        }

    return [[micro_batch() for _ in range(options.micro_batches)] for _ in range(options.steps)]


# ---------------------------------------------------------------- model


class Attention(nn.Module):
    """Attention to `context` and a two-layer network, each added to what came in."""

    @nn.compact
    def __call__(self, x: jax.Array, context: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        width = x.shape[-1]
        x = x + nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x), context, mask=mask)
        return x + nn.Dense(width)(nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x))))


class PictureEncoder(nn.Module):
    """Patches of 4 by 4 pixels, and convolutions over them."""

    width: int

    @nn.compact
    def __call__(self, picture: jax.Array) -> jax.Array:
        x = nn.Conv(self.width, (4, 4), strides=4)(picture)
        x = x + nn.Conv(self.width, (3, 3))(nn.gelu(nn.LayerNorm()(x)))
        x = x.reshape(len(x), -1, self.width)
        return x + self.param("position", nn.initializers.normal(0.1), x.shape[1:])


class QuestionEncoder(nn.Module):
    """Words, and attention among them."""

    width: int

    @nn.compact
    def __call__(self, question: jax.Array) -> jax.Array:
        x = nn.Embed(len(WORDS), self.width)(question)
        x = x + self.param("position", nn.initializers.normal(0.1), x.shape[1:])
        return Attention()(x, x)


class Decoder(nn.Module):
    """The answer, word by word, with a view of what both encoders say. Returns the mean loss."""

    width: int

    @nn.compact
    def __call__(self, seen: jax.Array, heard: jax.Array, answer: jax.Array) -> jax.Array:
        so_far = jnp.pad(answer, ((0, 0), (1, 0)))[:, :-1]
        x = nn.Embed(len(WORDS), self.width)(so_far)
        x = x + self.param("position", nn.initializers.normal(0.1), x.shape[1:])
        causal = nn.make_causal_mask(so_far)
        context = nn.LayerNorm()(jnp.concatenate([seen, heard], axis=1))
        x = Attention()(Attention()(x, x, causal), context)
        logits = nn.Dense(len(WORDS))(nn.LayerNorm()(x))
        return optax.softmax_cross_entropy_with_integer_labels(logits, answer).mean()


def models(options: argparse.Namespace) -> dict[str, nn.Module]:
    return {
        "picture": PictureEncoder(options.width),
        "question": QuestionEncoder(options.width),
        "decoder": Decoder(options.width),
    }


def make_weights(options: argparse.Namespace) -> dict[str, Tree]:
    """The weights of all three, on the host, the same wherever they go then."""
    random = np.random.default_rng(options.seed)
    inputs = {
        "picture": [jnp.zeros((1, PICTURE, PICTURE, 3))],
        "question": [jnp.zeros((1, QUESTION_WORDS), int)],
        "decoder": [*[jnp.zeros((1, 1, options.width))] * 2, jnp.zeros((1, 2), int)],
    }

    def weight(path: Any, wanted: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("scale", "bias"):
            return np.full(wanted.shape, path[-1].key == "scale", np.float32)
        return (random.standard_normal(wanted.shape) / np.sqrt(np.prod(wanted.shape[:-1]))).astype(np.float32)

    shapes = {
        name: jax.eval_shape(model.init, jax.random.key(0), *inputs[name]) for name, model in models(options).items()
    }
    return jax.tree_util.tree_map_with_path(weight, shapes)


def add(one: Tree, other: Tree) -> Tree:
    return jax.tree.map(jnp.add, one, other)


# ---------------------------------------------------------------- parts on meshes


class Part:
    """One of the three networks on its mesh, with its optimiser: what they have in common."""

    def __init__(self, mesh: Mesh, weights: Tree, options: argparse.Namespace) -> None:
        self.by_rows, self.everywhere = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
        optimiser = optax.adam(options.rate)

        def update(weights: Tree, state: Tree, gradients: Tree) -> tuple[Tree, Tree, Tree]:
            """Also zeroes the gradients for the next step."""
            mean = jax.tree.map(lambda gradient: gradient / options.micro_batches, gradients)
            changes, state = optimiser.update(mean, state, weights)
            return optax.apply_updates(weights, changes), state, jax.tree.map(jnp.zeros_like, gradients)

        self.weights = jax.device_put(weights, self.everywhere)
        self.state, self.gradients = jax.jit(
            lambda weights: (optimiser.init(weights), jax.tree.map(jnp.zeros_like, weights)),
            out_shardings=self.everywhere,
        )(self.weights)
        self._update = jax.jit(update, out_shardings=self.everywhere, donate_argnums=(0, 1, 2))

    def update(self) -> None:
        self.weights, self.state, self.gradients = self._update(self.weights, self.state, self.gradients)


class Encoder(Part):
    """forward() and, later, backward() over a micro-batch; backward computes the inner values again."""

    def __init__(self, apply: Callable[..., jax.Array], *arguments: Any) -> None:
        super().__init__(*arguments)

        def backward(weights: Tree, x: jax.Array, change: jax.Array, gradients: Tree) -> Tree:
            return add(gradients, jax.vjp(lambda weights: apply(weights, x), weights)[1](change)[0])

        self._forward = jax.jit(apply, out_shardings=self.by_rows)
        self._backward = jax.jit(backward, out_shardings=self.everywhere, donate_argnums=3)

    def forward(self, x: jax.Array) -> jax.Array:
        return self._forward(self.weights, x)

    def backward(self, x: jax.Array, change: jax.Array) -> None:
        self.gradients = self._backward(self.weights, x, change, self.gradients)


class LossDecoder(Part):
    """forward_backward(): the loss of a micro-batch, and its gradients by what the encoders said."""

    def __init__(self, apply: Callable[..., jax.Array], *arguments: Any) -> None:
        super().__init__(*arguments)

        def forward_backward(
            weights: Tree, seen: jax.Array, heard: jax.Array, answer: jax.Array, gradients: Tree
        ) -> tuple[jax.Array, jax.Array, jax.Array, Tree]:
            loss, by = jax.value_and_grad(apply, argnums=(0, 1, 2))(weights, seen, heard, answer)
            return loss, by[1], by[2], add(gradients, by[0])

        self._forward_backward = jax.jit(
            forward_backward,
            out_shardings=(self.everywhere, self.by_rows, self.by_rows, self.everywhere),
            donate_argnums=4,
        )

    def forward_backward(
        self, seen: jax.Array, heard: jax.Array, answer: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        loss, by_seen, by_heard, self.gradients = self._forward_backward(
            self.weights, seen, heard, answer, self.gradients
        )
        return loss, by_seen, by_heard


@jax.jit
def mean(losses: list[jax.Array]) -> jax.Array:
    return jnp.stack(losses).mean()


def run_step(
    pictures: Encoder, questions: Encoder, decoder: LossDecoder, batch: list[dict[str, np.ndarray]], ahead: int
) -> jax.Array:
    """One step of training, dispatched: its loss, when that is done."""
    losses, encoded = [], []
    for number in range(len(batch) + ahead):
        if number < len(batch):
            picture = jax.device_put(batch[number]["picture"], pictures.by_rows)
            question = jax.device_put(batch[number]["question"], questions.by_rows)
            seen = jax.device_put(pictures.forward(picture), decoder.by_rows)
            heard = jax.device_put(questions.forward(question), decoder.by_rows)
            encoded.append((picture, question, seen, heard))
        if number >= ahead:
            picture, question, seen, heard = encoded.pop(0)
            answer = jax.device_put(batch[number - ahead]["answer"], decoder.by_rows)
            loss, by_seen, by_heard = decoder.forward_backward(seen, heard, answer)
            pictures.backward(picture, jax.device_put(by_seen, pictures.by_rows))
            questions.backward(question, jax.device_put(by_heard, questions.by_rows))
            losses.append(loss)
    for part in (pictures, questions, decoder):
        part.update()
    return mean(losses)


def train(options: argparse.Namespace, meshes: list[Mesh], weights: dict[str, Tree]) -> dict[str, Any]:
    """All steps over all meshes. Nothing is waited for until the last has been dispatched."""
    apply = {name: model.apply for name, model in models(options).items()}
    pictures = Encoder(apply["picture"], meshes[0], weights["picture"], options)
    questions = Encoder(apply["question"], meshes[1], weights["question"], options)
    decoder = LossDecoder(apply["decoder"], meshes[-1], weights["decoder"], options)
    start = time.perf_counter()
    losses = [run_step(pictures, questions, decoder, batch, options.ahead) for batch in make_batches(options)]
    dispatched_s = time.perf_counter() - start
    return {
        "losses": [float(loss) for loss in losses],
        "dispatched_s": dispatched_s,
        "total_s": time.perf_counter() - start,
    }


def train_in_one_program(options: argparse.Namespace, mesh: Mesh, weights: dict[str, Tree]) -> list[float]:
    """The losses of the same model with everything in one jitted step, all micro-batches at once."""
    apply = {name: model.apply for name, model in models(options).items()}
    optimiser = optax.adam(options.rate)

    def loss_of(weights: dict[str, Tree], batch: dict[str, jax.Array]) -> jax.Array:
        encoded = [apply[name](weights[name], batch[name]) for name in ("picture", "question")]
        return apply["decoder"](weights["decoder"], *encoded, batch["answer"])

    @jax.jit
    def step(weights: Tree, state: Tree, batch: dict[str, jax.Array]) -> tuple[Tree, Tree, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(weights, batch)
        changes, state = optimiser.update(gradients, state, weights)
        return optax.apply_updates(weights, changes), state, loss

    weights = jax.device_put(weights, NamedSharding(mesh, P()))
    state, losses = jax.jit(optimiser.init)(weights), []
    for batch in make_batches(options):
        together = {name: np.concatenate([each[name] for each in batch]) for name in batch[0]}
        weights, state, loss = step(weights, state, jax.device_put(together, NamedSharding(mesh, P("data"))))
        losses.append(loss)
    return [float(loss) for loss in losses]


# ---------------------------------------------------------------- the run


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(["examples:", *__doc__.splitlines()[2:4]]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--groups", type=int, choices=(2, 3), help="meshes (default: 3 where there are three islands)")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--micro-batches", type=int, default=2, help="of each step")
    parser.add_argument("--ahead", type=int, default=2, help="micro-batches by which the encoders lead the decoder")
    parser.add_argument("--rows", type=int, default=32, help="questions of a micro-batch")
    parser.add_argument("--width", type=int, default=32, help="a multiple of 4")
    parser.add_argument("--rate", type=float, default=3e-3, help="Adam's learning rate")
    parser.add_argument("--seed", type=int, default=0)
    add_outcome_options(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    meshes = island_meshes(options.groups or max(2, island_count()))[:3]
    data = meshes[0].shape["data"]
    if options.rows % data or options.width % 4 or options.ahead < 0 or min(options.steps, options.micro_batches) < 1:
        sys.exit(
            f"multimodal: --rows has to be a multiple of {data}, --width of 4, --ahead at least 0, --steps and "
            f"--micro-batches at least 1"
        )
    print(describe("mesh", meshes))
    print(f"pictures on mesh 0, questions on mesh 1, decoder on mesh {len(meshes) - 1}")

    weights = make_weights(options)
    result = train(options, meshes, weights)
    losses = result["losses"]
    shown = losses[:: max(1, len(losses) // 12)]
    print("losses:", " ".join(f"{loss:.4f}" for loss in shown))
    show_times(options.steps, result)
    matches = True
    if options.check:
        error = float(np.max(np.abs(np.subtract(losses, train_in_one_program(options, meshes[0], weights)))))
        # Some weights have next to no gradient, and Adam makes much of what is left of it.
        matches = is_close(result, error, limit=1e-2)
    finish(options, result, matches, meshes=len(meshes))


if __name__ == "__main__":
    main()
