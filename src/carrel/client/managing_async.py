"""The client of the control plane for asyncio: sending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import httpx

from carrel.client import arm, operations
from carrel.client.calls import Call
from carrel.client.closing import AsyncClosing
from carrel.client.connection import is_untrusted
from carrel.client.credentials import AsyncServerCredential
from carrel.client.managing import Managing, OnProgress, Waiting, understood

T = TypeVar("T")


class AsyncSending(AsyncClosing, Managing[httpx.AsyncClient]):
    _kind = httpx.AsyncClient
    _credential = AsyncServerCredential
    _azure = "azure.identity.aio"

    async def _send(self, call: Call[T], graph: str | None = None) -> T:
        arguments = self._arguments(call, graph)
        attempt = 0
        while True:
            wait_s, reply = await self._try(arguments, attempt)
            if wait_s is None:
                return understood(call, reply)
            await asyncio.sleep(wait_s)
            attempt += 1

    async def _try(self, arguments: dict[str, Any], attempt: int) -> tuple[float | None, httpx.Response]:
        """The answer, and in how many seconds to try again; None where it stands."""
        try:
            reply = await self._http.request(**arguments)
        except httpx.TransportError as error:
            wait_s = operations.retry_after(arguments["method"], attempt, None)
            if wait_s is None or is_untrusted(error):
                raise
            return wait_s, httpx.Response(503)
        return operations.retry_after(arguments["method"], attempt, reply), reply

    async def _pages(self, call: Call[arm.Page[T]], graph: str | None = None) -> AsyncIterator[T]:
        while True:
            found, url = await self._send(call, graph)
            for each in found:
                yield each
            if not url:
                return
            call = arm.next_page(url, call, graph or self.endpoint)

    async def _finish(self, reply: httpx.Response, tell: OnProgress | None, timeout: float) -> None:
        """Wait for what a call has begun. Raises OperationFailed, TimeoutError."""
        waiting, operation = Waiting.now(tell, timeout), operations.begin(reply, self.endpoint)
        while operation is not None:
            await asyncio.sleep(waiting.before(operation))
            operation = operations.step(operation, await self._send(arm.look(operation.url)), self.endpoint)
