"""What a stock client asks for, counted on the wire: a relay between it and the controller that reads along.

    with RequestLog(cluster.client_address, folder) as log:
        subprocess.run([sys.executable, "program.py"], env={..., "CAUSEWAY_ADDRESS": log.address})
    log.kinds()        # ["init", "compile", "make_arrays_from_host_buffer_shards", ..., "copy_to_host_buffer"]

Neither side can tell that it is there. It reads the client's half of HTTP/2: gRPC does not compress messages unless it
is told to, and which request a message is can be seen from the protocol that jaxlib carries. One thread for each
direction of each connection; they end with the context.
"""

from __future__ import annotations

import contextlib
import functools
import socket
import struct
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pool, message, message_factory

import extract_descriptors

# The client's thread stands still until these are answered, and their answers have to wait until devices have computed.
WAITS_FOR_DEVICES = frozenset(
    {
        "check_future",
        "check_value_ready",
        "copy_to_host_buffer",
        "is_array_deleted",
        "loaded_executable_fetch_execute_result",
    }
)

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _PADDED = 0x0, 0x8


@functools.cache
def request_class() -> type[Any]:
    """IfrtRequest, as jaxlib has it."""
    pool = descriptor_pool.DescriptorPool()
    for file in extract_descriptors.extract(extract_descriptors.jaxlib_library()).file:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("xla.ifrt.proxy.IfrtRequest"))


class ClientHalf:
    """What one connection's client sends: bytes in, requests out."""

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._greeted = False
        self._messages: defaultdict[int, bytearray] = defaultdict(bytearray)
        self._sessions: dict[int, bool] = {}  # of each stream, whether it is the one with requests

    def requests(self, data: bytes) -> list[Any]:
        """The requests that end in `data`."""
        self._bytes += data
        if not self._greeted:
            if len(self._bytes) < len(_PREFACE):
                return []
            assert self._bytes.startswith(_PREFACE), "a client that speaks HTTP/2 without TLS"
            del self._bytes[: len(_PREFACE)]
            self._greeted = True
        found = []
        while len(self._bytes) >= 9:
            length = int.from_bytes(self._bytes[:3], "big")
            if len(self._bytes) < 9 + length:
                break
            kind, flags, stream = struct.unpack("!BBI", self._bytes[3:9])
            body = bytes(self._bytes[9 : 9 + length])
            del self._bytes[: 9 + length]
            if kind == _DATA:
                if flags & _PADDED:
                    body = body[1 : len(body) - body[0]]
                found += self._on_data(stream, body)
        return found

    def _on_data(self, stream: int, body: bytes) -> list[Any]:
        pending = self._messages[stream]
        pending += body
        found = []
        while len(pending) >= 5:
            compressed, length = struct.unpack("!BI", pending[:5])
            if len(pending) < 5 + length:
                break
            assert not compressed, "gRPC messages as they are"
            text = bytes(pending[5 : 5 + length])
            del pending[: 5 + length]
            if self._sessions.get(stream, True) and (request := self._parsed(stream, text)) is not None:
                found.append(request)
        return found

    def _parsed(self, stream: int, text: bytes) -> Any | None:
        """The request, if the stream is a session's: those begin with `init_request`, other calls' messages do not."""
        request = request_class()()
        first = stream not in self._sessions
        try:
            request.ParseFromString(text)
        except message.DecodeError:
            assert first, "a session's requests can be read"
        if first:
            self._sessions[stream] = (
                request.WhichOneof("request") == "init_request" and request.request_metadata.op_id > 0
            )
        return request if self._sessions[stream] else None


class RequestLog:
    """A relay that listens on a socket in `folder`."""

    def __init__(self, client_address: str, folder: Path) -> None:
        self._target = client_address.removeprefix("grpc://").removeprefix("unix:")
        path = folder / "log.sock"
        self.address = f"unix:{path}"
        self.requests: list[Any] = []  # all of them, as they came
        self.problems: list[BaseException] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ends: list[socket.socket] = [self._listener]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> RequestLog:
        return self

    def __exit__(self, *_: object) -> None:
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in self._ends:
            end.close()
        assert not self.problems, self.problems

    def kinds(self) -> list[str]:
        """The name of each request, without its ending."""
        return [request.WhichOneof("request").removesuffix("_request") for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            self._ends += [client, server]
            for source, sink, half in ((client, server, ClientHalf()), (server, client, None)):
                self._threads.append(threading.Thread(target=self._carry, args=(source, sink, half)))
                self._threads[-1].start()

    def _carry(self, source: socket.socket, sink: socket.socket, half: ClientHalf | None) -> None:
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
                if half is not None:
                    self.requests += half.requests(data)
        except (OSError, ValueError):
            pass  # the other side has gone
        except BaseException as problem:
            self.problems.append(problem)
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
