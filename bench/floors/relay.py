"""A raw ASGI application on the product's own server stack (uvicorn, uvloop, httptools), with one Unix socket hop behind it.

python -m bench.floors.relay LISTENING_FD SINK [INTERPRETER …]
POST /execute/N   JSON with the code → interpreter N's run_cell → JSON
POST /file        the body to the sink            GET /file   the sink's file
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any, cast

import uvicorn
import uvloop

CHUNK = 256 * 1024

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Line(asyncio.Protocol):
    """A connection to one interpreter: a line there, a line back, one at a time."""

    def __init__(self) -> None:
        self._pending = b""
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._pending += data
        if self._pending.endswith(b"\n") and self._answer is not None:
            self._answer.set_result(self._pending)
            self._pending = b""

    async def call(self, line: bytes) -> bytes:
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(line)
        return await self._answer


class Relay:
    def __init__(self, lines: list[Line], sink: str) -> None:
        self._lines, self._sink = lines, sink

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        if path.startswith("/execute/"):
            await self._execute(self._lines[int(path.removeprefix("/execute/"))], receive, send)
        elif scope["method"] == "POST":
            await self._put(int(dict(scope["headers"])[b"content-length"]), receive, send)
        else:
            await self._get(send)

    async def _execute(self, line: Line, receive: Receive, send: Send) -> None:
        message = await receive()
        body = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        request = json.dumps({"code": json.loads(body)["properties"]["code"]}).encode()
        answer = json.loads(await line.call(request + b"\n"))
        await reply(send, json.dumps(answer).encode())

    async def _put(self, length: int, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        with await self._connect() as sock:
            await loop.sock_sendall(sock, b"put %d\n" % length)
            while True:
                message = await receive()
                await loop.sock_sendall(sock, message["body"])
                if not message["more_body"]:
                    break
            await reply(send, await loop.sock_recv(sock, 16))

    async def _get(self, send: Send) -> None:
        loop = asyncio.get_running_loop()
        with await self._connect() as sock:
            await loop.sock_sendall(sock, b"get\n")
            head, _, body = (await loop.sock_recv(sock, CHUNK)).partition(b"\n")
            await start(send, int(head))
            left = int(head)
            while left:
                left -= len(body)
                await send({"type": "http.response.body", "body": body, "more_body": left > 0})
                body = await loop.sock_recv(sock, CHUNK) if left else b""

    async def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self._sink)
        return sock


async def start(send: Send, length: int) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def reply(send: Send, body: bytes) -> None:
    await start(send, len(body))
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def serve(listener: socket.socket, sink: str, paths: list[str]) -> None:
    loop = asyncio.get_running_loop()
    lines = [(await loop.create_unix_connection(Line, path))[1] for path in paths]
    config = uvicorn.Config(
        cast(Any, Relay(lines, sink)),
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,
        access_log=False,
    )
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    uvloop.run(serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2], sys.argv[3:]))
