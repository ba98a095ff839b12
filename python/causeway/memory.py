"""How much memory a device has left: causeway.memory_stats.

The controller counts every array from when it is asked for until its last name goes, so the answer holds for what the
program has done so far, whether or not the devices have come to it. JAX's own Device.memory_stats() cannot ask: its
client's protocol has no such question. src/ifrt/memory_stats.h says how it is put.
"""

from __future__ import annotations

import gc
import json
from typing import Any

import jax
from jax.sharding import SingleDeviceSharding

from causeway.jax_plugin import quiet_client

_OPTION = "causeway_memory_stats"


_any_program = jax.jit(lambda x: x)


def memory_stats(device: jax.Device | None = None) -> dict[str, Any]:
    """See causeway.memory_stats."""
    if device is None:
        device = jax.devices()[0]
    gc.collect()  # arrays in reference cycles are garbage too
    there = jax.ShapeDtypeStruct((), jax.numpy.float32, sharding=SingleDeviceSharding(device))
    try:
        # The client warns of every compilation that fails.
        with quiet_client():
            _any_program.lower(there).compile(compiler_options={_OPTION: True})
    except jax.errors.JaxRuntimeError as error:
        _, found, answer = str(error).partition(f"{_OPTION}:")
        if not found:
            raise
        stats: dict[str, Any] = json.JSONDecoder().raw_decode(answer)[0]
        return stats
    raise RuntimeError(f"{device} is not a device of a Causeway cluster: it has compiled the question")
