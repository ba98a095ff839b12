"""Causeway for Python: `JAX_PLATFORMS=causeway python prog.py` runs an ordinary JAX program on a cluster.

A program needs nothing from this package; JAX finds `causeway.jax_plugin` by its entry point. To look behind it:

    import causeway
    causeway.address()   # "grpc://unix:/tmp/causeway-4711-x/client.sock", or None before JAX has connected
    causeway.memory_stats(jax.devices()[0])["bytes_in_use"]
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jax

__all__ = ["address", "memory_stats"]
__version__ = "0.1.0"


def address() -> str | None:
    """The address of the cluster that this process is connected to; None before JAX has connected."""
    # Here, because the `causeway` command imports this package too and must not wait for JAX.
    from causeway import jax_plugin

    return jax_plugin.address()


def memory_stats(device: jax.Device | None = None) -> dict[str, Any]:
    """What arrays take on `device` (default: the first), in bytes, exact, as of what this program has done so far.

    bytes_in_use: of all sessions, in the device's own memory; peak_bytes_in_use: the most that this was;
    bytes_limit: what there is, 0 where there is no limit; session_bytes_in_use: of this session;
    bytes_in_use_by_session: by "NUMBER NAME"; other_memories_bytes_in_use: in memories such as pinned_host.
    Temporary memory of running programs is in none of them.
    """
    from causeway import memory

    return memory.memory_stats(device)
