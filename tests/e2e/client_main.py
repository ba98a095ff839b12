"""The process behind harness.Client: runs the functions that it is sent, one after the other."""

from __future__ import annotations

import inspect
import os
import pickle
import struct
import sys
import traceback
from typing import Any, BinaryIO


def run(message: bytes, kept: dict[str, Any]) -> bytes:
    """Runs one pickled call; returns its pickled outcome: (True, value) or (False, traceback)."""
    try:
        function, arguments = pickle.loads(message)
        more = {"kept": kept} if "kept" in inspect.signature(function).parameters else {}
        return pickle.dumps((True, function(*arguments, **more)))
    except BaseException:
        return pickle.dumps((False, traceback.format_exc()))


def serve(commands: BinaryIO, replies: BinaryIO) -> None:
    kept: dict[str, Any] = {}
    while header := commands.read(4):
        reply = run(commands.read(*struct.unpack("!I", header)), kept)
        replies.write(struct.pack("!I", len(reply)) + reply)


if __name__ == "__main__":
    serve(os.fdopen(int(sys.argv[1]), "rb"), os.fdopen(int(sys.argv[2]), "wb", buffering=0))
