"""Random JAX programs from a seed, run on a cluster and on stock JAX, and compared."""
