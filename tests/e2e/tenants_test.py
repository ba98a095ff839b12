"""Many clients on the same devices: they come, go and are killed, and nothing of them stays; and whatever the order in
which they use the devices, nobody waits for ever."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import CALL_S, Client, Cluster, clean_environment, eventually
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from soak.processes import footprint, pids_of

# Far more than it takes, for a machine that is busy with other tests.
SOON_S = 30


# ---------------------------------------------------------------- clients that come and go


def churn(cluster: Cluster, *, slots: int, clients: int, seconds: float, seed: int) -> dict[str, int]:
    """Lets so many clients at a time come and go, so many in all and for so long; returns how they ended."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("churn_main.py")), *map(str, (slots, clients, seconds, seed))],
        capture_output=True,
        text=True,
        timeout=seconds + 200,
        env=clean_environment(
            {
                "JAX_PLATFORMS": "causeway",
                "CAUSEWAY_ADDRESS": cluster.client_address,
                "CAUSEWAY_CONNECT_TIMEOUT": "60",
            }
        ),
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def run_gangs() -> None:
    """Programs over all devices, in either order, by somebody who stays."""
    for devices in (jax.devices(), jax.devices()[::-1]):
        sharding = NamedSharding(Mesh(devices, "x"), P("x"))
        x = jax.device_put(np.arange(4 * len(devices), dtype=np.float32), sharding)
        total = jax.jit(lambda x: jnp.broadcast_to(x.sum(), x.shape))
        np.testing.assert_array_equal(np.asarray(total(x)), np.full(x.size, x.size * (x.size - 1) / 2))


def what_is_held(cluster: Cluster, survivor: Client) -> dict[str, Any]:
    """All that the controller's and the workers' accounts say is there, but for the survivor's programs."""
    status = cluster.status()
    return {
        "sessions": [session["name"] for session in status["sessions"]],
        "arrays": (cluster.session_of(survivor) or {}).get("arrays"),
        "buffers": cluster.device_buffers(),
        "bytes": cluster.device_bytes(),
        "programs": len(status["programs"]),
        "pending": sum(status["pending"].values()),
        "workers": [
            [
                *(worker["programs"], worker["host_bytes"], worker["queued_launches"]),
                *(device["launches_in_flight"] for device in worker["devices"]),
            ]
            for worker in cluster.workers()
        ],
    }


def files_and_threads(cluster: Cluster) -> dict[str, int]:
    found = {name: footprint(pid) for name, pid in pids_of(cluster).items()}
    return {f"{name}: files": sizes.files for name, sizes in found.items()} | {
        f"{name}: threads": sizes.threads for name, sizes in found.items()
    }


def come_and_go(folder: Path, *, slots: int, clients: int, seconds: float) -> None:
    with (
        Cluster.up(folder, hosts=2, devices=2) as cluster,
        Client(cluster.client_address, folder, "survivor") as survivor,
    ):
        survivor.call(run_gangs)
        # Pools of threads are filled, and connections between workers made, when they are wanted first.
        churn(cluster, slots=slots, clients=slots, seconds=0, seed=0)
        survivor.call(run_gangs)
        eventually(lambda: len(cluster.status()["sessions"]) == 1, "the first ones' sessions are gone", SOON_S)
        eventually(lambda: what_is_held(cluster, survivor)["buffers"] == 0, "and their buffers", SOON_S)
        held, took = what_is_held(cluster, survivor), files_and_threads(cluster)

        ended = churn(cluster, slots=slots, clients=clients, seconds=seconds, seed=1)
        assert ended["ended"] + ended["killed"] >= clients
        assert ended["killed"] >= clients // 5  # one in three, but for those that had ended before
        survivor.call(run_gangs)

        eventually(
            lambda: what_is_held(cluster, survivor) == held,
            f"all is given back: there was {held}, now {what_is_held(cluster, survivor)}",
            SOON_S,
        )
        # A pool may have grown by a few; what every killed client left behind would be more.
        allowed = ended["killed"] // 2

        def has_shrunk() -> bool:
            return all(now <= took[what] + allowed for what, now in files_and_threads(cluster).items())

        eventually(has_shrunk, f"files and threads are back at {took}: {files_and_threads(cluster)}", SOON_S)
        survivor.call(run_gangs)


@pytest.mark.timeout(280)
def test_twenty_clients_that_come_and_go_leave_nothing_behind(folder: Path) -> None:
    come_and_go(folder, slots=6, clients=20, seconds=10)


@pytest.mark.full
@pytest.mark.timeout(1500)
def test_twenty_clients_at_a_time_come_and_go_for_ten_minutes(folder: Path) -> None:
    come_and_go(folder, slots=20, clients=200, seconds=600)


# ---------------------------------------------------------------- opposite order


def use_one_after_the_other(turns: int, backwards: bool) -> float:
    """Each turn: a program on one device, one on the other, and a gang over both that takes their results. Nobody
    waits before the end. Each turn adds one."""
    devices = jax.devices()[::-1] if backwards else jax.devices()
    both = NamedSharding(Mesh(devices, "x"), P("x"))
    add_one = jax.jit(lambda x: x + 1)
    mean = jax.jit(lambda x: jnp.broadcast_to(x.sum() / 2, x.shape), out_shardings=both)
    singles = [jax.device_put(np.zeros(1, np.float32), device) for device in devices]
    for _ in range(turns):
        singles = [add_one(x) for x in singles]
        x = mean(jax.make_array_from_single_device_arrays((2,), both, singles))
        by_device = {shard.device: shard.data for shard in x.addressable_shards}
        singles = [by_device[device] for device in devices]
    np.testing.assert_array_equal(np.asarray(x), np.full(2, turns))
    return float(x[0])


def meet_in_opposite_order(folder: Path, flags: tuple[str, ...], turns: int, limit_s: float) -> None:
    with (
        Cluster.up(folder, *flags, hosts=2, devices=1) as cluster,
        Client(cluster.client_address, folder, "forwards") as forwards,
        Client(cluster.client_address, folder, "backwards") as backwards,
    ):
        for client, is_backwards in ((forwards, False), (backwards, True)):
            client.call(use_one_after_the_other, 1, is_backwards)
        for client, is_backwards in ((forwards, False), (backwards, True)):
            client.start(use_one_after_the_other, turns, is_backwards)
        assert [client.result(limit_s) for client in (forwards, backwards)] == [turns, turns]


WAYS = {
    "fair": ("--policy", "fair"),
    "first come first served": ("--policy", "fcfs"),
    "one credit": ("--credits", "1"),
    "sequential": ("--dispatch", "sequential"),
}


@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS.keys())
def test_sessions_that_use_devices_in_opposite_order_do_not_deadlock(folder: Path, flags: tuple[str, ...]) -> None:
    meet_in_opposite_order(folder, flags, turns=500, limit_s=2 * CALL_S)


@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("flags", WAYS.values(), ids=WAYS.keys())
def test_sessions_that_use_devices_in_opposite_order_for_long_do_not_deadlock(
    folder: Path, flags: tuple[str, ...]
) -> None:
    meet_in_opposite_order(folder, flags, turns=20_000, limit_s=600)
