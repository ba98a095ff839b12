"""Within one worker the plugin's own collectives and the workers' give the same results, whichever is chosen."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster, short_folder
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def results() -> list[np.ndarray]:
    """What every collective makes of the same numbers."""
    n = len(jax.devices())
    mesh = Mesh(np.array(jax.devices()), ("x",))
    x = np.random.default_rng(0).integers(-8, 8, (n * n, 6)).astype(np.float32)
    ring = [(i, (i + 1) % n) for i in range(n)]
    programs = [
        lambda v: lax.psum(v, "x"),
        lambda v: lax.pmax(v, "x"),
        lambda v: lax.all_gather(v, "x", tiled=True),
        lambda v: lax.psum_scatter(v, "x", tiled=True),
        lambda v: lax.all_to_all(v, "x", 0, 0, tiled=True),
        lambda v: lax.ppermute(v, "x", ring),
        lambda v: lax.ppermute(v, "x", ring[:-1]),
        lambda v: v + lax.axis_index("x"),
        lambda v: lax.fori_loop(0, 3, lambda _, c: lax.psum(c, "x") / n, v),
    ]
    placed = jax.device_put(x, NamedSharding(mesh, P("x")))
    mapped = [
        np.asarray(jax.jit(jax.shard_map(f, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))(placed))
        for f in programs
    ]
    return [*mapped, np.asarray(jax.jit(lambda v: jnp.sum(v * v, axis=0))(placed))]


def run(choice: str) -> list[np.ndarray]:
    with (
        short_folder() as folder,
        Cluster.up(folder, "--collectives", choice, devices=4) as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        return client.call(results)


def test_who_carries_out_collectives_makes_no_difference() -> None:
    for plugins_own, workers, forced in zip(run("auto"), run("host"), run("plugin"), strict=True):
        np.testing.assert_array_equal(plugins_own, workers)
        np.testing.assert_array_equal(plugins_own, forced)


def refused() -> str:
    """What a program over all devices is answered."""
    mesh = Mesh(np.array(jax.devices()), ("x",))
    x = jax.device_put(np.ones(8), NamedSharding(mesh, P("x")))
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.jit(jnp.sum)(x)
    assert float(jnp.sum(jax.device_put(x, jax.devices()[0]))) == 8, "one device needs no collectives"
    return str(error.value)


def test_forcing_plugins_that_do_not_know_of_one_another_is_refused_with_the_cure() -> None:
    with (
        short_folder() as folder,
        Cluster.up(folder, "--collectives", "plugin", hosts=2, devices=2) as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        said = client.call(refused)
    assert "FAILED_PRECONDITION" in said
    assert "--group" in said
    assert "--collectives auto" in said
