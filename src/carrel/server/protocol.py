"""uvicorn's HTTP protocol with what it lacks: a bound on a request's head, in bytes and in time, and our error body for nonsense."""

from __future__ import annotations

import os
from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from carrel.errors import RequestInvalid
from carrel.server.joined import JoinedTransport
from carrel.wire.sessions import encode_error

_MAX_HEAD = 64 * 1024
_HEAD_S = 30.0


class Protocol(HttpToolsProtocol):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_head = True
        self._is_new = True
        self._head_bytes = 0
        self._deadline: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        transport = JoinedTransport(transport, self.loop)
        super().connection_made(transport)
        self._deadline = self.loop.call_later(_HEAD_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing():
            return
        # What a head began in may hold the body before it, and is bounded by what one read brings: only what follows is counted.
        self._head_bytes += 0 if self._is_new else len(data)
        self._is_new = False
        if self._head_bytes > _MAX_HEAD:
            self.send_400_response("The request's headers are too large.")
        elif (self._is_head or self.cycle.response_complete) and self._deadline is None:
            # Between two requests as well: an empty line begins none, but ends uvicorn's wait for the next.
            self._deadline = self.loop.call_later(_HEAD_S, self.transport.close)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_head = True
        self._count_anew()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._is_head = False
        self._stop_clock()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._is_head:  # else a trailer, which nobody reads
            super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._count_anew()  # what is no body counts as head wherever it stands: extensions of chunks, trailers

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls where no request could be made out of the bytes."""
        trace = os.urandom(16).hex()
        body = encode_error(RequestInvalid(msg), trace)
        head = (
            "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\nx-ms-error-code: {RequestInvalid.code}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()

    def _count_anew(self) -> None:
        self._is_new, self._head_bytes = True, 0

    def _stop_clock(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
