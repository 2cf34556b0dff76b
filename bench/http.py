"""An HTTP client that stays out of the way: requests made of bytes beforehand, a blocking socket kept open, no library in between."""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

CHUNK = 1024 * 1024
_TIMEOUT_S = 30.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)


class BadReply(Exception):
    """An answer that is not the 200 with a length that everything measured here gives."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go, and what precedes each: base path and token, both "" for the floor."""

    port: int
    base: str = ""
    token: str = ""

    def request(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
        return self.head(method, path, len(body), kind) + body

    def head(self, method: str, path: str, length: int, kind: str = "application/json") -> bytes:
        lines = [f"{method} {self.base}{path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"Content-Length: {length}"]
        lines += [f"Content-Type: {kind}"] if length else []
        lines += [f"Authorization: Bearer {self.token}"] if self.token else []
        return "\r\n".join([*lines, "", ""]).encode()


class Connection:
    """One kept-alive connection. Not for several calls at a time."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.sock = socket.create_connection(("127.0.0.1", endpoint.port), _TIMEOUT_S)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def call(self, request: bytes) -> bytes:
        """Send a whole request and return the reply's body."""
        self.sock.sendall(request)
        while (body := self.receive()) is None:
            pass
        return body

    def timed(self, request: bytes) -> tuple[float, bytes]:
        """Milliseconds from the first byte sent to the last one received, and the body."""
        begin = time.perf_counter()
        body = self.call(request)
        return (time.perf_counter() - begin) * 1000, body

    def receive(self) -> bytes | None:
        """Read once; the body if the reply is complete now. Raises BadReply."""
        data = self.sock.recv(65_536)
        if not data:
            raise BadReply("the server closed the connection")
        self._pending += data
        end = self._pending.find(b"\r\n\r\n") + 4
        if end < 4:
            return None
        length = _length(self._pending[:end], self._pending)
        if len(self._pending) < end + length:
            return None
        body, self._pending = self._pending[end : end + length], self._pending[end + length :]
        return body

    def send_body(self, head: bytes, *parts: bytes | memoryview) -> bytes:
        """A request whose body is large; returns the reply's body."""
        self.sock.sendall(head)
        for part in parts:
            self.sock.sendall(part)
        while (body := self.receive()) is None:
            pass
        return body

    def drain_body(self, request: bytes, buffer: bytearray) -> int:
        """Send a request, read the reply's body into nowhere, return its length."""
        self.sock.sendall(request)
        got = b""
        while b"\r\n\r\n" not in got:
            got += self.sock.recv(65_536)
        head, _, begun = got.partition(b"\r\n\r\n")
        length = _length(head + b"\r\n\r\n", got)
        left = length - len(begun)
        while left > 0:
            count = self.sock.recv_into(buffer)
            if count == 0:
                raise BadReply("the reply ended before its length")
            left -= count
        return length


def rate(endpoint: Endpoint, requests: Sequence[bytes], seconds: float) -> float:
    """Replies per second with one connection for each request, each sent again as soon as it is answered."""
    count = 0
    connections = [Connection(endpoint) for _ in requests]
    with selectors.DefaultSelector() as selector:
        try:
            for connection, request in zip(connections, requests, strict=True):
                selector.register(connection.sock, selectors.EVENT_READ, (connection, request))
                connection.sock.sendall(request)
            begin = time.perf_counter()
            deadline = begin + seconds
            while (now := time.perf_counter()) < deadline:
                count += _turn(selector)
            for connection, _ in zip(connections, requests, strict=True):
                while (
                    connection.receive() is None
                ):  # the one under way, so that the next round begins with nothing running
                    pass
        finally:
            for connection in connections:
                connection.sock.close()
    return count / (now - begin)


def _turn(selector: selectors.BaseSelector) -> int:
    """Answer whatever came with the next request; how many replies were complete."""
    count = 0
    for key, _ in selector.select(_TIMEOUT_S):
        connection, request = key.data
        if connection.receive() is not None:
            count += 1
            connection.sock.sendall(request)
    return count


def _length(head: bytes, reply: bytes) -> int:
    if head.startswith(b"HTTP/1.1 204 "):
        return 0
    match = _LENGTH.search(head)
    if match is None or not head.startswith(b"HTTP/1.1 20"):
        raise BadReply(reply[:600].decode("utf-8", "replace"))
    return int(match[1])
