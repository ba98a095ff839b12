"""Memory: the controller's accounts are the workers' to the byte; what does not fit waits, or is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from harness import Client, Cluster, eventually
from jax.sharding import AxisType, Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P

import causeway

DTYPES = (
    *(np.bool_, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float16, np.float32, np.complex64),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4, ml_dtypes.uint4),
)


def mesh(*shape: int) -> Mesh:
    names = "ab"[: len(shape)]
    return jax.make_mesh(shape, tuple(names), axis_types=(AxisType.Auto,) * len(shape))


def named(*spec: str | None, shape: tuple[int, ...] = (4,)) -> NamedSharding:
    return NamedSharding(mesh(*shape), P(*spec))


def in_use(device: int = 0) -> int:
    return int(causeway.memory_stats(jax.devices()[device])["session_bytes_in_use"])


# Each of the following adds to what is kept, and is followed by a comparison.


def many_dtypes(kept: dict[str, Any]) -> None:
    """Odd numbers of elements, so that packed ones do not fill their last byte."""
    for dtype in DTYPES:
        kept[f"{dtype}"] = jax.device_put(np.zeros((3, 7), dtype), jax.devices()[1])
        kept[f"{dtype} computed"] = jax.jit(lambda x: x.T)(kept[f"{dtype}"])
    kept["empty"] = jax.device_put(np.zeros((3, 0), np.float32), jax.devices()[2])
    kept["scalar"] = jax.device_put(np.float32(1), jax.devices()[3])


def many_shardings(kept: dict[str, Any]) -> None:
    x = np.zeros((8, 12), np.float32)
    for i, spec in enumerate([P("a"), P(None, "a"), P()]):
        kept[f"put {i}"] = jax.device_put(x, NamedSharding(mesh(4), spec))
        kept[f"out {i}"] = jax.jit(lambda x: x + 1, out_shardings=NamedSharding(mesh(4), spec))(kept[f"put {i}"])
    kept["two axes"] = jax.device_put(x, named("b", "a", shape=(2, 2)))
    kept["one axis of two"] = jax.device_put(x, named("b", shape=(2, 2)))
    kept["of every other device"] = jax.device_put(x, NamedSharding(Mesh(jax.devices()[1::2], "a"), P("a")))
    kept["copied"] = jax.device_put(kept["of every other device"], NamedSharding(Mesh(jax.devices()[::2], "a"), P("a")))
    kept["resharded"] = jax.device_put(kept["put 0"], named(None, "a"))


def many_names(kept: dict[str, Any]) -> None:
    """Further names for shards, whose first names go."""
    spread = jax.device_put(np.zeros((8, 5), np.float32), named("a"))
    kept["shard"] = spread.addressable_shards[2].data
    singles = [jax.device_put(np.zeros((2, 5), np.int16), device) for device in jax.devices()]
    kept["assembled"] = jax.make_array_from_single_device_arrays((8, 5), named("a"), singles)
    whole = jax.device_put(np.zeros((8, 5), np.float64), named())
    kept["first of replicas"] = whole.addressable_shards[0].data
    kept["first of first"] = kept["first of replicas"].addressable_shards[0].data
    kept["twice"] = [kept["assembled"], kept["shard"]]


def donations(kept: dict[str, Any]) -> None:
    step = jax.jit(lambda x, y: (x + y.sum(), y * 2), donate_argnums=0)
    x = jax.device_put(np.zeros((16, 3), np.float32), named("a"))
    y = jax.device_put(np.ones((16, 1), np.float32), named("a"))
    for _ in range(5):
        x, z = step(x, y)
    kept["donated"] = (x, y, z)
    kept["not used"] = jax.jit(lambda x: x[:1], donate_argnums=0)(jax.device_put(np.ones(9), jax.devices()[2]))


def other_memories(kept: dict[str, Any]) -> None:
    for kind in [memory.kind for memory in jax.devices()[0].addressable_memories()]:
        sharding = SingleDeviceSharding(jax.devices()[0], memory_kind=kind)
        kept[f"in {kind}"] = jax.device_put(np.zeros(77, np.float32), sharding)


def failures(kept: dict[str, Any]) -> None:
    """Arrays that are nothing but an error take nothing."""
    kept["deleted"] = jax.device_put(np.zeros(33, np.float32))
    kept["deleted"].delete()


def lets_go_of_some(kept: dict[str, Any]) -> None:
    for name in sorted(kept)[::2]:
        del kept[name]


def lets_go_of_all(kept: dict[str, Any]) -> None:
    kept.clear()


STEPS = (
    *(many_dtypes, many_shardings, many_names, donations, other_memories, failures),
    *(lets_go_of_some, many_shardings, lets_go_of_all),
)


def devices_of(cluster: Cluster) -> list[dict[str, Any]]:
    return [device for worker in cluster.workers() for device in worker["devices"]]


def stats(device: int) -> dict[str, Any]:
    return causeway.memory_stats(jax.devices()[device])


def test_the_controllers_accounts_are_the_workers(two_workers: Cluster, folder: Path) -> None:
    with Client(two_workers.client_address, folder, "memory", JAX_ENABLE_X64="1") as client:
        for step in STEPS:
            client.call(step)
            named_bytes = [
                (s := client.call(stats, i))["bytes_in_use"] + s["other_memories_bytes_in_use"] for i in range(4)
            ]
            if step is not lets_go_of_all:
                assert any(named_bytes), step.__name__
            # The workers get there a little later, and tell of it once a second.
            eventually(
                lambda wanted=named_bytes: [d["bytes"] for d in devices_of(two_workers)] == wanted,
                f"after {step.__name__} workers have {named_bytes}, not {devices_of(two_workers)}",
            )
            assert [d["named_bytes"] for d in devices_of(two_workers)] == named_bytes
            (session,) = (s for s in two_workers.status()["sessions"] if s["name"] == "memory.py")
            by_device = {d["device"]: d["bytes"] for d in session["device_bytes"]}
            assert by_device == {i: n for i in range(4) if (n := client.call(stats, i)["session_bytes_in_use"])}
        assert not any(named_bytes)
        assert "causeway_memory_stats" not in client.log.read_text(), "the client warns of how it is asked"


def test_what_is_let_go_of_is_gone_at_once(client_of_two: Client) -> None:
    @client_of_two.run
    def _() -> None:
        before = in_use()
        x = jax.device_put(np.zeros(1000, np.float32), jax.devices()[0])
        assert in_use() == before + 4000
        y = jax.jit(lambda x: x * 2)(x)
        assert in_use() == before + 8000
        del x
        assert in_use() == before + 4000
        y.delete()
        assert in_use() == before
        cycle: list[Any] = [jax.device_put(np.zeros(1000, np.float32), jax.devices()[0])]
        cycle.append(cycle)
        del cycle
        assert in_use() == before
        peak = causeway.memory_stats()["peak_bytes_in_use"]
        assert peak >= before + 8000
        assert causeway.memory_stats()["bytes_limit"] == 0


def test_a_session_that_ends_gives_its_memory_back(two_workers: Cluster, client_of_two: Client, folder: Path) -> None:
    def hold(kept: dict[str, Any]) -> None:
        kept["x"] = jax.device_put(np.zeros(1234, np.uint8), jax.devices()[3])

    def held() -> dict[str, int]:
        found = causeway.memory_stats(jax.devices()[3])["bytes_in_use_by_session"]
        return {name.partition(" ")[2]: bytes_ for name, bytes_ in found.items()}

    with Client(two_workers.client_address, folder, "holder") as holder:
        holder.call(hold)
        assert client_of_two.call(held)["holder.py"] == 1234
        os.kill(holder.pid, signal.SIGKILL)
        eventually(lambda: "holder.py" not in client_of_two.call(held), "the memory of a killed client is free")


def test_what_can_never_fit_is_refused(folder: Path) -> None:
    mega = 1 << 20
    with (
        Cluster.up(folder, "--device-memory", "4MiB", hosts=2, devices=1) as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        assert [d["limit_bytes"] for d in devices_of(cluster)] == [4 * mega] * 2

        @client.run
        def _() -> None:
            here, there = jax.devices()
            assert causeway.memory_stats()["bytes_limit"] == 4 * mega
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"EXHAUSTED.*5\.0 MiB.*device 1.*4\.0 MiB"):
                jax.device_put(np.zeros(5 * mega, np.uint8), there).block_until_ready()
            both = NamedSharding(Mesh(jax.devices(), "a"), P("a"))
            spread = jax.device_put(np.zeros(6 * mega, np.uint8), both)
            spread.block_until_ready()
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"EXHAUSTED.*6\.0 MiB"):
                jax.device_put(spread, NamedSharding(Mesh(jax.devices(), "a"), P())).block_until_ready()
            del spread

            x = jax.device_put(np.zeros(mega, np.uint8), here)
            large = jax.jit(lambda x: jnp.concatenate([x, x, x, x, x]))
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"EXHAUSTED.*held now: session.*client\.py"):
                large(x).block_until_ready()
            four = jax.jit(lambda x: jnp.concatenate([x, x, x, x]))
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"EXHAUSTED.*arguments of 1\.0 MiB"):
                four(x).block_until_ready()
            three = jax.jit(lambda x: jnp.concatenate([x, x, x]))
            assert three(x).block_until_ready().nbytes == 3 * mega
            # What was refused takes nothing.
            assert in_use() == mega

            # A program whose outputs take its arguments' place needs no room for both.
            grow = jax.jit(lambda x: x + 1, donate_argnums=0)
            y = jax.device_put(np.zeros(3 * mega, np.uint8), there)
            for _ in range(3):
                y = grow(y)
            assert y.block_until_ready()[0] == 3
            with pytest.raises(jax.errors.JaxRuntimeError, match="RESOURCE_EXHAUSTED"):
                jax.jit(lambda x: x + 1)(y).block_until_ready()


def test_a_session_is_kept_to_the_memory_that_it_wished(folder: Path) -> None:
    with (
        Cluster.up(folder, devices=1) as cluster,
        Client(cluster.client_address, folder, CAUSEWAY_SESSION_MEMORY="3MiB") as modest,
        Client(cluster.client_address, folder, name="other") as other,
    ):

        @modest.run
        def _() -> None:
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"EXHAUSTED.*4\.0 MiB.*may have 3\.0 MiB.*cap"):
                jax.device_put(np.zeros(4 << 20, np.uint8)).block_until_ready()
            x = jax.device_put(np.zeros(2 << 20, np.uint8))
            with pytest.raises(jax.errors.JaxRuntimeError, match=r"EXHAUSTED"):
                jax.jit(lambda x: jnp.concatenate([x, x]))(x).block_until_ready()
            assert in_use() == 2 << 20

        @other.run
        def _() -> None:
            jax.device_put(np.zeros(8 << 20, np.uint8)).block_until_ready()


MEGA = 1 << 20


def hold_three_mega(kept: dict[str, Any]) -> None:
    kept["x"] = jax.device_put(np.zeros(3 * MEGA, np.uint8)).block_until_ready()


def let_go(kept: dict[str, Any]) -> None:
    kept.clear()


def ask_for_more(kept: dict[str, Any]) -> None:
    """A launch that does not fit, what takes its output, and an array that is put: none of them is waited for."""
    kept["one"] = jax.device_put(np.ones(MEGA, np.uint8)).block_until_ready()
    kept["two"] = jax.jit(lambda x: x + 1)(kept["one"])
    kept["sum"] = jax.jit(lambda x: x[7] + x[9])(kept["two"])
    kept["put"] = jax.device_put(np.full(MEGA, 5, np.uint8))


def all_of_it(kept: dict[str, Any]) -> list[int]:
    return [int(kept["sum"]), int(np.asarray(kept["put"])[7])]


def test_what_does_not_fit_waits_until_others_let_go(folder: Path) -> None:
    with (
        Cluster.up(folder, "--device-memory", "4MiB", hosts=1, devices=1) as cluster,
        Client(cluster.client_address, folder, "holder") as holder,
        Client(cluster.client_address, folder, "waiter") as waiter,
    ):
        holder.call(hold_three_mega)
        waiter.call(ask_for_more)
        session = cluster.session_of(waiter)
        assert session is not None
        assert "needs 1.0 MiB (1048576 bytes) on device 0" in session["memory_wait"]
        assert "(holder.py) 3.0 MiB (3145728 bytes)" in session["memory_wait"]
        # Nothing that waits is counted, and who holds the memory goes on.
        assert [d["named_bytes"] for d in devices_of(cluster)] == [4 * MEGA]
        assert holder.call(stats, 0)["bytes_in_use"] == 4 * MEGA
        holder.call(let_go)
        assert waiter.call(all_of_it) == [4, 5]
        assert waiter.call(in_use) == 3 * MEGA + 1
        eventually(
            lambda: [d["bytes"] for d in devices_of(cluster)] == [3 * MEGA + 1], "the worker has what is counted"
        )


def test_waiting_for_memory_has_an_end_that_names_who_holds_it(folder: Path) -> None:
    def exhausted(kept: dict[str, Any]) -> None:
        held = (
            r"RESOURCE_EXHAUSTED.*needs 1\.0 MiB.*device 0.*4\.0 MiB \(4195328 bytes\) in all; "
            r"held now: session \d+ \(holder\.py\) 3\.0 MiB \(3145728 bytes\), "
            r"session \d+ \(waiter\.py\) 1\.0 MiB"
        )
        for name in ("two", "sum", "put"):
            with pytest.raises(jax.errors.JaxRuntimeError, match=held):
                jax.block_until_ready(kept[name])
        assert in_use() == MEGA
        assert int(jax.jit(lambda x: x[0])(kept["one"])) == 1, "small ones still fit"

    with (
        Cluster.up(folder, "--device-memory", "4097KiB", "--memory-wait", "2", hosts=1, devices=1) as cluster,
        Client(cluster.client_address, folder, "holder") as holder,
        Client(cluster.client_address, folder, "waiter") as waiter,
    ):
        holder.call(hold_three_mega)
        waiter.call(ask_for_more)
        waiter.call(exhausted)
        holder.call(let_go)
        waiter.call(ask_for_more)
        assert waiter.call(all_of_it) == [4, 5]


def test_one_that_goes_on_and_on_runs_within_its_memory(folder: Path) -> None:
    """The client asks for steps long before their turn; it lets go of each as soon as it has asked for the next."""

    def run(kept: dict[str, Any]) -> int:
        step = jax.jit(lambda x, y: x + y)
        x = jax.device_put(np.zeros(MEGA, np.uint8))
        for i in range(300):
            y = jax.device_put(np.full(MEGA, i % 2, np.uint8))
            x = step(x, y)
        return int(np.asarray(x)[0])

    with (
        Cluster.up(folder, "--device-memory", "4MiB", hosts=1, devices=1) as cluster,
        Client(cluster.client_address, folder) as client,
    ):
        assert client.call(run) == 150
        assert cluster.status()["islands"][0]["workers"][0]["devices"][0]["peak_bytes"] <= 4 * MEGA


def test_memory_of_a_lost_worker_is_counted_no_more(folder: Path) -> None:
    def make(kept: dict[str, Any]) -> list[int]:
        kept["x"] = jax.device_put(np.zeros(4 << 10, np.uint8), named("a", shape=(2,)))
        kept["y"] = jax.jit(lambda x: x + 1)(kept["x"])
        kept["z"] = kept["x"].addressable_shards[0].data
        jax.block_until_ready(kept["y"])
        return [in_use(0), in_use(1)]

    def now() -> list[int]:
        return [in_use(0), in_use(1)]

    with Cluster.up(folder, hosts=2, devices=1) as cluster, Client(cluster.client_address, folder) as client:
        assert client.call(make) == [4 << 10, 4 << 10]
        cluster.kill_worker(1)
        # The one shard that still can be used is named by itself as well.
        eventually(lambda: client.call(now) == [2 << 10, 0], "only what can be used counts")
        eventually(lambda: [d["bytes"] for d in devices_of(cluster)] == [2 << 10, 0], "the other worker agrees")
