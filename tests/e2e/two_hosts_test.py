"""A program over two hosts with a network between them, which is slow, and then not there."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import Client, Process, alive, clean_environment, eventually, short_folder, workers_of
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from wire import Host, TwoHosts, ip, why_not

from causeway.binary import find_binary

pytestmark = pytest.mark.skipif(bool(reason := why_not()), reason=reason or "can run")

ONE_WAY_S = 0.005
HEARTBEAT_TIMEOUT_S = 3
# By when the loss of the network must be known: the heartbeat's limit, and much for a busy machine.
SOON_S = HEARTBEAT_TIMEOUT_S + 30


class Hosts:
    """The controller, a client and a worker on host a; a worker on host b. Each worker has two devices."""

    def __init__(self, network: TwoHosts, folder: Path) -> None:
        self.network = network
        self._folder = folder
        self._running = ExitStack()
        self._token = folder / "token"
        self._token.write_text("correct horse battery staple\n")
        self._token.chmod(0o600)
        control = f"{network.a.address}:29001"
        try:
            self.controller = self._start(
                network.a,
                *("controller", "--client-address", "127.0.0.1:29000", "--control-address", control),
                *("--data-address", f"{network.a.address}:29002", "--allow-remote", "--workers", "2"),
                *("--heartbeat", "0.3", "--heartbeat-timeout", str(HEARTBEAT_TIMEOUT_S), "--program-cache", "none"),
            )
            self.workers = {
                name: self._start(
                    host,
                    *("worker", "--controller", control, "--name", name, "--devices", "2"),
                    *("--data-address", f"{host.address}:0"),
                )
                for name, host in (("here", network.a), ("there", network.b))
            }
            eventually(lambda: self.alive() == {"here", "there"}, "both workers join", 60)
            self.client = self._running.enter_context(Client("127.0.0.1:29000", folder, prefix=network.a.prefix))
        except BaseException as error:
            error.add_note("\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in folder.glob("*.log")))
            self._running.close()
            raise

    def __enter__(self) -> Hosts:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _start(self, host: Host, *command: str) -> Process:
        log = self._folder / f"{command[0]}-{host.namespace}.log"
        whole = [*host.prefix, str(find_binary()), *command, "--token-file", str(self._token)]
        return self._running.enter_context(Process(whole, log))

    def alive(self) -> set[str]:
        """The names of the workers that the controller believes to be there."""
        command = [str(find_binary()), "status", "--json", "--controller", f"{self.network.a.address}:29001"]
        done = subprocess.run(
            [*self.network.a.prefix, *command, "--token-file", str(self._token)],
            capture_output=True,
            text=True,
            timeout=20,
            env=clean_environment(),
            check=False,
        )
        workers = workers_of(json.loads(done.stdout)) if done.returncode == 0 else []
        return {worker["name"] for worker in workers if worker["alive"]}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with short_folder() as folder, TwoHosts(ONE_WAY_S) as network, Hosts(network, folder) as running:
        yield running


def all_devices() -> Any:
    return jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))


def averaging(mesh: Any) -> Callable[[jax.Array], jax.Array]:
    def average(x: jax.Array) -> jax.Array:
        return lax.psum(x, "x") * (1 / 4)

    return jax.jit(jax.shard_map(average, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))


def expect_right_results() -> None:
    mesh = all_devices()
    assert mesh.size == 4
    rows = NamedSharding(mesh, P("x"))
    x = np.arange(12, dtype=np.float32)
    y = jax.device_put(x, rows)
    program = averaging(mesh)
    for _ in range(20):
        y = program(y)
    np.testing.assert_array_equal(np.asarray(y), np.tile(x.reshape(4, 3).mean(0), 4))
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((256, 256)).astype(np.float32) for _ in range(2))
    product = jax.jit(jnp.matmul)(jax.device_put(a, NamedSharding(mesh, P(None, "x"))), jax.device_put(b, rows))
    np.testing.assert_allclose(np.asarray(product), a @ b, rtol=1e-3, atol=1e-3)


def average_until_it_fails(kept: dict) -> str:
    mesh = all_devices()
    program = averaging(mesh)
    x = jax.device_put(np.arange(12, dtype=np.float32), NamedSharding(mesh, P("x")))
    kept["here"] = jax.device_put(np.arange(3), jax.devices()[0])
    try:
        while True:
            for _ in range(10):
                x = program(x)
            x.block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        return str(error)


def host_a_goes_on(kept: dict) -> None:
    np.testing.assert_array_equal(np.asarray(jax.jit(lambda x: x * 2)(kept["here"])), [0, 2, 4])


def test_programs_over_both_hosts_are_right(hosts: Hosts) -> None:
    hosts.client.call(expect_right_results)


def cut_silently(network: TwoHosts) -> None:
    network.say("cut")


def join_again(network: TwoHosts) -> None:
    network.say("join")


def take_down(network: TwoHosts) -> None:
    network.b.set_link("down")


def take_up(network: TwoHosts) -> None:
    network.b.set_link("up")


@pytest.mark.parametrize(
    ("cut", "mend"), [(cut_silently, join_again), (take_down, take_up)], ids=["silent", "interface down"]
)
def test_a_network_that_is_cut_is_an_error_and_no_hang(
    hosts: Hosts, cut: Callable[[TwoHosts], None], mend: Callable[[TwoHosts], None]
) -> None:
    hosts.client.start(average_until_it_fails)
    eventually(lambda: hosts.alive() == {"here", "there"}, "both are there")
    with pytest.raises(AssertionError, match="did not answer"):
        hosts.client.result(limit_s=2)  # it goes on as long as the network does
    cut(hosts.network)
    try:
        assert "DATA_LOSS" in hosts.client.result(limit_s=SOON_S)
        hosts.client.call(host_a_goes_on)
        assert hosts.alive() == {"here"}
    finally:
        mend(hosts.network)
    assert alive(hosts.workers["there"].pid)
    eventually(lambda: hosts.alive() == {"here", "there"}, "the other host is back", 90)
    hosts.client.call(expect_right_results)


def test_nothing_is_left_behind() -> None:
    def namespaces() -> str:
        return ip("netns", "list").stdout

    with TwoHosts(0) as network:
        names = {network.a.namespace, network.b.namespace}
        assert all(name in namespaces() for name in names)
    assert not any(name in namespaces() for name in names)
    made: list[TwoHosts] = []

    def fail() -> None:
        with TwoHosts(0) as network:
            made.append(network)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any(host.namespace in namespaces() for host in (made[0].a, made[0].b))
