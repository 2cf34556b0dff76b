"""MCP over stdio in front of MCP over HTTP: lines of JSON in, lines of JSON out, and the same server behind.

A message is passed on as it is. What HTTP needs beside it is made up here: the session and the version that `initialize` settled, or with
protocol 2026-07-28, which knows neither, the headers that repeat what the message says. There a cancelled request is a closed connection.
A session that the server has lost (its gateway was replaced) is begun anew with the client's own `initialize`, and the client is not told.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx

Message = dict[str, Any]

_VERSION = "io.modelcontextprotocol/protocolVersion"
_NAMED = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_PARSE_ERROR, _INVALID_REQUEST, _BROKEN = -32700, -32600, -32000


class Bridge:
    """One client's connection. `write` takes a line for it."""

    def __init__(self, http: httpx.AsyncClient, url: str, write: Callable[[bytes], Awaitable[None]]) -> None:
        self._http = http
        self._url = url
        self._write = write
        self._session: dict[str, str] = {}  # headers
        self._hello: Message | None = None  # how the client began
        self._beginning = asyncio.Lock()
        self._under_way: dict[str, asyncio.Task[None]] = {}  # by the request's id as JSON

    async def run(self, lines: AsyncIterator[bytes]) -> None:
        """Until the lines end and everything that was asked is answered."""
        try:
            async for line in lines:
                if line.strip():
                    await self._take(line)
            while self._under_way:
                await asyncio.wait(self._under_way.values())
        finally:
            for task in self._under_way.values():
                task.cancel()
            await self._leave()

    async def _take(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            return await self._fail(None, _PARSE_ERROR, "This line is not JSON.")
        if not isinstance(message, dict):
            return await self._fail(None, _INVALID_REQUEST, "A line holds one message.")
        if message.get("method") == "notifications/cancelled" and self._cancel(message):
            return None
        if "method" not in message or "id" not in message:
            return await self._notify(message)
        if message["method"] == "initialize":  # what comes after it needs the session that it begins
            self._hello, self._session = message, {}
            return await self._ask(message)
        key = json.dumps(message["id"])
        task = asyncio.create_task(self._ask(message))
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return None

    def _cancel(self, message: Message) -> bool:
        """Whether the cancellation was done here: where there is no session, the end of the connection is what tells the server."""
        if self._session:
            return False
        task = self._under_way.get(json.dumps((message.get("params") or {}).get("requestId")))
        if task is not None:
            task.cancel()
        return True

    async def _notify(self, message: Message) -> None:
        try:
            await self._http.post(self._url, json=message, headers=self._headers(message))
        except httpx.HTTPError:  # nobody waits for an answer; the next request tells what is wrong
            return

    async def _ask(self, message: Message) -> None:
        """Pass a request on, and what comes back, until its answer is among it."""
        used = self._session
        try:
            if not await self._answered(message):
                async with self._beginning:
                    if self._session is used:  # else another request has seen to it
                        await self._begin_anew(self._hello)
                if not await self._answered(message):
                    await self._fail(message["id"], _BROKEN, "The server does not know this session.")
        except httpx.HTTPError as error:
            await self._fail(message["id"], _BROKEN, f"The server does not answer ({type(error).__name__}).")

    async def _answered(self, message: Message) -> bool:
        """False where the server has lost the session."""
        has_session = "mcp-session-id" in self._session
        async with self._http.stream("POST", self._url, json=message, headers=self._headers(message)) as reply:
            if reply.status_code == 404 and has_session:
                return False
            is_stream = reply.headers.get("content-type", "").startswith("text/event-stream")
            if not is_stream:
                answer = _decoded(await reply.aread())
                if answer is None or "jsonrpc" not in answer:
                    await self._fail(message["id"], _BROKEN, _refusal(reply.status_code, answer))
                else:
                    await self._pass_back(message, answer | {"id": message["id"]}, reply)
                return True
            async for answer in _events(reply):
                await self._pass_back(message, answer, reply)
                if "method" not in answer:
                    return True
        await self._fail(message["id"], _BROKEN, "The server ended the connection before it answered.")
        return True

    async def _pass_back(self, message: Message, answer: Message, reply: httpx.Response) -> None:
        if message["method"] == "initialize" and "result" in answer:
            session = reply.headers.get("mcp-session-id")
            version = str(answer["result"].get("protocolVersion", ""))
            self._session = {"mcp-protocol-version": version} | ({"mcp-session-id": session} if session else {})
        await self._write(_encoded(answer))

    async def _begin_anew(self, hello: Message | None) -> None:
        """The answer to this `initialize` is not for the client, which has had one."""

        async def forget(_line: bytes) -> None:
            return

        again = Bridge(self._http, self._url, forget)
        if hello is not None:
            await again._ask(hello)
            await again._notify({"jsonrpc": "2.0", "method": "notifications/initialized"})
        self._session = again._session

    async def _leave(self) -> None:
        if "mcp-session-id" in self._session:
            try:
                async with asyncio.timeout(2):
                    await self._http.delete(self._url, headers=self._session)
            except (httpx.HTTPError, TimeoutError):
                return

    async def _fail(self, request: Any, code: int, words: str) -> None:
        await self._write(_encoded({"jsonrpc": "2.0", "id": request, "error": {"code": code, "message": words}}))

    def _headers(self, message: Message) -> dict[str, str]:
        headers = {"accept": "application/json, text/event-stream"}
        params = message.get("params")
        meta = params.get("_meta") if isinstance(params, dict) else None
        version = meta.get(_VERSION) if isinstance(meta, dict) else None
        if not isinstance(version, str) or not isinstance(params, dict):
            return headers | self._session
        method = str(message.get("method"))
        headers |= {"mcp-protocol-version": _header(version), "mcp-method": _header(method)}
        name = params.get(_NAMED.get(method, ""))
        return headers | {"mcp-name": _header(name)} if isinstance(name, str) else headers


async def _events(reply: httpx.Response) -> AsyncIterator[Message]:
    """The messages of an event stream (each is one `data` line, or several that belong together)."""
    data: list[bytes] = []
    async for line in _lines(reply):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            message = _decoded(b"\n".join(data))
            data = []
            if message is not None:
                yield message


async def _lines(reply: httpx.Response) -> AsyncIterator[bytes]:
    """httpx would also end a line at U+2028, which JSON may hold."""
    rest = b""
    async for chunk in reply.aiter_bytes():
        *lines, last = chunk.split(b"\n")
        for line in lines:
            yield (rest + line).removesuffix(b"\r")
            rest = b""
        rest += last


def _decoded(text: bytes) -> Message | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _encoded(message: Message) -> bytes:
    """ASCII: no character in it can be taken for the end of a line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _refusal(status: int, answer: Message | None) -> str:
    """What the server's own error says."""
    error = (answer or {}).get("error")
    if isinstance(error, dict):
        return f"{error.get('code')}: {error.get('message')}"
    return f"The server answered with status {status}."


def _header(value: str) -> str:
    """As a header can hold it: what it cannot is wrapped (Streamable HTTP, 2026-07-28)."""
    if value.isascii() and value.isprintable() and value == value.strip() and not value.startswith("=?"):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="
