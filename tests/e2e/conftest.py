"""Clusters and clients for the end-to-end tests.

What only uses a cluster shares one for the whole session; what harms one starts its own, in `folder`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Client, Cluster, short_folder

from causeway.binary import BinaryNotFound, find_binary


@pytest.fixture(scope="session", autouse=True)
def _binary() -> None:
    try:
        find_binary()
    except BinaryNotFound as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as path:
        yield path


@pytest.fixture(scope="session")
def one_worker() -> Iterator[Cluster]:
    """One worker with 8 devices."""
    with short_folder() as path, Cluster.up(path, devices=8) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def two_workers() -> Iterator[Cluster]:
    """Two workers with 2 devices each."""
    with short_folder() as path, Cluster.up(path, hosts=2, devices=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def client(one_worker: Cluster) -> Iterator[Client]:
    """A client of `one_worker`, shared by tests that leave it as it was."""
    with Client(one_worker.client_address, one_worker.folder) as process:
        yield process


@pytest.fixture(scope="session")
def client_of_two(two_workers: Cluster) -> Iterator[Client]:
    """A client of `two_workers`, likewise."""
    with Client(two_workers.client_address, two_workers.folder) as process:
        yield process
