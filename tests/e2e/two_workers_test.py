"""Programs and arrays on the devices of two workers, two each."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from harness import Client
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def all_devices() -> Mesh:
    return jax.make_mesh((4,), ("a",), axis_types=(AxisType.Auto,))


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_devices_are_in_the_order_of_the_workers(client_of_two: Client) -> None:
    def ids_and_islands() -> list[tuple[int, str]]:
        return [(device.id, str(device.island)) for device in jax.devices()]

    devices = client_of_two.call(ids_and_islands)
    assert len({number for number, _ in devices}) == 4
    assert len({island for _, island in devices}) == 1


def test_two_stages_on_two_workers_without_waiting(client_of_two: Client) -> None:
    @client_of_two.run
    def _() -> None:
        stages = [NamedSharding(Mesh(jax.devices()[i : i + 2], "rows"), P("rows")) for i in (0, 2)]
        first = jax.jit(lambda x: jnp.sin(x) * 2)
        second = jax.jit(lambda x: x.sum(-1) + 1)
        inputs = [numbers(4, 8) + i for i in range(40)]
        results = []
        for x in inputs:
            hidden = first(jax.device_put(x, stages[0]))
            results.append(second(jax.device_put(hidden, stages[1])))
        for x, result in zip(inputs, results, strict=True):
            assert result.sharding.device_set == set(jax.devices()[2:])
            np.testing.assert_allclose(result, (np.sin(x) * 2).sum(-1) + 1, rtol=1e-5, atol=1e-5)


def test_arrays_are_spread_over_both_and_copied_between_them(client_of_two: Client) -> None:
    @client_of_two.run
    def _() -> None:
        x = numbers(8, 6)
        spread = jax.device_put(x, NamedSharding(all_devices(), P("a")))
        np.testing.assert_array_equal(np.asarray(spread), x)
        replicated = jax.device_put(x, NamedSharding(all_devices(), P()))
        for shard in replicated.addressable_shards:
            np.testing.assert_array_equal(np.asarray(shard.data), x)
        there = jax.device_put(jax.device_put(x, jax.devices()[0]), jax.devices()[3])
        np.testing.assert_array_equal(np.asarray(there), x)
        back = jax.device_put(there + 1, jax.devices()[1])
        np.testing.assert_array_equal(np.asarray(back), x + 1)


def test_large_arrays_are_copied_between_workers(client_of_two: Client) -> None:
    @client_of_two.run
    def _() -> None:
        x = np.random.default_rng(0).standard_normal((1024, 2049)).astype(np.float32)
        there = jax.device_put(jax.device_put(x, jax.devices()[0]), jax.devices()[2])
        np.testing.assert_array_equal(np.asarray(there), x)


def test_a_copy_of_a_result_that_does_not_exist_yet(client_of_two: Client) -> None:
    @client_of_two.run
    def _() -> None:
        slow = jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda _, x: jnp.tanh(x @ x), x))
        x = slow(jax.device_put(np.ones((300, 300), np.float32), jax.devices()[0]))
        copies = [jax.device_put(x, device) for device in jax.devices()]
        for copy in copies:
            np.testing.assert_array_equal(np.asarray(copy), np.asarray(x))


def test_a_program_over_both_workers(client_of_two: Client) -> None:
    @client_of_two.run
    def _() -> None:
        x = jax.device_put(numbers(8), NamedSharding(all_devices(), P("a")))
        assert float(jax.jit(lambda x: x.sum())(x)) == numbers(8).sum()
