"""Programs over several workers are compiled once: for all workers, and for all who come later."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from harness import Client, Cluster, short_folder
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

X = np.arange(24, dtype=np.float32).reshape(8, 3)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        (path / "cache").mkdir()
        yield path


def start(folder: Path, cache: Path) -> Cluster:
    return Cluster.up(folder, "--program-cache", str(cache), hosts=2, devices=2)


def total(reverse: bool = False) -> float:
    """A sum over all devices, in either order of them. The program stays, so that the status shows it."""
    devices = np.array(jax.devices())
    mesh = Mesh(devices[::-1] if reverse else devices, ("x",))
    sys.modules["__main__"].program = jax.jit(lambda x: x.sum())
    return float(sys.modules["__main__"].program(jax.device_put(X, NamedSharding(mesh, P("x")))))


def compile_us(cluster: Cluster) -> list[int]:
    """How long the programs over both workers took that clients have now."""
    return [program["compile_us"] for program in cluster.status()["programs"] if program["workers"] == 2]


def files(cache: Path) -> list[Path]:
    return sorted(cache.iterdir())


def test_what_one_controller_compiled_the_next_one_only_loads(folder: Path) -> None:
    cache = folder / "cache"
    with start(folder, cache) as cluster, Client(cluster.client_address, folder) as client:
        assert client.call(total) == X.sum()
        (first,) = compile_us(cluster)
        assert len(files(cache)) == 1
        written = files(cache)[0].read_bytes()
    with start(folder, cache) as cluster, Client(cluster.client_address, folder) as client:
        assert client.call(total) == X.sum()
        (second,) = compile_us(cluster)
        assert files(cache)[0].read_bytes() == written, "nothing was compiled again"
        assert second < first


def test_later_sessions_and_other_orders_of_the_devices_share_it(folder: Path) -> None:
    cache = folder / "cache"
    with start(folder, cache) as cluster:
        for reverse in (False, True):
            with Client(cluster.client_address, folder) as client:
                assert client.call(total, reverse) == X.sum()
        assert len(files(cache)) == 1


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"CWPROG\0\1" + bytes(100)])
def test_a_damaged_file_costs_a_compile(folder: Path, damage: bytes) -> None:
    cache = folder / "cache"
    with start(folder, cache) as cluster, Client(cluster.client_address, folder) as client:
        client.call(total)
        (file,) = files(cache)
        good = file.read_bytes()
    file.write_bytes(damage)
    with start(folder, cache) as cluster, Client(cluster.client_address, folder) as client:
        assert client.call(total) == X.sum()
        assert len(file.read_bytes()) == len(good), "it is whole again"
        assert "compiling again" in (folder / "controller.log").read_text()


def test_a_folder_that_cannot_be_used_costs_a_warning(folder: Path) -> None:
    (folder / "file").write_text("no folder")
    with start(folder, folder / "file" / "cache") as cluster, Client(cluster.client_address, folder) as client:
        assert client.call(total) == X.sum()
        assert "not kept for later controllers" in (folder / "controller.log").read_text()


def test_a_folder_that_goes_away_costs_nothing_else(folder: Path) -> None:
    cache = folder / "cache"
    with start(folder, cache) as cluster, Client(cluster.client_address, folder) as client:
        os.rmdir(cache)
        assert client.call(total) == X.sum()
        assert client.call(lambda: float(jax.jit(lambda x: x + 1)(1.0))) == 2
