"""The other way in: `pathwaysutils` with JAX_PLATFORMS=proxy, as programs written for the closed system use it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from harness import Client, Cluster
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def test_pathwaysutils_reaches_the_same_cluster(two_workers: Cluster) -> None:
    environment = {
        "JAX_PLATFORMS": "proxy",
        "JAX_BACKEND_TARGET": f"grpc://{two_workers.client_address}",
        "IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS": "true",
        "PATHWAYS_PROXY_CONNECTION_TIMEOUT_SECS": "20",
    }
    with Client(two_workers.client_address, two_workers.folder, "pathways", **environment) as client:

        @client.run
        def _() -> None:
            import pathwaysutils
            from pathwaysutils import reshard

            pathwaysutils.initialize()
            assert len(jax.devices()) == 4
            assert float(jax.jit(jnp.sum)(jnp.arange(5.0))) == 10
            meshes = [jax.sharding.Mesh(jax.devices()[i : i + 2], "x") for i in (0, 2)]
            x = jax.device_put(np.arange(8.0), NamedSharding(meshes[0], P("x")))
            y = reshard.reshard(x, NamedSharding(meshes[1], P()))
            assert y.sharding.device_set == set(jax.devices()[2:])
            np.testing.assert_array_equal(np.asarray(y), np.arange(8.0))
