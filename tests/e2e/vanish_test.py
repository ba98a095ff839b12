"""Clients and workers that vanish, and strangers that send nonsense: what they owned goes, nobody else notices."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster, Process, RemoteError, eventually, short_folder

from causeway.binary import find_binary

# The issue asks for a second. This is far more, for a machine that is busy with other tests.
SOON_S = 10


def numbers(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


# ---------------------------------------------------------------- clients


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Cluster, Client]]:
    """A cluster, and a client of it that has to go on whatever happens to others."""
    with (
        short_folder() as folder,
        Cluster.up(folder, hosts=2, devices=2) as cluster,
        Client(cluster.client_address, folder, "survivor") as survivor,
    ):
        survivor.call(lambda kept: kept.update(x=jax.device_put(numbers(100), jax.devices()[3])))
        # Workers report their accounts with their heartbeat.
        eventually(lambda: cluster.device_buffers() == 1, "the survivor's array shows")
        yield cluster, survivor


def expect_unharmed(survivor: Client) -> None:
    def go_on(kept: dict) -> None:
        np.testing.assert_array_equal(np.asarray(kept["x"]), numbers(100))
        assert float(jax.jit(jnp.sum)(kept["x"])) == numbers(100).sum()
        moved = jax.device_put(kept["x"] + 1, jax.devices()[0])
        np.testing.assert_array_equal(np.asarray(moved), numbers(100) + 1)

    survivor.call(go_on)


def hold_arrays() -> None:
    x = [jax.block_until_ready(jax.device_put(numbers(1000), device)) for device in jax.devices()]
    time.sleep(60)
    del x


def launch_for_ever() -> None:
    step = jax.jit(lambda x: jnp.tanh(x @ x))
    x = jnp.ones((300, 300))
    while True:
        x = step(x)


def upload_for_ever() -> None:
    while True:
        jax.device_put(np.ones((1000, 4000), np.float32), jax.devices()[2]).block_until_ready()


def fetch_for_ever() -> None:
    x = jax.device_put(np.ones((1000, 4000), np.float32), jax.devices()[1])
    while True:
        np.asarray(x + 1)


def compile_for_ever() -> None:
    number = 0
    while True:
        number += 1
        jax.jit(lambda x, number=number: jax.lax.fori_loop(0, number, lambda i, x: jnp.sin(x @ x), x))(np.eye(8))


def copy_for_ever() -> None:
    x = jax.device_put(np.ones((1000, 1000), np.float32), jax.devices()[0])
    number = 0
    while True:
        number += 1
        x = jax.device_put(x, jax.devices()[number % 4])
        x.block_until_ready()


@pytest.mark.parametrize(
    "busy_with",
    [hold_arrays, launch_for_ever, upload_for_ever, fetch_for_ever, compile_for_ever, copy_for_ever],
    ids=lambda function: function.__name__,
)
def test_a_killed_client_is_freed_and_others_go_on(
    shared: tuple[Cluster, Client], busy_with: Callable[[], None]
) -> None:
    cluster, survivor = shared
    buffers_before = cluster.device_buffers()
    with Client(cluster.client_address, cluster.folder, busy_with.__name__) as victim:
        victim.call(lambda: len(jax.devices()))
        assert cluster.session_of(victim)
        victim.start(busy_with)
        time.sleep(1.5)  # well into it
        victim.kill()
    eventually(lambda: cluster.session_of(victim) is None, "the session is gone", SOON_S)
    eventually(lambda: cluster.device_buffers() <= buffers_before, "its buffers are gone from the workers", SOON_S)
    expect_unharmed(survivor)


def test_a_client_that_leaves_is_freed(shared: tuple[Cluster, Client]) -> None:
    cluster, survivor = shared
    buffers_before = cluster.device_buffers()
    with Client(cluster.client_address, cluster.folder, "leaver") as leaver:
        leaver.call(lambda kept: kept.update(x=jax.block_until_ready(jnp.ones(1000))))
        assert cluster.session_of(leaver)["arrays"] > 0
    eventually(lambda: cluster.session_of(leaver) is None, "the session is gone", SOON_S)
    eventually(lambda: cluster.device_buffers() <= buffers_before, "its buffers are gone from the workers", SOON_S)
    expect_unharmed(survivor)


# ---------------------------------------------------------------- strangers


def connect(address: str) -> socket.socket:
    stranger = socket.socket(socket.AF_UNIX)
    stranger.settimeout(5)
    stranger.connect(address.removeprefix("unix:"))
    return stranger


NONSENSE = {
    "random bytes": np.random.default_rng(0).bytes(100_000),
    "zeros": bytes(10_000),
    "ones": b"\xff" * 10_000,
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "http2 with a bad frame": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff\xff\xff\x42\xff" * 100,
    "a link with a huge frame": b"CWLINK\x00\x01" + b"\xff\xff\xff\xff" + bytes(1000),
    "a link with a frame of nonsense": b"CWLINK\x00\x01" + b"\x04\x00\x00\x00" + b"\xff\xff\xff\xff",
    "a link with an empty frame": b"CWLINK\x00\x01" + bytes(4),
    "a link that stops in a frame": b"CWLINK\x00\x01" + b"\x10\x00\x00\x00abc",
    "nothing": b"",
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_on_any_port_harms_nobody(shared: tuple[Cluster, Client], nonsense: bytes) -> None:
    cluster, survivor = shared
    for address in (
        cluster.client_address,
        cluster.control_address,
        f"{cluster.folder}/controller.data",
        f"{cluster.folder}/worker-0-0.data",
    ):
        with connect(address) as stranger, contextlib.suppress(OSError):
            stranger.sendall(nonsense)
            # One end closed, the other left open: a half-open connection.
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(0.2)
            stranger.recv(1000)
    assert all(worker["alive"] for worker in cluster.workers())
    expect_unharmed(survivor)


def test_many_silent_connections_harm_nobody(shared: tuple[Cluster, Client]) -> None:
    cluster, survivor = shared
    with contextlib.ExitStack() as stack:
        for address in (cluster.client_address, cluster.control_address):
            for _ in range(50):
                stack.enter_context(connect(address))
        expect_unharmed(survivor)
        assert all(worker["alive"] for worker in cluster.workers())


# ---------------------------------------------------------------- workers


def make_arrays(kept: dict) -> None:
    """Arrays on both workers, and some that came from the second but live on the first."""
    devices = jax.devices()
    here, there = devices[0], devices[2]
    kept["here"] = jax.device_put(numbers(10), here)
    kept["there"] = jax.device_put(numbers(10), there)
    kept["from there"] = jax.device_put(kept["there"] + 1, here)
    kept["on both"] = jax.device_put(
        numbers(8), jax.sharding.NamedSharding(jax.sharding.Mesh(devices, "a"), jax.sharding.PartitionSpec("a"))
    )
    jax.block_until_ready(list(kept.values()))


def outcome(name: str, kept: dict) -> str:
    """ "ok", or the error's text, of computing with and fetching an array."""
    try:
        x = kept[name]
        if len(x.sharding.device_set) == 1:
            x = x * 2
        np.asarray(x)
    except jax.errors.JaxRuntimeError as error:
        return str(error)
    return "ok"


def test_a_lost_worker_is_data_loss_for_exactly_its_dependents(folder: Path) -> None:
    with (
        Cluster.up(folder, "--no-restart", hosts=2, devices=2) as cluster,
        Client(cluster.client_address, folder, "one") as one,
        Client(cluster.client_address, folder, "two") as two,
    ):
        for client in (one, two):
            client.call(make_arrays)

        # A launch that is running, a chain that depends on it, and one that does not.
        def run_ahead(kept: dict) -> None:
            slow = jax.jit(lambda x: jax.lax.fori_loop(0, 10_000, lambda _, x: jnp.tanh(x @ x), x))
            running = slow(jax.device_put(np.ones((300, 300), np.float32), jax.devices()[2]))
            kept["chain"] = jax.device_put(running.sum(), jax.devices()[0]) + 1

        one.call(run_ahead)
        cluster.kill_worker(1)
        for client in (one, two):
            for name in ("there", "on both"):
                eventually(
                    lambda client=client, name=name: "DATA_LOSS" in client.call(outcome, name),
                    f"{name} is lost",
                    SOON_S,
                )
            for name in ("here", "from there"):
                assert client.call(outcome, name) == "ok"
        assert "DATA_LOSS" in one.call(outcome, "chain")
        assert [worker["alive"] for worker in cluster.workers()] == [True, False]


def test_a_waiting_client_gets_the_error_at_once(folder: Path) -> None:
    with (
        Cluster.up(folder, "--no-restart", hosts=2, devices=2) as cluster,
        Client(cluster.client_address, folder) as client,
    ):

        def wait_for_long() -> None:
            slow = jax.jit(lambda x: jax.lax.fori_loop(0, 100_000, lambda _, x: jnp.tanh(x @ x), x))
            slow(jax.device_put(np.ones((500, 500), np.float32), jax.devices()[2])).block_until_ready()

        client.call(lambda: len(jax.devices()))
        client.start(wait_for_long)
        time.sleep(1.5)
        cluster.kill_worker(1)
        with pytest.raises(RemoteError, match="DATA_LOSS"):
            client.result(SOON_S)


def test_a_worker_that_is_started_again_brings_its_devices_back(folder: Path) -> None:
    with (
        Cluster.up(folder, hosts=2, devices=2) as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        client.call(make_arrays)
        before = cluster.workers()[1]
        cluster.kill_worker(1)

        def again() -> str:
            try:
                x = jax.device_put(numbers(10), jax.devices()[2])
                np.testing.assert_array_equal(np.asarray(jax.jit(lambda x: x * 2)(x)), numbers(10) * 2)
                # A program that was compiled and loaded before the worker died, too.
                np.testing.assert_array_equal(np.asarray(x + 1), numbers(10) + 1)
            except jax.errors.JaxRuntimeError as error:
                return str(error)
            return "ok"

        eventually(lambda: client.call(again) == "ok", "the devices work again, in the same client", 30)
        after = cluster.workers()[1]
        assert after["pid"] != before["pid"]
        assert [d["device"] for d in after["devices"]] == [d["device"] for d in before["devices"]]
        assert "DATA_LOSS" in client.call(outcome, "there")
        assert client.call(outcome, "here") == "ok"


def test_parts_may_be_started_in_any_order_and_join_by_themselves(folder: Path) -> None:
    """Worker first, then controller; then the controller is restarted and the worker finds it again."""
    binary = str(find_binary())
    control = f"unix:{folder}/control.sock"
    worker_command = [
        *(binary, "worker", "--controller", control, "--name", "w0", "--devices", "2"),
        *("--data-address", f"unix:{folder}/worker.data"),
    ]
    controller_command = [
        *(binary, "controller", "--client-address", f"unix:{folder}/client.sock", "--control-address", control),
        *("--data-address", f"unix:{folder}/controller.data"),
    ]

    def joined(cluster: Cluster) -> bool:
        with contextlib.suppress(AssertionError):
            return any(worker["alive"] for worker in cluster.workers())
        return False

    with Process(worker_command, folder / "worker.log"):
        for life in ("first", "second"):
            with Cluster(controller_command, folder / f"controller-{life}.log") as controller:
                controller.control_address = control
                eventually(lambda c=controller: joined(c), f"the worker joins the {life} controller", 30)
                with Client(f"unix:{folder}/client.sock", folder, life) as client:
                    assert client.call(lambda: float(jnp.arange(4.0).sum())) == 6
                controller.kill()
                for leftover in ("client.sock", "control.sock", "controller.data"):
                    assert Path(folder, leftover).exists(), (
                        "a killed controller cannot tidy up; the next one has to cope"
                    )


def test_a_second_controller_on_the_same_socket_is_refused(folder: Path) -> None:
    with Cluster.up(folder) as cluster:
        command = [
            *(str(find_binary()), "controller", "--control-address", cluster.control_address),
            *("--client-address", f"unix:{folder}/other.sock", "--data-address", f"unix:{folder}/other.data"),
        ]
        with Process(command, folder / "second.log") as second:
            second.popen.wait(20)
            assert second.popen.returncode != 0
            assert f"cannot listen on {cluster.control_address}" in second.log.read_text()
        with Client(cluster.client_address, folder) as client:
            assert client.call(lambda: float(jnp.arange(4.0).sum())) == 6
