"""The custom calls that stock JAX makes on CPU, and those that the worker has kernels for (src/pjrt/lapack)."""

from __future__ import annotations

import re
from pathlib import Path

import jaxlib.cpu_sparse
import jaxlib.lapack

_KERNELS = Path(__file__).resolve().parent.parent / "src/pjrt/lapack"


def test_the_pinned_jaxlib_has_no_cpu_target_that_the_worker_lacks() -> None:
    sources = "".join(path.read_text() for path in _KERNELS.glob("*.cc") if not path.stem.endswith("_test"))
    ours = set(re.findall(r'\{"(\w+_ffi)", Handler<', sources))
    for module in (jaxlib.lapack, jaxlib.cpu_sparse):
        theirs = {name for name, _, _ in module.registrations()["cpu"]}
        assert theirs - ours == set(), f"{module.__name__} registers targets without a kernel"
        ours -= theirs
    assert ours == set(), "kernels that no jaxlib program calls"
