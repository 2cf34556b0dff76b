"""Name service for sandboxes with raw egress: what asks on a sandbox's own 127.0.0.1:53 is asked of the host's resolvers.

Questions are passed on as they came, under a number of our own and from a port of their own (RFC 5452), and only if they are what a
program's resolver asks: one question of class IN, no zone transfer. An answer has to repeat number and question. What comes from the
sandbox is bounded in size, and what is under way for it in number and time. What a name resolves to is not judged here: an address
that nobody may reach is refused where it is connected to.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

MAX_AT_ONCE = 64  # of one sandbox
MAX_CONNECTIONS = 16
TRY_S, IDLE_S = 3.0, 10.0
_PORT = 53
_HEAD = 12
_MAX_UDP = 4096
_RESOLV_CONF = Path("/etc/resolv.conf")
_IN, _TRANSFERS = 1, (251, 252)  # IXFR, AXFR
_FORMAT_ERROR, _SERVER_FAILURE, _REFUSED = 1, 2, 5
_IS_ANSWER, _RECURSION = 0x8000, 0x0180


# (resolver, query, its number, its question) → a reply that fits both
Ask = Callable[[str, bytes, bytes, bytes], Awaitable[bytes]]


class Forwarder:
    """Serves one sandbox."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections = 0

    async def serve(self, udp: socket.socket, tcp: socket.socket) -> None:
        """Begin to serve; takes both sockets over."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self._received), sock=udp)
        self._tcp = await asyncio.start_server(self._accepted, sock=tcp)

    async def close(self) -> None:
        """Nothing of the sandbox's network is held when this returns."""
        if self._udp is not None:
            self._udp.abort()
        if self._tcp is not None:
            self._tcp.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _received(self, query: bytes, sender: tuple[str, int]) -> None:
        if len(self._tasks) >= MAX_AT_ONCE or len(query) > _MAX_UDP:
            return  # dropped, as a network would

        async def answer() -> None:
            reply = await _answer(query, _ask_udp)
            if reply and self._udp is not None and not self._udp.is_closing():
                self._udp.sendto(reply, sender)

        self._begin(asyncio.create_task(answer()))

    def _begin(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs us in one
        self._begin(task)
        self._connections += 1
        try:
            if self._connections <= MAX_CONNECTIONS:
                with contextlib.suppress(OSError, EOFError, TimeoutError):
                    await _converse(reader, writer)
        finally:
            self._connections -= 1
            writer.transport.abort()


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._received(data, addr)


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Questions of one connection, one after the other (RFC 7766 leaves it to us), until it is idle.

    Raises OSError, EOFError or TimeoutError.
    """
    while True:
        async with asyncio.timeout(IDLE_S):
            query = await _read_message(reader)
        reply = await _answer(query, _ask_tcp)
        if not reply:
            return
        async with asyncio.timeout(IDLE_S):
            writer.write(len(reply).to_bytes(2) + reply)
            await writer.drain()


async def _answer(query: bytes, ask: Ask) -> bytes:
    """The reply to a query; an error as reply where there is no other; nothing for what is no query at all."""
    if len(query) < _HEAD:
        return b""
    flags, questions = struct.unpack_from("!HH", query, 2)
    if flags & _IS_ANSWER:
        return b""
    question = _question(query)
    if question is None or questions != 1 or flags & 0x7800:
        return _error(query, b"", _FORMAT_ERROR)
    kind, family = struct.unpack("!HH", question[-4:])
    if family != _IN or kind in _TRANSFERS:
        return _error(query, question, _REFUSED)
    for resolver in await asyncio.to_thread(_resolvers):
        own = secrets.token_bytes(2)
        try:
            async with asyncio.timeout(TRY_S):
                reply = await ask(resolver, own + query[2:], own, question)
        except (OSError, EOFError, TimeoutError):
            continue
        return query[:2] + reply[2:]
    return _error(query, question, _SERVER_FAILURE)


def _question(query: bytes) -> bytes | None:
    """The first question as it stands, name, type and class; None where it does not end within the message or is compressed."""
    end = _HEAD
    while end < len(query) and query[end]:
        if query[end] > 63:
            return None
        end += 1 + query[end]
    end += 5
    return query[_HEAD:end] if end <= len(query) else None


def _error(query: bytes, question: bytes, code: int) -> bytes:
    (flags,) = struct.unpack_from("!H", query, 2)
    head = struct.pack("!HHHHH", _IS_ANSWER | (flags & _RECURSION) | code, bool(question), 0, 0, 0)
    return query[:2] + head + question


def _resolvers() -> list[str]:
    """The host's, read each time: they change with its network. Without any, its own, as resolv.conf(5) has it."""
    try:
        lines = _RESOLV_CONF.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    words = [line.split() for line in lines]
    found = [each[1] for each in words if len(each) > 1 and each[0] == "nameserver" and _is_address(each[1])]
    return found[:3] or ["127.0.0.1"]


def _is_address(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    return False


def _is_reply(reply: bytes, own: bytes, question: bytes) -> bool:
    return len(reply) >= _HEAD and reply[:2] == own and bool(reply[2] & 0x80) and reply[_HEAD:].startswith(question)


async def _ask_udp(resolver: str, query: bytes, own: bytes, question: bytes) -> bytes:
    """Raises OSError; waits for ever for a reply that fits."""
    loop = asyncio.get_running_loop()
    reply: asyncio.Future[bytes] = loop.create_future()

    class Reply(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, _addr: tuple[str, int]) -> None:
            if _is_reply(data, own, question) and not reply.done():
                reply.set_result(data)

        def error_received(self, error: Exception) -> None:
            if not reply.done():
                reply.set_exception(error)

    transport, _ = await loop.create_datagram_endpoint(Reply, remote_addr=(resolver, _PORT))
    try:
        transport.sendto(query)
        return await reply
    finally:
        transport.abort()


async def _ask_tcp(resolver: str, query: bytes, own: bytes, question: bytes) -> bytes:
    """Raises OSError or EOFError."""
    reader, writer = await asyncio.open_connection(resolver, _PORT)
    try:
        writer.write(len(query).to_bytes(2) + query)
        reply = await _read_message(reader)
        if not _is_reply(reply, own, question):
            raise EOFError
        return reply
    finally:
        writer.transport.abort()


async def _read_message(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(int.from_bytes(await reader.readexactly(2)))
