#!/usr/bin/env python3
"""Two programs on two groups of devices, arrays moving between them, nothing waited for in the loop.

    JAX_PLATFORMS=causeway CAUSEWAY_HOSTS=2 CAUSEWAY_DEVICES=2 python examples/mpmd.py
    JAX_PLATFORMS=cpu XLA_FLAGS=--xla_force_host_platform_device_count=4 python examples/mpmd.py

The first half of the devices runs stage one of a network, the second half stage two; on a cluster of two workers those
are different processes. The Python loop only dispatches: while stage two has micro-batch 7, stage one may have 8 and
Python may already be at 20. The result is checked against NumPy.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make_weights(random: np.random.Generator, layers: int, width: int) -> list[np.ndarray]:
    return [(random.standard_normal((width, width)) / np.sqrt(width)).astype(np.float32) for _ in range(layers)]


@jax.jit
def stage(weights: list[jax.Array], x: jax.Array) -> jax.Array:
    for weight in weights:
        x = jnp.tanh(x @ weight)
    return x


def expected(weights: list[np.ndarray], x: np.ndarray) -> np.ndarray:
    for weight in weights:
        x = np.tanh(x @ weight)
    return x


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--micro-batches", type=int, default=64)
    parser.add_argument("--rows", type=int, default=64, help="rows of a micro-batch")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4, help="layers of each stage")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


def main() -> None:
    options = parse_arguments()
    devices = jax.devices()
    half = len(devices) // 2
    if not half or options.rows % half:
        sys.exit(f"mpmd: wants two devices or more, and --rows divisible by half of them; there are {len(devices)}")
    meshes = [Mesh(devices[:half], "rows"), Mesh(devices[half : 2 * half], "rows")]
    everywhere = [NamedSharding(mesh, P()) for mesh in meshes]
    by_rows = [NamedSharding(mesh, P("rows")) for mesh in meshes]
    print(f"stage one on {devices[:half]}\nstage two on {devices[half : 2 * half]}")

    random = np.random.default_rng(0)
    host_weights = [make_weights(random, options.layers, options.width) for _ in meshes]
    weights = [jax.device_put(part, sharding) for part, sharding in zip(host_weights, everywhere, strict=True)]
    host_inputs = random.standard_normal((options.micro_batches, options.rows, options.width)).astype(np.float32)
    inputs = [jax.device_put(x, by_rows[0]) for x in host_inputs]

    def pipeline(micro_batches: list[jax.Array]) -> list[jax.Array]:
        results = []
        for x in micro_batches:
            hidden = stage(weights[0], x)
            hidden = jax.device_put(hidden, by_rows[1])
            results.append(stage(weights[1], hidden))
        return results

    jax.block_until_ready(pipeline(inputs[:1]))  # compiles
    start = time.perf_counter()
    results = pipeline(inputs)
    dispatched_s = time.perf_counter() - start
    jax.block_until_ready(results)
    total_s = time.perf_counter() - start
    print(
        f"{options.micro_batches} micro-batches: dispatched in {dispatched_s * 1e3:.1f} ms, "
        f"done after {total_s * 1e3:.1f} ms, {options.micro_batches / total_s:,.0f} a second"
    )

    wanted = expected(host_weights[0] + host_weights[1], host_inputs.reshape(-1, options.width))
    error = float(np.max(np.abs(np.concatenate([np.asarray(x) for x in results]) - wanted)))
    matches = error < 1e-4
    print(f"largest difference from NumPy: {error:.2e}, {'as it should be' if matches else 'TOO LARGE'}")
    if options.json:
        figures = {"matches": matches, "error": error, "dispatched_s": dispatched_s, "total_s": total_s}
        options.json.write_text(json.dumps(figures))
    sys.exit(0 if matches else 1)


if __name__ == "__main__":
    main()
