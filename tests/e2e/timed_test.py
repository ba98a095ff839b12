"""Timed devices (`--launch-time`): launches take a set time in real time, compute nothing, and yield zeros."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster, clean_environment, short_folder
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from causeway.binary import find_binary


@pytest.fixture(scope="module")
def timed() -> Iterator[Cluster]:
    """Two workers with 2 devices each, on which everything takes 5 ms unless it says otherwise."""
    with (
        short_folder() as folder,
        Cluster.up(folder, "--launch-time", "quick*=100us,*=5ms", hosts=2, devices=2) as cluster,
    ):
        yield cluster


@pytest.fixture(scope="module")
def client(timed: Cluster) -> Iterator[Client]:
    with Client(timed.client_address, timed.folder) as process:
        yield process


def test_results_are_zeros_of_the_right_shapes_and_types(client: Client) -> None:
    @client.run
    def _() -> None:
        def outputs(x: jax.Array) -> tuple[jax.Array, ...]:
            return x + 1, x.sum(), (x > 0), x.astype(jnp.bfloat16).T, jnp.zeros((0, 3), jnp.int32) + 1

        x = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
        for wanted, got in zip(jax.eval_shape(outputs, x), jax.jit(outputs)(x), strict=True):
            assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
            np.testing.assert_array_equal(np.asarray(got), np.zeros(wanted.shape, wanted.dtype))


def test_data_that_the_client_puts_come_back_as_they_went(client: Client) -> None:
    @client.run
    def _() -> None:
        rng = np.random.default_rng(0)
        for shape in ((), (7,), (300, 1001)):
            x = rng.standard_normal(shape).astype(np.float32)
            for device in jax.devices():
                np.testing.assert_array_equal(np.asarray(jax.device_put(x, device)), x)
        x = rng.integers(0, 100, (8, 6), dtype=np.int8)
        spread = jax.device_put(x, NamedSharding(Mesh(np.array(jax.devices()), "a"), P("a")))
        np.testing.assert_array_equal(np.asarray(spread), x)
        moved = jax.device_put(jax.device_put(x, jax.devices()[0]), jax.devices()[3])
        np.testing.assert_array_equal(np.asarray(moved), x)


def chain(launches: int) -> float:
    """Seconds that so many launches take, each of which needs the one before."""

    @jax.jit
    def step(x: jax.Array) -> jax.Array:
        return x + 1

    x = step(jax.device_put(np.ones(4, np.float32), jax.devices()[0])).block_until_ready()
    start = time.monotonic()
    for _ in range(launches):
        x = step(x)
    x.block_until_ready()
    return time.monotonic() - start


def test_launches_in_a_row_take_no_less_than_their_sum(client: Client) -> None:
    assert client.call(chain, 40) >= 40 * 5e-3


def test_a_device_runs_independent_launches_one_after_the_other(client: Client) -> None:
    def run() -> float:
        step = jax.jit(lambda x: x + 1)
        x = jax.device_put(np.ones(4, np.float32), jax.devices()[1])
        step(x).block_until_ready()
        start = time.monotonic()
        results = [step(x) for _ in range(20)]
        jax.block_until_ready(results)
        return time.monotonic() - start

    assert client.call(run) >= 20 * 5e-3


def test_a_program_says_itself_how_long_it_takes_and_a_name_in_the_flag_wins(client: Client) -> None:
    def run() -> tuple[float, float]:
        @jax.jit
        def stage_for_40ms(x: jax.Array) -> jax.Array:
            return x + 1

        @jax.jit
        def quick_for_10s(x: jax.Array) -> jax.Array:
            return x + 1

        def seconds(step: jax.stages.Wrapped) -> float:
            x = jax.device_put(np.ones(4, np.float32), jax.devices()[0])
            step(x).block_until_ready()
            start = time.monotonic()
            step(step(step(x))).block_until_ready()
            return time.monotonic() - start

        return seconds(stage_for_40ms), seconds(quick_for_10s)

    said, quick = client.call(run)
    assert said >= 3 * 40e-3
    assert quick < 30, "not the time that its name says"


def test_stages_on_two_workers_with_arrays_moving_between_them(client: Client) -> None:
    @client.run
    def _() -> None:
        first = jax.jit(lambda x: x @ x)
        second = jax.jit(lambda x: x.sum(-1))
        results = []
        start = time.monotonic()
        for i in range(10):
            x = jax.device_put(np.full((64, 64), i, np.float32), jax.devices()[0])
            hidden = jax.device_put(first(x), jax.devices()[2])
            results.append(second(hidden))
        for result in results:
            assert result.shape == (64,)
            assert result.devices() == {jax.devices()[2]}
            np.testing.assert_array_equal(np.asarray(result), np.zeros(64))
        assert time.monotonic() - start >= 11 * 5e-3, "ten first stages in a row, and the last second stage"


def test_one_program_over_both_workers(client: Client) -> None:
    @client.run
    def _() -> None:
        mesh = Mesh(np.array(jax.devices()), "a")
        x = jax.device_put(np.ones((8, 3), np.float32), NamedSharding(mesh, P("a")))

        @jax.jit
        def step(x: jax.Array) -> tuple[jax.Array, jax.Array]:
            return x + x.sum(), x.sum(0)

        for _ in range(5):
            x, total = step(x)
        assert x.sharding.device_set == set(jax.devices())
        np.testing.assert_array_equal(np.asarray(x), np.zeros((8, 3)))
        np.testing.assert_array_equal(np.asarray(total), np.zeros(3))


def test_donated_arrays_are_gone(client: Client) -> None:
    @client.run
    def _() -> None:
        step = jax.jit(lambda x: x + 1, donate_argnums=0)
        x = jax.device_put(np.ones(4, np.float32), jax.devices()[0])
        y = step(x)
        z = step(y)
        assert x.is_deleted()
        assert y.is_deleted()
        np.testing.assert_array_equal(np.asarray(z), np.zeros(4))


def test_status_says_that_nothing_is_computed(timed: Cluster) -> None:
    for worker in timed.workers():
        assert worker["plugin"].endswith(" (timed)")
    command = [str(find_binary()), "status", "--controller", timed.control_address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=clean_environment(), check=True)
    assert done.stdout.count("timed: nothing is computed") == 2
    (log,) = timed.folder.glob("*host00.log")
    assert "timed: nothing is computed, the results of all programs are zeros" in log.read_text()


def test_without_the_flag_things_are_computed_and_with_a_wrong_one_nothing_starts() -> None:
    command = [str(find_binary()), "up", "--launch-time", "stage=fast"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=clean_environment(), check=False)
    assert done.returncode == 1
    assert "'stage=fast'" in done.stderr
    assert "300us" in done.stderr
    with (
        short_folder() as folder,
        Cluster.up(folder, devices=1) as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        assert client.call(lambda: float(jnp.sum(jnp.ones(8)))) == 8
        assert "timed" not in cluster.workers()[0]["plugin"]
