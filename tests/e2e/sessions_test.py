"""Sessions with a say: slices, refusals, and that the programs of one are undisturbed by workers that come and go."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster, Process, RemoteError, eventually, short_folder, status_if_any
from jax.extend import backend
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import causeway
from causeway import session
from causeway.binary import find_binary

SOON_S = 20


@pytest.fixture(scope="module")
def two_islands() -> Iterator[Cluster]:
    """Two islands of one worker with two devices each."""
    with short_folder() as path, Cluster.up(path, islands=2, devices=2) as cluster:
        yield cluster


@pytest.fixture
def start(two_islands: Cluster) -> Iterator[Any]:
    """Starts clients of `two_islands` that wish something, and ends them with the test."""
    clients: list[Client] = []

    def started(file: str, /, timeout: str = "5", **wishes: str) -> Client:
        environment = {f"CAUSEWAY_SESSION_{wish.upper()}": value for wish, value in wishes.items()}
        # The client asks again for so long where it is refused.
        environment["CAUSEWAY_CONNECT_TIMEOUT"] = timeout
        clients.append(Client(two_islands.client_address, two_islands.folder, file, **environment))
        return clients[-1].__enter__()

    yield started
    for client in clients:
        client.__exit__()
    eventually(lambda: not two_islands.status()["sessions"], "all sessions have ended", SOON_S)


def ids() -> list[int]:
    return [device.id for device in jax.devices()]


def connect(**wishes: Any) -> list[int]:
    causeway.connect(**wishes)
    return [device.id for device in jax.devices()]


def connect_with(wishes: dict[str, Any]) -> list[int]:
    return connect(**wishes)


def use_all_devices() -> None:
    """What JAX programs do with their devices, whatever these are."""
    devices = jax.devices()
    count = len(devices)
    assert jax.device_count() == jax.local_device_count() == count
    x = np.arange(8.0 * count, dtype=np.float32).reshape(2 * count, 4)
    # Without a word about devices: the first one.
    assert (jnp.asarray(x) + 1).devices() == {devices[0]}
    mesh = jax.make_mesh((count,), ("a",), axis_types=(AxisType.Auto,))
    assert list(mesh.devices.flat) == devices
    spread = jax.device_put(x, NamedSharding(mesh, P("a")))
    assert spread.sharding.device_set == set(devices)
    np.testing.assert_array_equal(np.asarray(spread), x)
    np.testing.assert_allclose(jax.jit(lambda x: (x * 2).sum(0))(spread), (x * 2).sum(0))
    summed = jax.jit(jax.shard_map(lambda x: jax.lax.psum(x, "a"), mesh=mesh, in_specs=P("a"), out_specs=P()))
    np.testing.assert_allclose(summed(spread), x.reshape(count, 2, 4).sum(0))
    copies = [jax.device_put(spread[0], device) for device in devices]
    for copy, device in zip(copies, devices, strict=True):
        assert copy.devices() == {device}
        np.testing.assert_array_equal(np.asarray(copy), x[0])
    turned = jax.device_put(spread, NamedSharding(Mesh(devices[::-1], "a"), P("a")))
    np.testing.assert_array_equal(np.asarray(turned), x)


def test_two_slices_lie_on_different_devices_and_work(two_islands: Cluster, start: Any) -> None:
    one, two = start("one", devices="2"), start("two", devices="2")
    first, second = one.call(ids), two.call(ids)
    assert len(first) == len(second) == 2
    assert not set(first) & set(second)
    assert {tuple(first), tuple(second)} == {(0, 1), (2, 3)}, "no island was split"
    one.call(use_all_devices)
    two.call(use_all_devices)
    three = start("three", devices="3")
    three.call(use_all_devices)
    assert len(three.call(ids)) == 3
    everything = start("everything")
    assert everything.call(ids) == [0, 1, 2, 3]
    everything.call(use_all_devices)


def test_status_shows_wishes_and_slices(two_islands: Cluster, start: Any) -> None:
    wishes = {"weight": "2.5", "devices": "2", "cap": "0.5", "memory": "3 GiB", "exclusive": "yes", "name": "mine"}
    start("file", **wishes).call(ids)
    start("plain").call(ids)
    mine, plain = two_islands.status()["sessions"]
    shown = ("name", "weight", "device_count", "devices", "cap", "memory_cap_bytes", "exclusive")
    assert [mine[key] for key in shown] == ["mine", 2.5, 2, "0-1", 0.5, 3 << 30, True]
    assert [plain[key] for key in shown] == ["plain.py", 1, 2, "2-3", 1, 0, False]
    command = [str(find_binary()), "status", "--controller", two_islands.control_address]
    table = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    assert "    2.5  0-1, exclusive, cap 0.5, at most 3.0 GiB each\n" in table


def prepare(kept: dict) -> None:
    """A program of some milliseconds on the first device."""
    kept["busy"] = jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda _, y: jnp.sin(y), x))
    kept["operand"] = jnp.linspace(0, 1, 200_000)
    keep_busy(1, kept)


def keep_busy(launches: int, kept: dict) -> float:
    """Launches of it, none of which waits for another; how long they took."""
    began = time.monotonic()
    results = [kept["busy"](kept["operand"]) for _ in range(launches)]
    for result in results:
        result.block_until_ready()
    return time.monotonic() - began


def launches_for(device_s: float, cluster: Cluster, client: Client) -> int:
    """How many of them take so long."""
    client.call(prepare)
    before = sum(session["device_us"] for session in cluster.status()["sessions"])
    client.call(keep_busy, 4)
    used_us = sum(session["device_us"] for session in cluster.status()["sessions"]) - before
    assert used_us > 0
    return max(12, int(device_s * 1e6 / (used_us / 4)))


def test_a_cap_keeps_a_session_from_most_of_a_device_that_nobody_else_wants(two_islands: Cluster, start: Any) -> None:
    client = start("capped", devices="1", cap="0.1")
    launches = launches_for(0.2, two_islands, client)

    def device_s() -> float:
        (session,) = two_islands.status()["sessions"]
        assert session["cap"] == 0.1
        return session["device_us"] / 1e6

    before = device_s()
    took_s = client.call(keep_busy, launches)
    used_s = device_s() - before
    assert used_s > 0
    # A tenth, and what a session may use at once, and what was handed over before any of it was measured.
    assert used_s < 0.25 * took_s


def test_device_time_is_shared_by_weight(two_islands: Cluster, start: Any) -> None:
    clients = [start("heavy", weight="4"), start("light", weight="1")]
    launches = [launches_for(2, two_islands, client) for client in clients]
    for client in clients:
        client.start(keep_busy, max(launches))
    # While both of them have something waiting: what each has used.
    used: list[tuple[int, int]] = []

    def one_is_done() -> bool:
        heavy, light = two_islands.status()["sessions"]
        assert (heavy["weight"], light["weight"]) == (4, 1)
        if heavy["queued"] > 0 and light["queued"] > 0:
            used.append((heavy["device_us"], light["device_us"]))
        return bool(used) and (heavy["queued"] == 0 or light["queued"] == 0)

    eventually(one_is_done, "one of them is done", 60)
    for client in clients:
        client.result()
    heavy_us, light_us = (last - first for first, last in zip(used[0], used[-1], strict=True))
    assert heavy_us + light_us > 500_000
    # By whole launches, between two looks at it.
    assert 2.5 < heavy_us / light_us < 6.5


def test_one_island_is_given_or_refused(start: Any) -> None:
    assert start("all", one_island="1").call(ids) in ([0, 1], [2, 3])
    with pytest.raises(RemoteError, match=r"RESOURCE_EXHAUSTED: .*3 devices in one island. Free for it: 2 of 2 in"):
        start("three", one_island="1", devices="3").call(ids)


def test_exclusive_devices_are_refused_to_others_with_the_holders_name(start: Any) -> None:
    holder = start("holder", devices="3", exclusive="1")
    held = holder.call(ids)
    rest = start("rest").call(ids)
    assert sorted(held + rest) == [0, 1, 2, 3]
    late = start("late")
    with pytest.raises(RemoteError) as refused:
        late.call(connect_with, {"devices": 2})
    told = str(refused.value)
    assert re.search(r"RESOURCE_EXHAUSTED: .*held: 3 devices exclusively by session \d+ \(holder\.py\)", told), told
    assert "refuses this session: RESOURCE_EXHAUSTED: this session asks for 2 devices. Free for it: " in told
    with pytest.raises(RemoteError, match=r"2 devices, exclusively.* 1 device by session \d+ \(rest\.py\)"):
        late.call(connect_with, {"devices": 2, "exclusive": True})
    # The same process goes on when it has changed its mind.
    assert late.call(connect_with, {"devices": 1}) == rest


def test_what_was_held_is_given_back_when_its_program_is_killed(two_islands: Cluster, start: Any) -> None:
    holder = start("holder", exclusive="1")
    assert holder.call(ids) == [0, 1, 2, 3]
    with pytest.raises(RemoteError, match=r"4 devices exclusively by session \d+ \(holder\.py\)"):
        start("early").call(ids)
    holder.kill()
    eventually(lambda: not two_islands.status()["sessions"], "the session has ended", SOON_S)
    assert start("late", devices="4", exclusive="1").call(ids) == [0, 1, 2, 3]


def test_who_is_refused_hears_why_at_once_and_is_let_in_when_that_is_over(two_islands: Cluster, start: Any) -> None:
    holder = start("holder", devices="3", exclusive="1")
    assert len(holder.call(ids)) == 3
    patient = start("patient", timeout="120", devices="2")
    patient.start(ids)
    hurried = start("hurried", timeout="120", devices="2")
    hurried.start(ids)
    for refused in (patient, hurried):
        eventually(lambda log=refused.log: "Ctrl-C ends it" in log.read_text(), "it hears of it", SOON_S)
        told = refused.log.read_text()
        assert "refuses this session so far: RESOURCE_EXHAUSTED: this session asks for 2 devices" in told
        assert "(holder.py)" in told
        assert "s more (CAUSEWAY_CONNECT_TIMEOUT=120)" in told
    os.kill(hurried.pid, signal.SIGINT)
    with pytest.raises(RemoteError, match="KeyboardInterrupt"):
        hurried.result(SOON_S)
    holder.kill()
    assert len(patient.result(SOON_S)) == 2
    assert patient.log.read_text().count("so far") == 1


def test_what_makes_no_sense_is_not_tried_again(start: Any) -> None:
    client = start("client", timeout="120")

    def weigh_nothing() -> None:
        session.initialization_data = lambda _: {"causeway_session_weight": b"0"}
        jax.devices()

    with pytest.raises(RemoteError, match=r"refuses this session: INVALID_ARGUMENT: .*weight"):
        client.call(weigh_nothing, limit_s=SOON_S)


def test_a_platform_that_is_not_there_is_refused(start: Any) -> None:
    assert start("cpu", platform="cpu").call(ids) == [0, 1, 2, 3]
    with pytest.raises(RemoteError, match=r"RESOURCE_EXHAUSTED: .*of platform tpu.*of platform cpu: 4"):
        start("tpu", platform="tpu").call(ids)


def test_connect_says_more_than_the_environment(two_islands: Cluster, start: Any) -> None:
    client = start("client", devices="3", weight="4")
    assert len(client.call(connect_with, {"devices": 2, "name": "said"})) == 2
    (session,) = two_islands.status()["sessions"]
    assert (session["name"], session["weight"], session["device_count"]) == ("said", 4, 2)


def test_connect_again_replaces_what_was_said_until_jax_has_connected(two_islands: Cluster, start: Any) -> None:
    def twice() -> list[int]:
        causeway.connect(devices=3, exclusive=True)
        return connect(devices=2, weight=3)

    client = start("client")
    assert len(client.call(twice)) == 2
    (session,) = two_islands.status()["sessions"]
    assert (session["weight"], session["exclusive"]) == (3, False)
    with pytest.raises(RemoteError, match=r"RuntimeError: causeway.connect\(\) comes too late: .*clear_backends"):
        client.call(connect_with, {"devices": 1})

    def anew() -> list[int]:
        backend.clear_backends()
        return connect(devices=1)

    assert len(client.call(anew)) == 1
    client.call(use_all_devices)


def test_wishes_stay_for_later_sessions_of_the_process(start: Any) -> None:
    def again() -> list[int]:
        backend.clear_backends()
        return [device.id for device in jax.devices()]

    client = start("client")
    assert len(client.call(connect_with, {"devices": 1})) == 1
    assert len(client.call(again)) == 1


def test_the_cluster_looks_at_wishes_itself(start: Any) -> None:
    """Whoever speaks the protocol may say what our client would not let pass."""

    def unchecked(data: dict[str, Any]) -> None:
        from causeway import jax_plugin

        jax_plugin._wishes = data
        jax.devices()

    client = start("client")
    for data, complaint in (
        ({"weight": 0.0}, "INVALID_ARGUMENT: a session's weight is 0.001 to 1000, not 0"),
        ({"weight": float("nan")}, "INVALID_ARGUMENT: a session's weight is 0.001 to 1000, not nan"),
        ({"weight": 1e300}, r"INVALID_ARGUMENT: a session's weight is 0.001 to 1000, not 1e\+300"),
        ({"devices": 1_000_000}, "RESOURCE_EXHAUSTED: .*1000000 devices. Free for it: 2 of 2 in"),
        ({"cap": "half"}, "INVALID_ARGUMENT: causeway_session_cap is to be a decimal number"),
        ({"priority": 1}, "INVALID_ARGUMENT: this controller knows nothing of causeway_session_priority"),
    ):
        with pytest.raises(RemoteError, match=complaint):
            client.call(unchecked, data)
    assert client.call(connect_with, {"devices": 4}) == [0, 1, 2, 3]


def test_a_mistake_in_the_environment_is_told_before_anything_is_tried(folder: Path) -> None:
    with (
        Client("unix:/nowhere", folder, CAUSEWAY_SESSION_WEIGHT="heavy") as client,
        pytest.raises(RemoteError, match=r"CAUSEWAY_SESSION_WEIGHT='heavy': a session's weight is a number from 0.001"),
    ):
        client.call(ids)


def compute(kept: dict) -> float:
    """With a program and an array that stay from call to call."""
    if "f" not in kept:
        mesh = jax.make_mesh((len(jax.devices()),), ("a",), axis_types=(AxisType.Auto,))
        kept["f"] = jax.jit(lambda x: (x * 2).sum())
        kept["x"] = jax.device_put(np.arange(12.0), NamedSharding(mesh, P("a")))
    return float(kept["f"](kept["x"]))


def compute_until(path: str, kept: dict) -> int:
    """Again and again until the file is there; how often."""
    rounds = 0
    while not os.path.exists(path):
        assert compute(kept) == 132
        rounds += 1
    return rounds


def test_workers_come_and_go_while_sessions_run(folder: Path) -> None:
    binary = str(find_binary())
    control = f"unix:{folder}/control.sock"
    address = f"unix:{folder}/client.sock"

    def worker(name: str) -> Process:
        command = [binary, "worker", "--controller", control, "--name", name, "--devices", "2"]
        return Process([*command, "--data-address", f"unix:{folder}/{name}.data"], folder / f"{name}.log")

    def workers_up() -> int:
        status = status_if_any(control)
        return sum(w["alive"] for island in status["islands"] for w in island["workers"]) if status else 0

    command = [binary, "controller", "--client-address", address, "--control-address", control]
    with (
        Process([*command, "--data-address", f"unix:{folder}/controller.data"], folder / "controller.log"),
        worker("w0"),
        Client(address, folder, "early") as early,
    ):
        assert early.call(ids) == [0, 1]
        assert early.call(compute) == 132
        stop = folder / "stop"
        early.start(compute_until, str(stop))
        with worker("w1") as second:
            eventually(lambda: workers_up() == 2, "the second worker has joined", SOON_S)
            with Client(address, folder, "late") as late:
                assert late.call(ids) == [0, 1, 2, 3]
                late.call(use_all_devices)
                stop.touch()
                assert early.result() > 0
                assert early.call(ids) == [0, 1], "what it saw at its beginning"
                stop.unlink()
                early.start(compute_until, str(stop))
                second.kill()
                eventually(lambda: workers_up() == 1, "the second worker is lost", SOON_S)
            with Client(address, folder, "later") as later:
                assert later.call(ids) == [0, 1], "no devices of a lost worker"
                later.call(use_all_devices)
            stop.touch()
            assert early.result() > 0
        assert early.call(compute) == 132
