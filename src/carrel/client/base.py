"""What both clients stand on: an endpoint, a token, a connection pool, and how a call is sent."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import httpx

from carrel.client import calls
from carrel.client.call import API_VERSION, Call
from carrel.client.closing import AsyncClosing, Closing
from carrel.client.connection import Connection, is_local, trust
from carrel.client.credentials import (
    DATA_SCOPE,
    AsyncCredential,
    AsyncServerCredential,
    Bearer,
    Credential,
    ServerCredential,
)
from carrel.client.environment import Surroundings
from carrel.client.retrying import RETRIES, Attempts, Executing

T = TypeVar("T")
H = TypeVar("H", httpx.Client, httpx.AsyncClient)


class _Connected(Generic[H]):
    """`identifier` is the session that calls use which name none."""

    _kind: type[H]
    _credential: ClassVar[Callable[..., Any]]  # what from_env makes
    _azure: ClassVar[str]

    def __init__(
        self,
        endpoint: str,
        token: str | Credential | AsyncCredential,
        *,
        identifier: str = "default",
        ca_bundle: str | None = None,
        timeout: float = 60.0,
        retries: int = RETRIES,
        api_version: str = API_VERSION,
    ) -> None:
        """`token` is one, or what gets them: anything with azure-core's `get_token`, such as azure-identity's credentials.

        `timeout` is for calls that run no code and carry no file: those have their own. `retries` is how often a call that may be repeated
        is sent again where the way there fails or the server asks for it.
        """
        self.endpoint = endpoint
        self.identifier = identifier
        self.api_version = api_version
        self._retries = retries
        self._own: Any = None
        # A proxy that the environment names has no part in a call to this machine itself.
        self._http: H = self._kind(
            auth=Bearer(token, DATA_SCOPE),
            timeout=timeout,
            verify=trust(endpoint, ca_bundle),
            trust_env=not is_local(endpoint),
        )

    @classmethod
    def from_connection(cls, path: Path | None = None, *, pool: str = "python", identifier: str = "default") -> Self:
        """To the server whose state folder or connection file `path` is. Raises NotRunning, and KeyError for an unknown pool."""
        connection = Connection.read(path)
        endpoint = connection.pools[pool].endpoint
        return cls(endpoint, connection.token, identifier=identifier, ca_bundle=connection.ca_bundle)

    @classmethod
    def from_env(
        cls, *, pool: str = "python", identifier: str = "default", timeout: float = 60.0, retries: int = RETRIES
    ) -> Self:
        """To the pool that the environment names, or to the local server's where it names none. Raises NotConfigured.

        The pool: CARREL_POOL_NAME as `carrel env` prints it, CARREL_POOL_ENDPOINT, POOL_MANAGEMENT_ENDPOINT, ACA_POOL_MANAGEMENT_ENDPOINT.
        The token: CARREL_TOKEN, or one for a client secret or a managed identity as azure-identity names them, or azure-identity's own.
        """
        surroundings = Surroundings(cls._azure, cls._credential)
        endpoint = surroundings.pool_endpoint(pool)
        if endpoint is None:
            endpoint, token, ca_bundle = surroundings.local(pool)
        else:
            token, ca_bundle = surroundings.credential(endpoint), surroundings.ca_bundle()
        client = cls(endpoint, token, identifier=identifier, ca_bundle=ca_bundle, timeout=timeout, retries=retries)
        client._own = token
        return client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    def _executing(self, body: dict[str, Any], identifier: str, operation_id: str | None) -> Executing:
        """Code to run, under an id by which it can be found again."""
        made = operation_id or str(uuid.uuid4())
        call, look = calls.execute(body, identifier, made), calls.execution(made, identifier)
        limit_s = 0.0 if body.get("executionType") == "Asynchronous" else body["timeoutInSeconds"] + calls.GRACE_S
        return Executing(call, look, self.endpoint, self._retries, limit_s)

    def _arguments(self, call: Call[Any]) -> dict[str, Any]:
        return call.arguments(self.endpoint, self.api_version)


class Base(Closing, _Connected[httpx.Client]):
    _kind = httpx.Client
    _credential = ServerCredential
    _azure = "azure.identity"

    def _send(self, call: Call[T]) -> T:
        return self._try(Attempts(call, self.endpoint, self._retries))

    def _list(self, found: list[T], page: Callable[[int], Call[calls.Page[T]]]) -> list[T]:
        """All of a list into `found`, page by page; `page` is the call for what comes after so many."""
        while True:
            items, has_more = self._send(page(len(found)))
            found += items
            if not (items and has_more):
                return found

    def _try(self, attempts: Attempts[T]) -> T:
        while True:
            try:
                reply = self._http.request(**self._arguments(attempts.call))
                wait_s = attempts.answered(reply)
                if wait_s is None:
                    return attempts.read(reply)
            except httpx.TransportError as error:
                wait_s = attempts.lost(error)
            time.sleep(wait_s)


class AsyncBase(AsyncClosing, _Connected[httpx.AsyncClient]):
    _kind = httpx.AsyncClient
    _credential = AsyncServerCredential
    _azure = "azure.identity.aio"

    async def _send(self, call: Call[T]) -> T:
        return await self._try(Attempts(call, self.endpoint, self._retries))

    async def _list(self, found: list[T], page: Callable[[int], Call[calls.Page[T]]]) -> list[T]:
        """As Base's."""
        while True:
            items, has_more = await self._send(page(len(found)))
            found += items
            if not (items and has_more):
                return found

    async def _try(self, attempts: Attempts[T]) -> T:
        while True:
            try:
                reply = await self._http.request(**self._arguments(attempts.call))
                wait_s = attempts.answered(reply)
                if wait_s is None:
                    return attempts.read(reply)
            except httpx.TransportError as error:
                wait_s = attempts.lost(error)
            await asyncio.sleep(wait_s)
