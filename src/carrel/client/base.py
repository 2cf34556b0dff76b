"""What both clients stand on: an endpoint, a token, a connection pool, and how a call is sent."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, Self, TypeVar

import httpx

from carrel.client import calls
from carrel.client.closing import AsyncClosing, Closing
from carrel.client.connection import Connection, is_local, trust
from carrel.client.credentials import DATA_SCOPE, AsyncCredential, Bearer, Credential

T = TypeVar("T")
H = TypeVar("H", httpx.Client, httpx.AsyncClient)


class _Connected(Generic[H]):
    """`identifier` is the session that calls use which name none."""

    _kind: type[H]

    def __init__(
        self,
        endpoint: str,
        token: str | Credential | AsyncCredential,
        *,
        identifier: str = "default",
        ca_bundle: str | None = None,
    ) -> None:
        """`token` is one, or what gets them: anything with azure-core's `get_token`, such as azure-identity's credentials."""
        self.endpoint = endpoint
        self.identifier = identifier
        # A proxy that the environment names has no part in a call to this machine itself.
        self._http: H = self._kind(
            auth=Bearer(token, DATA_SCOPE),
            timeout=60.0,
            verify=trust(endpoint, ca_bundle),
            trust_env=not is_local(endpoint),
        )

    @classmethod
    def from_connection(cls, path: Path | None = None, *, pool: str = "python", identifier: str = "default") -> Self:
        """To the server whose state folder or connection file `path` is. Raises NotRunning, and KeyError for an unknown pool."""
        connection = Connection.read(path)
        endpoint = connection.pools[pool].endpoint
        return cls(endpoint, connection.token, identifier=identifier, ca_bundle=connection.ca_bundle)


class Base(Closing, _Connected[httpx.Client]):
    _kind = httpx.Client

    def _send(self, call: calls.Call[T]) -> T:
        return call.read(calls.check(self._http.request(**call.arguments(self.endpoint))))


class AsyncBase(AsyncClosing, _Connected[httpx.AsyncClient]):
    _kind = httpx.AsyncClient

    async def _send(self, call: calls.Call[T]) -> T:
        return call.read(calls.check(await self._http.request(**call.arguments(self.endpoint))))
