"""Requests with descriptors over a SEQPACKET socket, from asyncio: how the host talks to the spawner, init and
templates.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from carrel.errors import SandboxStartFailed
from carrel.guest.template import MAX_DESCRIPTORS, MAX_MESSAGE

log = logging.getLogger(__name__)

Message = dict[str, Any]

_AT_ONCE = 8  # requests under way: the other end does one at a time, and more could fill the socket's buffer


class FdSocket:
    """The host's end. Replies carry the request's `id`; anything else that comes goes to `on_event`."""

    def __init__(self, sock: socket.socket, name: str, on_event: Callable[[Message], None] | None = None) -> None:
        self._socket, self._name, self._on_event = sock, name, on_event
        self._waiting: dict[int, asyncio.Future[tuple[Message, list[int]]]] = {}
        self._next = 0
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._first: asyncio.Future[tuple[Message, list[int]]] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()
        sock.setblocking(False)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._on_readable)

    async def first(self, timeout_s: float) -> tuple[Message, list[int]]:
        """What the other end says of itself when it is ready. Raises SandboxStartFailed when it ends or stays silent instead."""
        asked = time.monotonic()
        answer = await self._answer(self._first, timeout_s, "start")
        self._log_step({"op": "start"}, answer[0], asked, asked)
        return answer

    async def call(
        self, message: Message, descriptors: list[int] | None = None, timeout_s: float = 30
    ) -> tuple[Message, list[int]]:
        """Send a request and wait for its reply; the reply's descriptors are the caller's to close. Raises SandboxStartFailed."""
        asked = time.monotonic()
        async with self._room:
            sent = time.monotonic()
            self._next += 1
            number = self._next
            future: asyncio.Future[tuple[Message, list[int]]] = asyncio.get_running_loop().create_future()
            self._waiting[number] = future
            try:
                self.send({**message, "id": number}, descriptors)
                answer = await self._answer(future, timeout_s, str(message.get("op", "request")))
            finally:
                self._waiting.pop(number, None)
        self._log_step(message, answer[0], asked, sent)
        return answer

    def _log_step(self, message: Message, answer: Message, asked: float, sent: float) -> None:
        """What a sandbox waited for: its turn here, the answer's way and the other end's queue, and the other end's own work."""
        if log.isEnabledFor(logging.DEBUG):
            took_ms, there_ms = (time.monotonic() - sent) * 1000, answer.get("us", 0) / 1000
            step = {"peer": self._name, "op": message.get("op"), "queued_ms": round((sent - asked) * 1000, 3)}
            log.debug("a step", extra={**step, "took_ms": round(took_ms, 3), "there_ms": round(there_ms, 3)})

    def send(self, message: Message, descriptors: list[int] | None = None) -> None:
        """Send without waiting for a reply."""
        try:
            socket.send_fds(self._socket, [json.dumps(message).encode()], descriptors or [])
        except OSError as error:
            raise SandboxStartFailed(f"{self._name} does not take requests: {error.strerror}") from error

    def close(self) -> None:
        if not self.closed.is_set():
            self.closed.set()
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            error = SandboxStartFailed(f"{self._name} has ended")
            for future in (self._first, *self._waiting.values()):
                if not future.done():
                    future.set_exception(error)
                    future.exception()  # retrieved: nobody may be waiting for it
            _discard(self._first)

    async def _answer(
        self, future: asyncio.Future[tuple[Message, list[int]]], timeout_s: float, what: str
    ) -> tuple[Message, list[int]]:
        try:
            async with asyncio.timeout(timeout_s):
                message, descriptors = await future
        except TimeoutError as error:
            _discard(future)
            raise SandboxStartFailed(f"{self._name} did not answer to {what} within {timeout_s:.0f} s") from error
        except asyncio.CancelledError:
            _discard(future)
            raise
        if "error" in message:
            raise SandboxStartFailed(f"{self._name}: {message['error']}")
        taken = descriptors.copy()
        descriptors.clear()  # the caller's from here on
        return message, taken

    def _on_readable(self) -> None:
        try:
            data, descriptors, _flags, _address = socket.recv_fds(
                self._socket, MAX_MESSAGE, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, descriptors = b"", []
        if not data:
            self.close()
            return
        self._deliver(json.loads(data), descriptors)

    def _deliver(self, message: Message, descriptors: list[int]) -> None:
        future = self._waiting.get(message["id"]) if "id" in message else None
        if future is None and not self._first.done() and "exited" not in message:
            future = self._first
        if future is not None and not future.done():
            future.set_result((message, descriptors))
            return
        for fd in descriptors:  # a reply that nobody waits for any more
            with contextlib.suppress(OSError):
                os.close(fd)
        if self._on_event is not None and "id" not in message:
            self._on_event(message)


def _discard(future: asyncio.Future[tuple[Message, list[int]]]) -> None:
    """Close what came with a reply that nobody takes: it arrived as its caller gave up."""
    if future.done() and not future.cancelled() and future.exception() is None:
        _message, descriptors = future.result()
        while descriptors:
            os.close(descriptors.pop())
