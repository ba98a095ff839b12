"""The embedded cluster: `causeway up` as a child of this process, on a unix socket in a folder of its own.

    cluster = EmbeddedCluster.start(Sizes.from_environment())
    cluster.address      # "grpc://unix:/tmp/causeway-4711-x1y2z3/client.sock"

Lifetime: the cluster ends when this process ends in whatever way, because the child's standard input is a pipe that
only this process can write to (`--exit-with-stdin`). So it needs no atexit handler, which would run before those of the
program, and they may want their devices still. PR_SET_PDEATHSIG would do the same, but fires when the *thread* that
started the child ends. A forked child of this process does not own the cluster: it closes its copy of the pipe at once.

The folder has to go with the cluster, also when this process was killed: a shell waits for `causeway up` and removes
it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from causeway.binary import find_binary

START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 5.0
_LOG_TAIL_LINES = 20
_MAX_SOCKET_PATH = 100  # the system's limit is 107 bytes

# $0 is the folder, the rest the command.
_RUN_THEN_REMOVE = '"$@"; status=$?; rm -rf -- "$0"; exit $status'


class ClusterStartError(RuntimeError):
    """The embedded cluster did not start; the message says why, with the end of its log."""


def positive_number(name: str, default: int) -> int:
    """The environment variable `name`, or `default` where it is not set. Raises ClusterStartError."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal() or int(text) < 1:
        raise ClusterStartError(f"{name}={text!r} is not a positive whole number")
    return int(text)


@dataclass(frozen=True)
class Sizes:
    """How large a cluster is."""

    islands: int = 1
    hosts: int = 1  # workers in each island
    devices: int = 4  # of each worker

    @classmethod
    def from_environment(cls) -> Sizes:
        """Reads CAUSEWAY_ISLANDS, CAUSEWAY_HOSTS and CAUSEWAY_DEVICES. Raises ClusterStartError."""
        return cls(
            positive_number("CAUSEWAY_ISLANDS", cls.islands),
            positive_number("CAUSEWAY_HOSTS", cls.hosts),
            positive_number("CAUSEWAY_DEVICES", cls.devices),
        )


class EmbeddedCluster:
    """A running cluster. Made by start()."""

    def __init__(self, process: subprocess.Popen[bytes], lifeline: int, folder: Path, address: str) -> None:
        self._process = process
        self._folder = folder
        self._lifeline = lifeline
        self._owner = os.getpid()
        self.address = address
        os.register_at_fork(after_in_child=self._disown)

    @classmethod
    def start(cls, sizes: Sizes, timeout_s: float = START_TIMEOUT_S) -> EmbeddedCluster:
        """Starts a cluster and waits until all of its devices are there.

        Raises ClusterStartError, or BinaryNotFound; nothing is left behind then but a log in CAUSEWAY_LOG_DIR.
        """
        binary = find_binary()
        folder = _private_folder()
        log_folder = _log_folder(folder)
        log = log_folder / "up.log"
        ready_read, ready_write = os.pipe()
        life_read, life_write = os.pipe()
        command = [
            *("/bin/sh", "-c", _RUN_THEN_REMOVE, str(folder), str(binary), "up"),
            *("--islands", str(sizes.islands), "--hosts", str(sizes.hosts), "--devices", str(sizes.devices)),
            *("--client-address", f"unix:{folder / 'client.sock'}", "--dir", str(log_folder)),
            *("--exit-with-stdin", "--ready-fd", str(ready_write), "--timeout", str(timeout_s)),
        ]
        with log.open("w+b") as output:
            process = subprocess.Popen(
                command,
                stdin=life_read,
                stdout=output,
                stderr=output,
                env=_environment(),
                pass_fds=(ready_write,),
                start_new_session=True,  # Ctrl-C is for the program, which may need its devices while it ends
            )
            os.close(life_read)
            os.close(ready_write)
            try:
                # `up` knows better what it waits for, so it is first to give up.
                address = _wait_until_ready(process, ready_read, timeout_s + _STOP_TIMEOUT_S)
            except BaseException as error:
                _end(process, life_write, folder)
                hint = "" if log_folder != folder else "\n(CAUSEWAY_LOG_DIR=DIR keeps all of its logs)"
                if isinstance(error, ClusterStartError):
                    raise ClusterStartError(f"{error}; {_tail(output)}{hint}") from None
                raise
            finally:
                os.close(ready_read)
        return cls(process, life_write, folder, address)

    def running(self) -> bool:
        """Whether this process has the cluster, and it has not ended."""
        return os.getpid() == self._owner and self._process.poll() is None

    def wait_until_reachable(self, timeout_s: float) -> bool:
        """Waits until its controller listens. False: the cluster has ended, or it was not there in time."""
        deadline = time.monotonic() + timeout_s
        while self.running() and time.monotonic() < deadline:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(self.address.removeprefix("grpc://unix:"))
                return True
            time.sleep(0.05)
        return False

    def stop(self) -> None:
        """Stops the cluster now. Does nothing in a forked child, or the second time."""
        if self.running():
            _end(self._process, self._lifeline, self._folder)
            self._lifeline = -1

    def _disown(self) -> None:
        """In a forked child: the cluster belongs to the parent."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        self._process.returncode = 0  # else Popen would wait for a child that is not this process's


def client_url(address: str) -> str:
    """What the stock client takes for `address`: HOST:PORT, unix:PATH, or either behind grpc://.

    Raises ValueError for anything else.
    """
    bare = address.removeprefix("grpc://")
    if bare.startswith("unix:") and len(bare) > len("unix:"):
        return f"grpc://{bare}"
    host, colon, port = bare.rpartition(":")
    if colon and host and "/" not in bare and port.isdecimal() and 0 < int(port) < 65536:
        return f"grpc://{bare}"
    raise ValueError(f"{address!r} is no address of a cluster; write HOST:PORT, grpc://HOST:PORT or unix:PATH")


def _private_folder() -> Path:
    """A folder for this process's cluster that nobody else can enter (mode 0700)."""
    prefix = f"causeway-{os.getpid()}-"
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    if len(os.fsencode(folder / "client.sock")) > _MAX_SOCKET_PATH:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    return folder


def _log_folder(private: Path) -> Path:
    """Where the logs of the cluster go: below CAUSEWAY_LOG_DIR, where they stay, or into the private folder."""
    if not (named := os.environ.get("CAUSEWAY_LOG_DIR")):
        return private
    # The cluster's sockets lie beside its logs, and a socket's path has to be short: a link makes it so.
    link = private / "logs"
    try:
        folder = Path(named).resolve() / private.name
        folder.mkdir(mode=0o700, parents=True)
        link.symlink_to(folder)
    except OSError as error:
        shutil.rmtree(private, ignore_errors=True)
        raise ClusterStartError(f"CAUSEWAY_LOG_DIR={named} cannot be written to: {error.strerror}") from error
    return link


def _environment() -> dict[str, str]:
    """Ours, with the folders of this Python's packages: the PJRT plugin may be one of them."""
    folders = [os.environ.get("CAUSEWAY_PLUGIN_DIR", ""), *(path for path in sys.path if Path(path).is_dir())]
    return {**os.environ, "CAUSEWAY_PLUGIN_DIR": os.pathsep.join(filter(None, folders))}


def _wait_until_ready(process: subprocess.Popen[bytes], ready_fd: int, timeout_s: float) -> str:
    """The client's address, from the line that `up` writes to `ready_fd` once it is ready."""
    deadline = time.monotonic() + timeout_s
    text = b""
    while not text.endswith(b"\n"):
        readable, _, _ = select.select([ready_fd], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise ClusterStartError(
                f"the embedded cluster was not ready after {timeout_s:g} s (CAUSEWAY_START_TIMEOUT allows more)"
            )
        chunk = os.read(ready_fd, 4096)
        if not chunk:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT_S)
            raise ClusterStartError(f"the embedded cluster ended while it started (exit status {process.returncode})")
        text += chunk
    try:
        return client_url(json.loads(text)["client_address"])
    except (ValueError, KeyError, TypeError):
        raise ClusterStartError(f"the causeway binary wrote {text!r} for its address; build it again") from None


def _tail(log: IO[bytes]) -> str:
    log.seek(0)
    lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(["the end of its log:", *lines[-_LOG_TAIL_LINES:]]) if lines else "its log is empty"


def _end(process: subprocess.Popen[bytes], lifeline: int, folder: Path) -> None:
    """Ends `up` and what it started: the kind way first."""
    os.close(lifeline)
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        # It leads a session of its own, so its group is it and its children, and nothing else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
