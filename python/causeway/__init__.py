"""Causeway for Python: `JAX_PLATFORMS=causeway python prog.py` runs an ordinary JAX program on a cluster.

A program needs nothing from this package; JAX finds `causeway.jax_plugin` by its entry point. To have a say in what it
gets of the cluster, and to look behind it:

    import causeway
    causeway.connect(weight=2, devices=4, one_island=True)   # before JAX needs a device
    causeway.address()   # "grpc://unix:/tmp/causeway-4711-x/client.sock", or None before JAX has connected
"""

from __future__ import annotations

__all__ = ["address", "connect"]
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
