"""Errors that are found later than they are made say where in the user's program they were made."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster

TOO_LARGE = 1 << 44  # elements: no host has an address space for them


def launch_too_large(device: int = 0) -> jax.Array:
    """The place that the tests look for."""
    repeat = jax.jit(lambda x: jnp.broadcast_to(x, (TOO_LARGE,)))
    return repeat(jax.device_put(np.float32(1), jax.devices()[device]))


def text_of(look, x: jax.Array) -> str:
    with pytest.raises(jax.errors.JaxRuntimeError) as caught:
        look(x)
    return str(caught.value)


def expect_place(text: str, function: str) -> None:
    frames = [line for line in text.splitlines() if line.endswith((f"({function})", f".{function})"))]
    assert len(frames) == 1, text
    assert "traceback_test.py:" in frames[0]


LOOKS = {
    "block_until_ready": lambda x: x.block_until_ready(),
    "asarray": lambda x: np.asarray(x[:2]),
    "float": lambda x: float(x[0]),
    "device_get": lambda x: jax.device_get(x[:2]),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_failed_launch_shows_the_line_that_launched_it(client: Client, look: str) -> None:
    def run() -> None:
        text = text_of(LOOKS[look], launch_too_large())
        assert "RESOURCE_EXHAUSTED" in text
        expect_place(text, "launch_too_large")

    client.call(run)


def test_what_depends_on_it_shows_the_same_line_on_any_worker(client_of_two: Client) -> None:
    def depend(x: jax.Array) -> jax.Array:
        for _ in range(3):
            x = jax.jit(lambda x: x[:8] * 2)(x)
        return jax.jit(jnp.sum)(jax.device_put(x, jax.devices()[3]))

    def run() -> None:
        text = text_of(float, depend(launch_too_large(device=1)))
        expect_place(text, "launch_too_large")
        assert "(depend)" not in text

    client_of_two.call(run)


def test_the_line_is_still_known_when_much_else_has_run_since(client: Client) -> None:
    def run() -> None:
        failed = launch_too_large()
        x = jnp.float32(0)
        for _ in range(3000):
            x = x + 1
        assert float(x) == 3000
        expect_place(text_of(jax.block_until_ready, failed), "launch_too_large")

    client.call(run)


def test_of_very_many_failures_the_latest_show_their_line_and_the_client_lives_on(client: Client) -> None:
    def fail_often() -> None:
        failed = [launch_too_large() for _ in range(5)]
        repeat = jax.jit(lambda x: jnp.broadcast_to(x, (TOO_LARGE,)))
        one = jax.device_put(np.float32(1), jax.devices()[0])
        for _ in range(1200):
            last = repeat(one)
        failed.append(launch_too_large())
        assert "(launch_too_large)" not in text_of(jax.block_until_ready, failed[0])
        assert "user context" not in text_of(jax.block_until_ready, failed[0])
        expect_place(text_of(jax.block_until_ready, failed[-1]), "launch_too_large")
        expect_place(text_of(jax.block_until_ready, last), "fail_often")
        assert float(jnp.float32(1) + 1) == 2

    client.call(fail_often)


def test_what_a_lost_worker_was_running_shows_the_line_that_launched_it(folder: Path) -> None:
    def launch_for_ever() -> jax.Array:
        count = jax.jit(lambda n: jax.lax.fori_loop(0, n, lambda i, x: x + jnp.sin(x), jnp.float32(1)))
        return count(jax.device_put(np.int32(2_000_000_000), jax.devices()[2]))

    def start(kept: dict) -> None:
        kept["x"] = launch_for_ever()

    def look(kept: dict) -> str:
        return text_of(jax.block_until_ready, kept["x"])

    with Cluster.up(folder, hosts=2, devices=2) as cluster, Client(cluster.client_address, folder) as client:
        client.call(start)
        cluster.kill_worker(1)
        text = client.call(look)
    assert "DATA_LOSS" in text
    expect_place(text, "launch_for_ever")
