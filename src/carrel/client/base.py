"""What both clients stand on: an endpoint, a token, a connection pool, and how a call is sent."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Generic, Self, TypeVar

import httpx

from carrel.client import calls
from carrel.client.connection import Connection, is_local

T = TypeVar("T")
H = TypeVar("H", httpx.Client, httpx.AsyncClient)


class _Connected(Generic[H]):
    """`identifier` is the session that calls use which name none."""

    _kind: type[H]

    def __init__(self, endpoint: str, token: str, *, identifier: str = "default", ca_bundle: str | None = None) -> None:
        self.endpoint = endpoint
        self.identifier = identifier
        verify = ssl.create_default_context(cafile=ca_bundle) if ca_bundle and endpoint.startswith("https:") else True
        headers = {"Authorization": f"Bearer {token}"}
        # A proxy that the environment names has no part in a call to this machine itself.
        self._http: H = self._kind(headers=headers, timeout=60.0, verify=verify, trust_env=not is_local(endpoint))

    @classmethod
    def from_connection(cls, path: Path | None = None, *, pool: str = "python", identifier: str = "default") -> Self:
        """To the server whose state folder or connection file `path` is. Raises NotRunning, and KeyError for an unknown pool."""
        connection = Connection.read(path)
        endpoint = connection.pools[pool].endpoint
        return cls(endpoint, connection.token, identifier=identifier, ca_bundle=connection.ca_bundle)


class Base(_Connected[httpx.Client]):
    _kind = httpx.Client

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _send(self, call: calls.Call[T]) -> T:
        return call.read(calls.check(self._http.request(**call.arguments(self.endpoint))))


class AsyncBase(_Connected[httpx.AsyncClient]):
    _kind = httpx.AsyncClient

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _send(self, call: calls.Call[T]) -> T:
        return call.read(calls.check(await self._http.request(**call.arguments(self.endpoint))))
