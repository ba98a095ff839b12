"""Finds the `causeway` binary that belongs to this package."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


class BinaryNotFound(RuntimeError):
    """There is no `causeway` binary to run; the message says what to do."""


def find_binary() -> Path:
    """The binary: $CAUSEWAY_BINARY, else the package's own, else the checkout's build/release, else the one on PATH.

    Raises BinaryNotFound.
    """
    if named := os.environ.get("CAUSEWAY_BINARY"):
        if not os.access(named, os.X_OK) or Path(named).is_dir():
            raise BinaryNotFound(f"CAUSEWAY_BINARY={named} is no program that can be run; correct or unset it")
        return Path(named)
    places = [_PACKAGE / "bin" / "causeway", _PACKAGE.parent.parent / "build" / "release" / "causeway"]
    for place in places:
        if os.access(place, os.X_OK):
            return place
    # The console script of this package has the same name and would start itself for ever.
    on_path = shutil.which("causeway")
    if on_path and Path(on_path).read_bytes()[:2] != b"#!":
        return Path(on_path)
    raise BinaryNotFound(
        "the causeway binary is not built: run `make build` in the checkout, or set CAUSEWAY_BINARY to it. "
        f"Looked at {', '.join(map(str, places))} and PATH"
    )


def main() -> None:
    """The `causeway` command: becomes the binary."""
    try:
        binary = find_binary()
    except BinaryNotFound as error:
        sys.exit(f"causeway: {error}")
    os.execv(binary, ["causeway", *sys.argv[1:]])
