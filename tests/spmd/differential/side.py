"""One side: a process that runs cases one after the other on the devices that its environment gives it.

    python -m spmd.differential.side SEED FOLDER 0,1,2,...

It says `begin N` before case N and `end N` after it. What the case gave is in FOLDER/N.npz: the results as numpy
arrays, and what else there is to compare, or the error, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .cases import Case, family_of, is_wide, make

_ERROR_LINES = 12


def call(case: Case) -> list[jax.Array]:
    """One run of the case's program, and its results."""
    program = case.program
    if program.how == "raw":
        return jax.tree.leaves(program.function(*program.inputs))
    arguments = case.arguments()
    if program.how == "eager":
        return jax.tree.leaves(program.function(*arguments))
    function = case.compiled()
    result = function(*arguments)
    for _ in range(program.steps - 1):
        result = function(result)
    return jax.tree.leaves(result)


def layout(array: jax.Array) -> list[Any]:
    """Which part of the array lies on which device: (number of the device, [start, stop] of each dimension)."""
    numbers = {device: number for number, device in enumerate(jax.devices())}
    parts = array.sharding.devices_indices_map(array.shape)
    return sorted(
        [numbers[device], [list(cut.indices(size)[:2]) for cut, size in zip(index, array.shape, strict=True)]]
        for device, index in parts.items()
    )


def unlike_shard(array: jax.Array, whole: np.ndarray) -> tuple[str, float]:
    """Several devices may have the same part. Says which has something else than `whole`, and by how much at most."""
    which, most = "", 0.0
    for shard in array.addressable_shards:
        data, expected = np.asarray(shard.data), whole[shard.index]
        if data.tobytes() != np.ascontiguousarray(expected).tobytes():
            wide = np.complex128 if np.iscomplexobj(data) else np.float64
            apart = float(np.max(np.abs(data.astype(wide) - expected.astype(wide))))
            if not apart <= most:  # a NaN is worse than any number
                most = apart
                which = (
                    f"the shard {shard.index} on device {jax.devices().index(shard.device)} is another than elsewhere"
                )
    return which, most


def storable(array: np.ndarray) -> np.ndarray:
    """What numpy can write: no bfloat16."""
    return array.astype(np.float32) if array.dtype == jnp.bfloat16 else array


def run(case: Case) -> tuple[list[np.ndarray], dict[str, Any]]:
    """The case's results, and what else is compared."""
    arrays = call(case)
    wholes = [np.asarray(array) for array in arrays]
    again = [np.asarray(array) for array in call(case)]
    facts = [
        {
            "dtype": str(array.dtype),
            "shape": array.shape,
            "layout": layout(array),
            "spec": str(getattr(array.sharding, "spec", "")),
            "unlike": unlike_shard(array, whole),
        }
        for array, whole in zip(arrays, wholes, strict=True)
    ]
    same = [a.tobytes() == b.tobytes() for a, b in zip(wholes, again, strict=True)]
    return wholes, {"results": facts, "repeatable": all(same)}


def main(seed: int, folder: Path, numbers: list[int]) -> None:
    for number in numbers:
        print(f"begin {number}", flush=True)
        arrays: list[np.ndarray] = []
        text = family_of(number)
        try:
            with jax.enable_x64(is_wide(number)):
                case = make(seed, number, jax.devices())
                text = case.text
                explicit = jax.set_mesh(case.mesh) if case.explicit else contextlib.nullcontext()
                with explicit:
                    arrays, facts = run(case)
                facts["tolerance"] = case.tolerance
                facts["inputs"] = sorted({str(np.asarray(x).dtype) for x in case.program.inputs})
        except Exception:
            facts = {"error": "\n".join(traceback.format_exc().splitlines()[-_ERROR_LINES:])}
        facts["text"] = text
        stored = {f"result{i}": storable(array) for i, array in enumerate(arrays)}
        np.savez(folder / f"{number}.npz", facts=np.array(json.dumps(facts)), **stored)
        jax.clear_caches()
        print(f"end {number}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), [int(number) for number in sys.argv[3].split(",")])
