"""A network of two hosts on one machine: two network namespaces, and a wire that delays packets or loses them.

    with TwoHosts(delay_s=0.005) as hosts:
        subprocess.run([*hosts.a.prefix, "ping", "-c", "1", hosts.b.address])
        hosts.say("cut")       # from now on every packet is lost, and nobody is told
        hosts.say("join")

The namespaces are invisible to the rest of the machine, and go when the context does. The wire is this file run as a
program: it carries packets between a TUN device in each namespace. (A veth pair with tc-netem would do the same; not
every kernel has netem.) It needs root, `ip` and /dev/net/tun: see why_not().
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import fcntl
import itertools
import os
import select
import shutil
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_TUNSETIFF = 0x400454CA
_IFF_TUN, _IFF_NO_PI = 1, 0x1000
_CLONE_NEWNET = 0x40000000
_DEVICE = "wire"
_MTU = 9000
_ANSWER_S = 10
_numbers = itertools.count()


def why_not() -> str:
    """Why this machine cannot have namespaces and a wire; empty if it can."""
    if not shutil.which("ip"):
        return "no `ip` here (apt-get install iproute2)"
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        return "/dev/net/tun is not there, or not for this user"
    name = f"cw-try-{os.getpid()}"
    tried = ip("netns", "add", name, check=False)
    if tried.returncode:
        return f"network namespaces cannot be made: {tried.stderr.strip()}"
    device = ip("-n", name, "tuntap", "add", "dev", _DEVICE, "mode", "tun", check=False)
    ip("netns", "del", name)
    return f"TUN devices cannot be made: {device.stderr.strip()}" if device.returncode else ""


def ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=10, check=check)


@dataclass(frozen=True)
class Host:
    """A namespace, and its address on the wire."""

    namespace: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What makes a command run there; its process keeps its id."""
        return ["ip", "netns", "exec", self.namespace]

    def set_link(self, state: str) -> None:
        """Takes the host's end of the wire `up` or `down`."""
        ip("-n", self.namespace, "link", "set", _DEVICE, state)


class TwoHosts:
    """Two hosts with a wire between them."""

    def __init__(self, delay_s: float) -> None:
        number = f"{os.getpid()}-{next(_numbers)}"
        self.a = Host(f"cw-a-{number}", "10.213.0.1")
        self.b = Host(f"cw-b-{number}", "10.213.0.2")
        self._running = contextlib.ExitStack()
        try:
            for host in (self.a, self.b):
                ip("netns", "add", host.namespace)
                self._running.callback(ip, "netns", "del", host.namespace)
            self._wire = subprocess.Popen(
                [sys.executable, __file__, self.a.namespace, self.b.namespace, str(delay_s)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            self._running.callback(self._end_wire)
            self._answer()
            for host in (self.a, self.b):
                ip("-n", host.namespace, "link", "set", "lo", "up")
                ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", _DEVICE)
                ip("-n", host.namespace, "link", "set", _DEVICE, "mtu", str(_MTU), "up")
        except BaseException:
            self._running.close()
            raise

    def __enter__(self) -> TwoHosts:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def say(self, word: str) -> None:
        """`cut`: lose every packet; `join`: lose none."""
        self._wire.stdin.write(f"{word}\n".encode())
        self._wire.stdin.flush()
        self._answer()

    def _answer(self) -> None:
        ready = select.select([self._wire.stdout], [], [], _ANSWER_S)[0]
        if not ready or os.read(self._wire.stdout.fileno(), 16) != b"ok\n":
            raise AssertionError("the wire does not answer")

    def _end_wire(self) -> None:
        self._wire.stdin.close()
        self._wire.stdout.close()
        try:
            self._wire.wait(_ANSWER_S)
        except subprocess.TimeoutExpired:
            self._wire.kill()
            self._wire.wait()


# ---------------------------------------------------------------- the wire's own process


def open_end(namespace: str) -> int:
    """A TUN device in that namespace, which this thread then is in."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", namespace).open("rb") as file:
        if libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    return end


def carry(ends: tuple[int, int], delay_s: float) -> None:
    """Carries packets between the two ends until stdin is closed."""
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    under_way: collections.deque[tuple[float, int, bytes]] = collections.deque()
    cut = False
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for ready in select.select([0, *ends], [], [], wait)[0]:
            if ready == 0:
                if not (said := os.read(0, 64)):
                    return
                cut = said == b"cut\n"
                under_way.clear()
                os.write(1, b"ok\n")
                continue
            with contextlib.suppress(BlockingIOError):
                packet = os.read(ready, 1 << 16)
                if not cut:
                    under_way.append((time.monotonic() + delay_s, other[ready], packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, end, packet = under_way.popleft()
            with contextlib.suppress(OSError):  # that end is down, or has no room: the packet is lost
                os.write(end, packet)


if __name__ == "__main__":
    both = open_end(sys.argv[1]), open_end(sys.argv[2])
    os.write(1, b"ok\n")
    carry(both, float(sys.argv[3]))
