"""Causeway for Python: `JAX_PLATFORMS=causeway python prog.py` runs an ordinary JAX program on a cluster.

A program needs nothing from this package; JAX finds `causeway.jax_plugin` by its entry point. To look behind it:

    import causeway
    causeway.address()   # "grpc://unix:/tmp/causeway-4711-x/client.sock", or None before JAX has connected
"""

from __future__ import annotations

__all__ = ["address"]
__version__ = "0.1.0"


def address() -> str | None:
    """The address of the cluster that this process is connected to; None before JAX has connected."""
    # Here, because the `causeway` command imports this package too and must not wait for JAX.
    from causeway import jax_plugin

    return jax_plugin.address()
