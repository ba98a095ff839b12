"""Clients that send more than the cluster takes: they are held back, nobody's memory grows, others keep their latency.

The stock client has no back-pressure of its own, so whatever holds it back is the controller. Limits on time are only
generous bounds against hanging: what is asserted is memory, order and that others go on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster, eventually, short_folder

MIB = 1 << 20
HOST_MEMORY_MIB = 128
# Launches of one client on one device by default, and a few uploads.
MOST_IN_FLIGHT = 128 + 8
# What a controller has beside clients' data: allocator, what gRPC holds of streams, threads, the tables of sessions.
OVERHEAD_MIB = 96
# And for each further client: its RPCs that wait, some hundred, and what gRPC has read of them.
OVERHEAD_OF_ANOTHER_MIB = 32
# A launch, a small upload or a small fetch of somebody else, on a machine that is busy with other tests.
PROMPT_S = 15


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two workers with two devices each, and little memory for clients' data. A worker may be stopped for long."""
    with (
        short_folder() as folder,
        Cluster.up(
            folder,
            *("--host-memory", f"{HOST_MEMORY_MIB}MiB"),
            hosts=2,
            devices=2,
            CAUSEWAY_HEARTBEAT_TIMEOUT="200",
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def other(cluster: Cluster) -> Iterator[Client]:
    """A client that wants little, and wants it soon."""
    with Client(cluster.client_address, cluster.folder, "other") as client:
        client.call(use_a_little)
        yield client


def use_a_little() -> float:
    """One small upload, launch and fetch on every device. Returns the longest time that one of these took."""
    longest = 0.0
    for device in jax.devices():
        start = time.monotonic()
        x = jax.device_put(np.arange(100, dtype=np.float32), device)
        assert float(jax.jit(jnp.sum)(x)) == 4950
        longest = max(longest, time.monotonic() - start)
    return longest


class Controller:
    """The cluster's controller process, watched while a test runs."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.pid = cluster.controller_pid()
        self._idle_mib = self.memory_mib()
        self.peak_mib = self._idle_mib
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def memory_mib(self) -> int:
        """Memory of its own: not what it maps from files, which the system takes back when it likes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) >> 10
        raise AssertionError("no RssAnon")

    def _watch(self) -> None:
        while not self._stop.wait(0.01):
            self.peak_mib = max(self.peak_mib, self.memory_mib())

    def __enter__(self) -> Controller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def growth_mib(self) -> int:
        return self.peak_mib - self._idle_mib


def beside(busy: Client, work: Callable[[], None], limit_s: float) -> None:
    """Does `work` again and again while `busy` runs what it was started with, then waits for that."""
    done = threading.Event()
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            busy.result(limit_s)
        except BaseException as error:
            outcome.append(error)
        done.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    while not done.is_set():
        work()
    waiter.join()
    if outcome:
        raise outcome[0]


def expect_all_freed(cluster: Cluster) -> None:
    eventually(lambda: cluster.device_buffers() == 0, "all buffers are freed")
    eventually(lambda: all(s["in_flight"] == 0 for s in cluster.status()["sessions"]), "nothing is in flight")
    assert not any(s["held_back"] for s in cluster.status()["sessions"])


# ---------------------------------------------------------------- floods


def launch_many(count: int, kept: dict) -> None:
    """`count` launches of about a millisecond, none waited for before the last, each of the one before."""
    if "step" not in kept:
        kept["step"] = jax.jit(lambda x: jax.lax.fori_loop(0, 8, lambda _, x: jnp.tanh(x @ x), x))
    step = kept["step"]
    x = jax.device_put(np.eye(128, dtype=np.float32), jax.devices()[0])
    for _ in range(count):
        x = step(x)
    assert np.isfinite(float(x[0, 0]))


def upload_many(mib: int) -> None:
    """Arrays of 4 MiB, deleted before their data are there, and batches whose data all come before their request."""
    block = np.ones((1024, 1024), np.float32)
    devices = jax.devices()
    for i in range(mib // 8):
        jax.device_put(block, devices[i % 4]).delete()
    for _ in range(max(1, mib // 512)):
        batch = jax.device_put([block[:256] for _ in range(256)], [devices[i % 4] for i in range(256)])
        jax.block_until_ready(batch)
        del batch


def flood_of_launches(cluster: Cluster, other: Client, count: int, limit_s: float) -> None:
    most = 0

    def work() -> None:
        nonlocal most
        assert other.call(use_a_little) < PROMPT_S
        if session := cluster.session_of(flooder):
            most = max(most, session["in_flight"])

    def expect_held() -> None:
        eventually(lambda: cluster.session_of(flooder)["held_back"], "it is held back")

    with Controller(cluster) as controller:
        with Client(cluster.client_address, cluster.folder, "flooder") as flooder:
            flooder.call(launch_many, 10)
            worker = cluster.workers()[0]["pid"]
            os.kill(worker, signal.SIGSTOP)
            flooder.start(launch_many, count)
            expect_held()
            assert other.call(lambda: float(jax.device_put(np.float32(3), jax.devices()[2]))) == 3
            os.kill(worker, signal.SIGCONT)
            expect_held()
            beside(flooder, work, limit_s)
        assert most <= MOST_IN_FLIGHT
        assert controller.growth_mib() < OVERHEAD_MIB
    expect_all_freed(cluster)


def flood_of_uploads(cluster: Cluster, other: Client, mib: int, limit_s: float, clients: int = 1) -> None:
    """`mib` of each of `clients`, all at once."""

    def work() -> None:
        assert other.call(use_a_little) < PROMPT_S

    with Controller(cluster) as controller:
        with contextlib.ExitStack() as here:
            flooders = [
                here.enter_context(Client(cluster.client_address, cluster.folder, f"flooder-{number}"))
                for number in range(clients)
            ]
            for flooder in flooders:
                flooder.call(lambda: len(jax.devices()))
            for flooder in flooders:
                flooder.start(upload_many, mib)
            for flooder in flooders:
                beside(flooder, work, limit_s)
        overhead_mib = OVERHEAD_MIB + (clients - 1) * OVERHEAD_OF_ANOTHER_MIB
        assert controller.growth_mib() < HOST_MEMORY_MIB + overhead_mib
    expect_all_freed(cluster)


def test_a_flood_of_launches_is_held_back(cluster: Cluster, other: Client) -> None:
    """Also while the worker stands still, for less than would make it lost."""
    flood_of_launches(cluster, other, 3_000, limit_s=100)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_a_hundred_thousand_launches_are_held_back(cluster: Cluster, other: Client) -> None:
    flood_of_launches(cluster, other, 100_000, limit_s=1100)


def test_a_flood_of_uploads_stays_within_the_memory_limit(cluster: Cluster, other: Client) -> None:
    flood_of_uploads(cluster, other, 1024, limit_s=100)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_ten_gigabytes_of_uploads_stay_within_the_memory_limit(cluster: Cluster, other: Client) -> None:
    flood_of_uploads(cluster, other, 10 * 1024, limit_s=1100)


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_three_floods_of_uploads_stay_within_the_memory_limit(cluster: Cluster, other: Client) -> None:
    flood_of_uploads(cluster, other, 3 * 1024, limit_s=1000, clients=3)


# ---------------------------------------------------------------- floods that end badly


def flood_for_ever() -> None:
    """Launches, uploads and fetches on every device, from a thread each."""
    step = jax.jit(lambda x: jnp.tanh(x @ x))

    def launch() -> None:
        x = jax.device_put(np.eye(256, dtype=np.float32), jax.devices()[0])
        while True:
            x = step(x)

    def upload() -> None:
        block = np.ones((512, 1024), np.float32)
        while True:
            jax.device_put(block, jax.devices()[1])

    def fetch() -> None:
        x = jax.device_put(np.ones((1024, 1024), np.float32), jax.devices()[2])
        while True:
            results = [x + i for i in range(16)]
            for result in results:
                result.copy_to_host_async()
            for result in results:
                np.asarray(result)

    for work in (launch, upload, fetch):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(300)


def test_a_client_that_is_stopped_and_killed_in_a_flood_holds_nobody_up(cluster: Cluster, other: Client) -> None:
    def put_and_fetch(megabytes: int) -> None:
        x = np.ones((megabytes, MIB // 4), np.float32)
        np.testing.assert_array_equal(np.asarray(jax.device_put(x)), x)

    with Controller(cluster) as controller, Client(cluster.client_address, cluster.folder, "flooder") as flooder:
        flooder.call(lambda: len(jax.devices()))
        flooder.start(flood_for_ever)
        eventually(lambda: cluster.session_of(flooder)["held_back"], "it is held back")
        os.kill(flooder.pid, signal.SIGSTOP)
        for _ in range(3):
            assert other.call(use_a_little) < PROMPT_S
            time.sleep(0.3)
        other.call(put_and_fetch, 10)
        before = cluster.session_of(flooder)["launches"]
        os.kill(flooder.pid, signal.SIGCONT)
        eventually(lambda: cluster.session_of(flooder)["launches"] > before + 200, "it goes on", 60)
        flooder.kill()
        eventually(lambda: cluster.session_of(flooder) is None, "its session is gone")
        assert other.call(use_a_little) < PROMPT_S
        expect_all_freed(cluster)
        assert controller.growth_mib() < HOST_MEMORY_MIB + OVERHEAD_MIB


def test_a_worker_that_is_lost_in_a_flood_releases_its_client(folder: Path) -> None:
    with (
        Cluster.up(folder, "--no-restart", hosts=2, devices=1) as cluster,
        Client(cluster.client_address, folder, "flooder") as flooder,
    ):
        flooder.call(lambda: len(jax.devices()))

        def flood() -> str:
            step = jax.jit(lambda x: jax.lax.fori_loop(0, 100, lambda _, x: jnp.tanh(x @ x), x))
            x = jax.device_put(np.eye(256, dtype=np.float32), jax.devices()[0])
            for _ in range(3000):
                x = step(x)
            try:
                x.block_until_ready()
            except jax.errors.JaxRuntimeError as error:
                return str(error)
            return "ok"

        flooder.start(flood)
        eventually(lambda: cluster.session_of(flooder)["held_back"], "it is held back")
        cluster.kill_worker(0)
        assert "DATA_LOSS" in flooder.result()
        assert flooder.call(lambda: float(jax.device_put(np.float32(2), jax.devices()[1]) * 2)) == 4
