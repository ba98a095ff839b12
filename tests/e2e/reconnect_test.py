"""The controller dies: what its clients are told, how they go on in the same process, and what is left elsewhere."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Cluster, Process, RemoteError, clean_environment, eventually
from jax.extend import backend

from causeway.binary import find_binary

SOON_S = 20

# What has happened, and what to do.
TOLD = re.compile(r"UNAVAILABLE: .*jax\.extend\.backend\.clear_backends\(\)", re.DOTALL)


def compute(kept: dict) -> float:
    """With a program and an array that stay from call to call."""
    if "f" not in kept:
        kept["f"] = jax.jit(lambda x: (x * 2).sum())
    kept["x"] = jax.device_put(np.arange(10.0), jax.devices()[-1])
    return float(kept["f"](kept["x"]))


def connect_anew(kept: dict) -> list[int]:
    """What a program does: nothing but this, also with its old arrays and programs still there."""
    backend.clear_backends()
    return [device.id for device in jax.devices()]


def wait_for_long() -> None:
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 1_000_000, lambda _, x: jnp.tanh(x @ x), x))
    slow(jax.device_put(np.ones((300, 300), np.float32), jax.devices()[0])).block_until_ready()


def use_old(kept: dict) -> None:
    np.asarray(kept["x"] + 1)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "terminated"])
def test_a_client_is_told_and_goes_on_in_the_same_process(folder: Path, how: signal.Signals) -> None:
    with (
        Cluster.up(folder, hosts=2, devices=2) as cluster,
        Client(cluster.client_address, folder, "one") as one,
        Client(cluster.client_address, folder, "two") as two,
    ):
        assert one.call(compute) == two.call(compute) == 90
        lives = [worker["pid"] for worker in cluster.workers()]
        two.start(wait_for_long)
        time.sleep(0.5)
        os.kill(cluster.controller_pid(), how)
        with pytest.raises(RemoteError, match=TOLD):
            two.result(SOON_S)
        with pytest.raises(RemoteError, match=TOLD):
            one.call(use_old)
        for client in (one, two):
            # At once: it waits for the controller, and for both workers to find it again.
            assert client.call(connect_anew) == [0, 1, 2, 3]
            assert client.call(compute) == 90
        assert [worker["pid"] for worker in cluster.workers()] == lives, "the workers were not started again"
        assert {session["name"] for session in cluster.status()["sessions"]} == {one.name, two.name}


def test_nothing_of_the_old_life_is_left_on_the_workers(folder: Path) -> None:
    with (
        Cluster.up(folder, "--heartbeat", "0.1", "--heartbeat-timeout", "10") as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        client.call(compute)
        client.call(lambda kept: kept.update(y=jax.device_put(np.ones(1000), jax.devices()[0])))
        eventually(lambda: cluster.device_buffers() >= 2, "the arrays show")
        os.kill(cluster.controller_pid(), signal.SIGKILL)
        client.call(connect_anew)
        time.sleep(0.3)  # longer than a heartbeat: the accounts are those of now
        assert cluster.device_buffers() == 0
        assert [worker["programs"] for worker in cluster.workers()] == [0]


def test_old_arrays_are_not_taken_for_new_ones(folder: Path) -> None:
    """The client numbers its arrays from 1 in every session: an old one has the number of another."""
    with Cluster.up(folder) as cluster, Client(cluster.client_address, folder) as client:
        client.call(compute)
        # Not bound to a device: JAX would take it to one of the new session.
        client.call(lambda kept: kept.update(old=jax.block_until_ready(jnp.arange(10.0))))
        os.kill(cluster.controller_pid(), signal.SIGKILL)
        client.call(connect_anew)
        client.call(lambda kept: kept.update(new=[jax.device_put(np.full(10, 7.0), d) for d in jax.devices() * 20]))
        for use in (lambda kept: np.asarray(kept["old"]), lambda kept: kept["f"](kept["old"])):
            with pytest.raises(RemoteError, match="deleted"):
                client.call(use)
        client.call(lambda kept: kept.pop("old") is None)
        assert client.call(compute) == 90


def test_up_ends_with_the_controller_if_it_is_not_to_start_it_again(folder: Path) -> None:
    with Cluster.up(folder, "--no-restart") as cluster:
        os.kill(cluster.controller_pid(), signal.SIGKILL)
        assert cluster.popen.wait(SOON_S) == 1
        assert "the controller has ended (killed by signal 9)" in cluster.log.read_text()


def test_a_client_waits_for_the_workers_that_are_expected(folder: Path) -> None:
    binary = str(find_binary())
    control = f"unix:{folder}/control.sock"
    addresses = ("--client-address", f"unix:{folder}/client.sock", "--data-address", f"unix:{folder}/controller.data")

    def worker(number: int) -> Process:
        command = [binary, "worker", "--controller", control, "--name", f"w{number}", "--devices", "2"]
        return Process([*command, "--data-address", f"unix:{folder}/w{number}.data"], folder / f"w{number}.log")

    command = [binary, "controller", *addresses, "--control-address", control, "--workers", "2"]
    with Process(command, folder / "controller.log"), worker(0):
        client = Client(f"unix:{folder}/client.sock", folder)
        with client:
            client.start(lambda: len(jax.devices()))
            time.sleep(2)
            with worker(1):
                assert client.result(60) == 4, "not the two that were there first"


EMBEDDED = """
import os, signal, sys, time
import jax, numpy as np
from jax.extend import backend
from harness import causeway_below
f = jax.jit(lambda x: x + 1)
x = f(np.arange(4))
first = __import__("causeway").address()
os.kill(causeway_below(os.getpid(), sys.argv[1]), signal.SIGKILL)
for _ in range(1000):
    time.sleep(0.01)
    try:
        np.asarray(f(x))
    except jax.errors.JaxRuntimeError as error:
        if "DATA_LOSS" in str(error):
            continue  # all of the cluster goes, and the worker was the first
        # Where a write of the client's own fails before it has read what the controller said, it shows only that.
        cure = "clear_backends" in str(error) or "writes no longer allowed" in str(error)
        print("told", "UNAVAILABLE" in str(error) and cure)
        break
backend.clear_backends()
print(f(np.arange(4)), len(jax.devices()), first == __import__("causeway").address())
"""


@pytest.mark.parametrize(("part", "same"), [("controller", True), ("up", False)])
def test_an_embedded_cluster_comes_back_or_is_replaced(folder: Path, part: str, same: bool) -> None:
    """The controller is started again; if all of the cluster is gone there is another one."""
    environment = {"TMPDIR": str(folder), "JAX_PLATFORMS": "causeway", "CAUSEWAY_DEVICES": "2"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", EMBEDDED, part],
        env=clean_environment(environment),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.stdout == f"told True\n[1 2 3 4] 2 {same}\n", done.stderr
    eventually(lambda: not list(folder.glob("causeway-*")), "the clusters' folders are gone")
