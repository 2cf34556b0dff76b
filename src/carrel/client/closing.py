"""Clients that are entered and left, or closed by hand; their connections go with them."""

from __future__ import annotations

from typing import Any, Self

import httpx


class Closing:
    _http: httpx.Client
    _own: Any = None  # a credential that the client made for itself

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
        if hasattr(self._own, "close"):
            self._own.close()


class AsyncClosing:
    _http: httpx.AsyncClient
    _own: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()
        if hasattr(self._own, "close"):
            await self._own.close()
