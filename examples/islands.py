"""Which devices make a group: islands where the devices have any, equal parts of them where they do not.

    meshes = island_meshes(4)           # one group of devices for each stage
    meshes = island_meshes(4, model=2)  # each (data, model), two devices sharing every layer

All groups have the same shape. So what is split over one of them fits on another shard by shard, and `jax.device_put`
between them only copies: with another number of shards JAX would fetch the array and send it again.
"""

from __future__ import annotations

import sys
from collections import defaultdict

import jax
import numpy as np
from jax.sharding import Mesh


def island_count() -> int:
    """How many islands the devices are in; 1 where they do not say."""
    return len({getattr(device, "island", 0) for device in jax.devices()})


def device_groups(groups: int) -> list[list[jax.Device]]:
    """The devices in `groups` equal parts; no part has devices of two islands unless there are fewer parts."""
    if groups < 1:
        sys.exit(f"{groups} groups of devices cannot be had")
    islands = defaultdict(list)
    for device in jax.devices():
        islands[getattr(device, "island", 0)].append(device)
    devices = [device for island in sorted(islands) for device in islands[island]]
    size = len(devices) // groups
    smallest, largest = (f(len(island) for island in islands.values()) for f in (min, max))
    if size == 0 or len(devices) % groups or smallest != largest or max(size, largest) % min(size, largest):
        sys.exit(f"{len(devices)} devices in {len(islands)} islands cannot be cut into {groups} equal groups")
    return [devices[start : start + size] for start in range(0, len(devices), size)]


def island_meshes(groups: int, model: int = 1) -> list[Mesh]:
    """A mesh (data, model) over each of `groups` parts of the devices."""
    parts = device_groups(groups)
    if model < 1 or len(parts[0]) % model:
        sys.exit(f"groups of {len(parts[0])} devices cannot be split by {model} (--model-parallel)")
    shape = len(parts[0]) // model, model
    return [Mesh(np.array(part).reshape(shape), ("data", "model")) for part in parts]


def describe(name: str, meshes: list[Mesh]) -> str:
    """A line for each mesh, for people."""
    return "\n".join(
        f"{name} {number}: {', '.join(str(device) for device in mesh.devices.flat)}"
        for number, mesh in enumerate(meshes)
    )
