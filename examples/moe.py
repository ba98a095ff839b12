#!/usr/bin/env python3
"""Trains a mixture of experts that are spread over islands: tokens go to the experts that a router picks.

    JAX_PLATFORMS=causeway CAUSEWAY_ISLANDS=4 CAUSEWAY_DEVICES=2 python examples/moe.py
    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=8 python examples/moe.py --groups 4
    python examples/moe.py --experts 8 --choices 1 --capacity 1.0

The router and what comes after the experts live on the first mesh, expert `e` on mesh `e % groups`, each a program of
its own. Which token goes where is data, and how many go is not: every expert has room for as many in each step, and is
sent that many (`jax.device_put`), empty places included. So Python never has to look, and dispatches all steps before
it fetches the first loss. The way back is jax.vjp piece by piece, over the same meshes. At the end the same model is
trained again in one program, and the losses of both are compared.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from outcome import add_outcome_options, finish, is_close, show_times

from islands import describe, island_count, island_meshes

Tree = Any
BALANCE = 0.01  # how much it counts that experts get equal shares


# ---------------------------------------------------------------- data


def make_batches(options: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of several kinds, and what becomes of each: for every kind another function, which is to be learnt."""
    random = np.random.default_rng(options.seed + 1)
    kinds, width = options.experts, options.width
    marks = random.standard_normal((kinds, width))
    functions = random.standard_normal((kinds, width, width)) / np.sqrt(width)
    kind = random.integers(kinds, size=(options.steps, options.tokens))
    content = random.standard_normal((options.steps, options.tokens, width))
    wanted = np.empty_like(content)
    for number, function in enumerate(functions):
        wanted[kind == number] = np.tanh(content[kind == number] @ function)
    return (content + 2 * marks[kind]).astype(np.float32), wanted.astype(np.float32)


def make_weights(options: argparse.Namespace) -> tuple[Tree, list[Tree]]:
    """Of the home mesh, and of each expert."""
    random = np.random.default_rng(options.seed)

    def normal(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)

    width, hidden = options.width, options.hidden
    home = {"into": normal(width, width), "router": normal(width, options.experts), "out_of": normal(width, width)}
    experts = [{"up": normal(width, hidden), "down": normal(hidden, width)} for _ in range(options.experts)]
    return home, experts


# ---------------------------------------------------------------- model


def places(gates: jax.Array, choices: int, room: int) -> tuple[jax.Array, jax.Array]:
    """Who goes where: for (token, expert, place) whether the token has that place; and the share of first choices.

    Places are given in the order of the tokens, first choices first. Who finds an expert full is not sent there.
    """
    experts = gates.shape[1]
    chosen = jax.lax.top_k(gates, choices)[1]  # (token, choice)
    by_choice = jax.nn.one_hot(chosen.T, experts, dtype=jnp.int32)  # (choice, token, expert)
    before = jnp.cumsum(by_choice.reshape(-1, experts), axis=0).reshape(by_choice.shape) - by_choice
    taken = jax.nn.one_hot(before, room) * by_choice[..., None]  # places from `room` on are none
    return taken.sum(0), by_choice[0].mean(0, dtype=jnp.float32)


def route(weights: Tree, tokens: jax.Array, choices: int, room: int) -> tuple[tuple[jax.Array, ...], Tree, Tree]:
    """What every expert is sent, (room, width) each; what the combination needs; and what is told of the routing."""
    hidden = jax.nn.gelu(tokens @ weights["into"])
    gates = jax.nn.softmax(hidden @ weights["router"])
    place, shares = places(jax.lax.stop_gradient(gates), choices, room)
    sent = jnp.einsum("tep,tw->epw", place, hidden)
    balance = len(shares) * jnp.sum(shares * gates.mean(0))
    told = {"shares": shares, "dropped": 1 - place.sum() / (choices * len(tokens))}
    return tuple(sent), {"hidden": hidden, "by_place": place * gates[..., None], "balance": balance}, told


def expert(weights: Tree, x: jax.Array) -> jax.Array:
    return jax.nn.gelu(x @ weights["up"]) @ weights["down"]


def expert_back(weights: Tree, x: jax.Array, change: jax.Array) -> tuple[Tree, jax.Array]:
    return jax.vjp(expert, weights, x)[1](change)


def loss_of(weights: Tree, routed: Tree, answers: tuple[jax.Array, ...], wanted: jax.Array) -> jax.Array:
    """The experts' answers, back at their tokens and weighted by the router, turned into a loss."""
    mixed = jnp.einsum("tep,epw->tw", routed["by_place"], jnp.stack(answers))
    given = (routed["hidden"] + mixed) @ weights["out_of"]
    return jnp.square(given - wanted).mean() + BALANCE * routed["balance"]


class Mixture:
    """The model's weights on their meshes, and its programs."""

    def __init__(self, meshes: list[Mesh], options: argparse.Namespace) -> None:
        self.by_tokens = [NamedSharding(mesh, P("data")) for mesh in meshes]
        everywhere = [NamedSharding(mesh, P()) for mesh in meshes]
        optimiser = optax.adam(options.rate)
        home, experts = make_weights(options)
        self.mesh_of = [number % len(meshes) for number in range(len(experts))]
        self.home = jax.device_put(home, everywhere[0])
        self.experts = [
            jax.device_put(weights, everywhere[mesh]) for weights, mesh in zip(experts, self.mesh_of, strict=True)
        ]
        room, choices = room_of_experts(options, meshes[0]), options.choices

        def begin(weights: Tree, tokens: jax.Array) -> tuple[tuple[jax.Array, ...], Tree, Tree]:
            return route(weights, tokens, choices, room)

        def end(weights: Tree, routed: Tree, answers: tuple[jax.Array, ...], wanted: jax.Array) -> tuple[Any, ...]:
            """The loss, and its gradients: by the weights, by what route() made, and by the experts' answers."""
            return jax.value_and_grad(loss_of, argnums=(0, 1, 2))(weights, routed, answers, wanted)

        def begin_back(
            weights: Tree, tokens: jax.Array, sent: tuple[jax.Array, ...], routed: Tree, by_end: Tree
        ) -> Tree:
            """The gradient of all weights of the home mesh, `sent` and `routed` being those of route()'s results."""
            pull_back = jax.vjp(lambda weights: begin(weights, tokens)[:2], weights)[1]
            return jax.tree.map(jnp.add, pull_back((sent, routed))[0], by_end)

        def update(weights: Tree, state: Tree, gradients: Tree) -> tuple[Tree, Tree]:
            changes, state = optimiser.update(gradients, state, weights)
            return optax.apply_updates(weights, changes), state

        rows, whole = self.by_tokens[0], everywhere[0]
        self._begin = jax.jit(begin, out_shardings=(rows, {"hidden": rows, "by_place": rows, "balance": whole}, whole))
        self._end = jax.jit(
            end, out_shardings=(whole, (whole, {"hidden": rows, "by_place": rows, "balance": whole}, rows))
        )
        # One for each mesh. What they make has the shardings of what they were sent, so that it can be sent back.
        self._expert = [jax.jit(expert, out_shardings=rows) for rows in self.by_tokens]
        self._expert_back = [
            jax.jit(expert_back, out_shardings=(whole, rows))
            for whole, rows in zip(everywhere, self.by_tokens, strict=True)
        ]
        self._begin_back = jax.jit(begin_back, out_shardings=whole)
        self._update = [jax.jit(update, out_shardings=whole, donate_argnums=(0, 1)) for whole in everywhere]
        start = [jax.jit(optimiser.init, out_shardings=whole) for whole in everywhere]
        self.home_state = start[0](self.home)
        self.expert_states = [start[mesh](weights) for mesh, weights in zip(self.mesh_of, self.experts, strict=True)]

    def step(self, host_tokens: np.ndarray, host_wanted: np.ndarray) -> tuple[jax.Array, Tree]:
        """One step of training, dispatched: the loss, and what is told of the routing, when they are done."""
        home = self.by_tokens[0]
        there = [self.by_tokens[mesh] for mesh in self.mesh_of]
        tokens, wanted = jax.device_put((host_tokens, host_wanted), home)

        sent, routed, told = self._begin(self.home, tokens)
        asked = [jax.device_put(x, rows) for x, rows in zip(sent, there, strict=True)]
        answers = [self._expert[mesh](*each) for mesh, *each in zip(self.mesh_of, self.experts, asked, strict=True)]
        home_answers = tuple(jax.device_put(y, home) for y in answers)
        loss, (by_end, by_routed, by_answers) = self._end(self.home, routed, home_answers, wanted)

        changes = [jax.device_put(change, rows) for change, rows in zip(by_answers, there, strict=True)]
        by_expert = [
            self._expert_back[mesh](*each)
            for mesh, *each in zip(self.mesh_of, self.experts, asked, changes, strict=True)
        ]
        by_sent = tuple(jax.device_put(change, home) for _, change in by_expert)
        gradients = self._begin_back(self.home, tokens, by_sent, by_routed, by_end)

        self.home, self.home_state = self._update[0](self.home, self.home_state, gradients)
        for number, (mesh, (gradients, _)) in enumerate(zip(self.mesh_of, by_expert, strict=True)):
            self.experts[number], self.expert_states[number] = self._update[mesh](
                self.experts[number], self.expert_states[number], gradients
            )
        return loss, told


def room_of_experts(options: argparse.Namespace, mesh: Mesh) -> int:
    """How many tokens an expert takes in a step: its fair share times --capacity, in multiples of the devices."""
    data = mesh.shape["data"]
    return -(-int(options.capacity * options.tokens * options.choices / options.experts) // data) * data


# ---------------------------------------------------------------- the run


def train(options: argparse.Namespace, meshes: list[Mesh]) -> dict[str, Any]:
    """All steps over all meshes. Nothing is waited for until the last has been dispatched."""
    mixture = Mixture(meshes, options)
    start = time.perf_counter()
    steps = [mixture.step(*batch) for batch in zip(*make_batches(options), strict=True)]
    dispatched_s = time.perf_counter() - start
    losses, told = zip(*jax.device_get(steps), strict=True)
    return {
        "losses": [float(loss) for loss in losses],
        "shares": [each["shares"].tolist() for each in told],
        "dropped": [float(each["dropped"]) for each in told],
        "dispatched_s": dispatched_s,
        "total_s": time.perf_counter() - start,
    }


def train_in_one_program(options: argparse.Namespace, mesh: Mesh) -> list[float]:
    """The losses of the same model with everything in one jitted step."""
    optimiser = optax.adam(options.rate)
    room = room_of_experts(options, mesh)

    @jax.jit
    def step(weights: Tree, state: Tree, tokens: jax.Array, wanted: jax.Array) -> tuple[Tree, Tree, jax.Array]:
        def loss(weights: Tree) -> jax.Array:
            home, experts = weights
            sent, routed, _ = route(home, tokens, options.choices, room)
            return loss_of(home, routed, tuple(expert(*each) for each in zip(experts, sent, strict=True)), wanted)

        value, gradients = jax.value_and_grad(loss)(weights)
        changes, state = optimiser.update(gradients, state, weights)
        return optax.apply_updates(weights, changes), state, value

    weights = jax.device_put(make_weights(options), NamedSharding(mesh, P()))
    state, losses = jax.jit(optimiser.init)(weights), []
    for batch in zip(*make_batches(options), strict=True):
        weights, state, loss = step(weights, state, *jax.device_put(batch, NamedSharding(mesh, P("data"))))
        losses.append(loss)
    return [float(loss) for loss in losses]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(["examples:", *__doc__.splitlines()[2:5]]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--groups", type=int, help="meshes to cut the devices into (default: one for each island, or 2)"
    )
    parser.add_argument("--experts", type=int, default=4)
    parser.add_argument("--choices", type=int, default=2, help="experts that a token goes to")
    parser.add_argument("--capacity", type=float, default=1.25, help="room of an expert, in fair shares")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--tokens", type=int, default=256, help="of each step")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=128, help="hidden units of an expert")
    parser.add_argument("--rate", type=float, default=3e-3, help="Adam's learning rate")
    parser.add_argument("--seed", type=int, default=0)
    add_outcome_options(parser)
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    meshes = island_meshes(options.groups or max(2, island_count()))
    data = meshes[0].shape["data"]
    if options.tokens % data or not 1 <= options.choices <= options.experts or options.steps < 1:
        sys.exit(f"moe: --tokens has to be a multiple of {data}, --choices from 1 to --experts, and --steps at least 1")
    print(describe("mesh", meshes))
    print(
        f"{options.experts} experts with room for {room_of_experts(options, meshes[0])} of {options.tokens} tokens each"
    )

    result = train(options, meshes)
    losses = result["losses"]
    for number in sorted({0, *np.linspace(0, options.steps - 1, 7).astype(int)}):
        shares = " ".join(f"{share:4.0%}" for share in result["shares"][number])
        print(
            f"step {number + 1:3}: loss {losses[number]:.4f}, first choices {shares}, "
            f"{result['dropped'][number]:.0%} found no room"
        )
    show_times(options.steps, result)
    matches = True
    if options.check:
        error = float(np.max(np.abs(np.subtract(losses, train_in_one_program(options, meshes[0])))))
        matches = is_close(result, error)
    finish(options, result, matches, meshes=len(meshes))


if __name__ == "__main__":
    main()
