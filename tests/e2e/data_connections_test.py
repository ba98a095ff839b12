"""Two workers with several connections for bulk data (--data-connections)."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import jax
import jax.numpy as jnp
from harness import Client, Cluster, eventually, short_folder


def sockets(pid: int) -> int:
    """How many the process has open."""
    found = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += os.readlink(descriptor).startswith("socket:")
    return found


def copy(size: int) -> bool:
    """Copies an array that is made on the first device to the second; whether all of it is there."""
    here, there = jax.devices()
    make = jax.jit(lambda first: first + jnp.arange(size, dtype=jnp.int32))
    same = jax.jit(lambda x, first: (x == first + jnp.arange(size, dtype=jnp.int32)).all())
    copied = jax.device_put(make(jax.device_put(jnp.int32(7), here)), there)
    return bool(same(copied, jax.device_put(jnp.int32(7), there)))


def test_a_large_copy_adds_connections_and_arrives_whole() -> None:
    with (
        short_folder() as folder,
        Cluster.up(folder, "--data-connections", "3", hosts=2, devices=1) as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        workers = [worker["pid"] for worker in cluster.workers()]
        assert client.call(copy, 1000)
        before = [sockets(pid) for pid in workers]
        assert client.call(copy, 16 << 20)
        eventually(lambda: [sockets(pid) for pid in workers] == [count + 2 for count in before], "two more", 20)
        assert client.call(copy, 16 << 20)
        assert [sockets(pid) for pid in workers] == [count + 2 for count in before]
