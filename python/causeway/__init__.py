"""Causeway for Python: `JAX_PLATFORMS=causeway python prog.py` runs an ordinary JAX program on a cluster.

A program needs nothing from this package; JAX finds `causeway.jax_plugin` by its entry point. To have a say in what it
gets of the cluster, and to look behind it:

    import causeway
    causeway.connect(weight=2, devices=4, one_island=True)   # before JAX needs a device
    causeway.address()   # "grpc://unix:/tmp/causeway-4711-x/client.sock", or None before JAX has connected
    causeway.memory_stats(jax.devices()[0])["bytes_in_use"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax

__all__ = ["address", "connect", "memory_stats"]
__version__ = "0.1.0"


def address() -> str | None:
    """The address of the cluster that this process is connected to; None before JAX has connected."""
    # Here, because the `causeway` command imports this package too and must not wait for JAX.
    from causeway import jax_plugin

    return jax_plugin.address()


def connect(
    *,
    name: str | None = None,
    weight: float | None = None,
    devices: int | None = None,
    one_island: bool | None = None,
    platform: str | None = None,
    memory: int | str | None = None,
    cap: float | None = None,
    exclusive: bool | None = None,
) -> None:
    """Says what this program wishes of the cluster, for when JAX connects to it.

    Call it before anything that needs a device; JAX connects when the first thing does, and that raises RuntimeError
    where the cluster cannot give what is wished, with what is free and who holds the rest. What is left out here comes
    from the environment (CAUSEWAY_SESSION_WEIGHT and so on), or is as it would be without. Called again before JAX has
    connected, it replaces all that the earlier call said. The wishes stay for later sessions of this process.

    name        what `causeway status` calls the session; the program's file otherwise
    weight      of its share of the devices' time beside others', 0.001 to 1000; 1 otherwise
    devices     how many; jax.devices() has no others. All that nobody holds exclusively otherwise
    one_island  all of them in one island
    platform    only such devices: "cpu", "cuda", "tpu"
    memory      what its arrays may take on each device: bytes, or text such as "16GiB"
    cap         the largest share of a device's time that it gets, 0.001 to 1, even if nobody else wants it
    exclusive   its devices are given to nobody else, and none is taken that somebody has

    Raises ValueError for a value out of range, and RuntimeError where JAX has connected already.
    """
    from causeway import jax_plugin

    jax_plugin.connect(
        name=name,
        weight=weight,
        devices=devices,
        one_island=one_island,
        platform=platform,
        memory=memory,
        cap=cap,
        exclusive=exclusive,
    )


def memory_stats(device: jax.Device | None = None) -> dict[str, Any]:
    """What arrays take on `device` (default: the first), in bytes, exact, as of what this program has done so far.

    bytes_in_use: of all sessions, in the device's own memory; peak_bytes_in_use: the most that this was;
    bytes_limit: what there is, 0 where there is no limit; session_bytes_in_use: of this session;
    bytes_in_use_by_session: by "NUMBER NAME"; other_memories_bytes_in_use: in memories such as pinned_host.
    Temporary memory of running programs is in none of them.
    """
    from causeway import memory

    return memory.memory_stats(device)
