"""What both clients of the control plane stand on: an endpoint, a credential, and how a call is sent, repeated and waited for.

Only calls that may be repeated are: GET, PUT, DELETE, where the way there failed or the answer asks for it, and after the time that it asks
for. Pages of lists and work that goes on are followed at the endpoint alone: the token goes nowhere else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Self, TypeVar
from urllib.parse import urlsplit

import httpx

from carrel.client import arm
from carrel.client.calls import Call, check
from carrel.client.connection import Connection, NotRunning, is_local, trust
from carrel.client.credentials import (
    ARM_SCOPE,
    DATA_SCOPE,
    GRAPH_SCOPE,
    Ask,
    AsyncCredential,
    Bearer,
    Credential,
    by_identity,
    by_nobody,
)
from carrel.client.environment import MANAGEMENT_ENDPOINTS, NotConfigured, Surroundings
from carrel.client.errors import ApiError
from carrel.client.operations import Operation, Progress

T = TypeVar("T")
H = TypeVar("H", httpx.Client, httpx.AsyncClient)

AZURE = "https://management.azure.com"
_GRAPHS = (
    "https://graph.microsoft.com",
    "https://graph.microsoft.us",
    "https://dod-graph.microsoft.us",
    "https://microsoftgraph.chinacloudapi.cn",
)
WAIT_S = 1800.0  # an image that is not built yet takes its time
OnProgress = Callable[[Progress], None]


class Managing(Generic[H]):
    """`resource_group` and `location` are those of calls that name none."""

    _kind: type[H]
    _credential: Callable[..., Any]  # what from_connection makes
    _azure: str
    _own: Any

    def __init__(
        self,
        endpoint: str = AZURE,
        credential: Credential | AsyncCredential | str = "",
        *,
        subscription: str,
        resource_group: str = "default",
        location: str = "local",
        graph: str | None = None,
        ca_bundle: str | None = None,
    ) -> None:
        """`credential` is anything with azure-core's `get_token`. `graph` is the directory's endpoint where the cloud does not tell it."""
        self.endpoint = endpoint.rstrip("/")
        self.subscription = subscription
        self.resource_group = resource_group
        self.location = location
        self.credential = credential
        self._graph = graph
        self._ca_bundle = ca_bundle
        self._http: H = self._kind(timeout=60.0, verify=trust(endpoint, ca_bundle), trust_env=not is_local(endpoint))
        self._auth = Bearer(credential, ARM_SCOPE)
        self._graph_auth = Bearer(credential, GRAPH_SCOPE)

    @classmethod
    def from_connection(cls, path: Path | None = None) -> Self:
        """To the server whose state folder or connection file `path` is. Raises NotRunning."""
        connection = Connection.read(path)
        fields = connection.fields
        has_authority = bool(fields.get("identity_endpoint"))
        ask: Ask = by_identity(fields["identity_endpoint"], fields["identity_header"]) if has_authority else by_nobody
        known = {
            ARM_SCOPE: fields.get("arm_token"),
            # Any operator could have made this one, for running code. The identity's own has the rights that it is given.
            DATA_SCOPE: None if has_authority else fields.get("token"),
            GRAPH_SCOPE: fields.get("graph_token"),
        }
        return cls(
            fields.get("arm") or fields["http"],
            cls._credential(ask, known, ca_bundle=fields.get("ca")),
            subscription=fields["subscription"],
            resource_group=fields["resource_group"],
            location=fields["location"],
            ca_bundle=fields.get("ca"),
        )

    @classmethod
    def from_env(cls) -> Self:
        """To the server that CARREL_ENDPOINT or CARREL_ARM names, and to the local one where none is named. Raises NotConfigured.

        Subscription, group and location: CARREL_SUBSCRIPTION or AZURE_SUBSCRIPTION_ID, CARREL_RESOURCE_GROUP, CARREL_LOCATION. The token:
        CARREL_ARM_TOKEN, or one as of `Client.from_env`.
        """
        surroundings = Surroundings(cls._azure, cls._credential)
        endpoint = surroundings.endpoint(*MANAGEMENT_ENDPOINTS)
        if endpoint is None:
            try:
                return cls.from_connection()
            except NotRunning as error:
                raise NotConfigured(f"set CARREL_ENDPOINT, or start a server with `carrel serve` ({error})") from error
        subscription = surroundings.first("CARREL_SUBSCRIPTION", "AZURE_SUBSCRIPTION_ID")
        if subscription is None:
            raise NotConfigured("set CARREL_SUBSCRIPTION or AZURE_SUBSCRIPTION_ID")
        management = cls(
            endpoint,
            surroundings.credential(endpoint, ARM_SCOPE),
            subscription=subscription,
            resource_group=surroundings.first("CARREL_RESOURCE_GROUP", "AZURE_DEFAULTS_GROUP") or "default",
            location=surroundings.first("CARREL_LOCATION", "AZURE_DEFAULTS_LOCATION") or "local",
            ca_bundle=surroundings.ca_bundle(),
        )
        management._own = management.credential
        return management

    def _arguments(self, call: Call[Any], graph: str | None = None) -> dict[str, Any]:
        return {**call.arguments(graph or self.endpoint), "auth": self._graph_auth if graph else self._auth}

    def _ca_of(self, endpoint: str) -> str | None:
        """What to trust at a pool's endpoint: our own authorities at our own server; Azure's pools are at other hosts.

        Raises ApiError where a token would go there in the clear.
        """
        if not (
            endpoint.startswith("https://")
            or is_local(endpoint)
            or urlsplit(endpoint)[:2] == urlsplit(self.endpoint)[:2]
        ):
            raise ApiError(502, "ForeignAddress", f"the pool's endpoint, {endpoint!r}, is not encrypted")
        return self._ca_bundle if urlsplit(endpoint).hostname == urlsplit(self.endpoint).hostname else None

    def _group(self, name: str) -> str:
        return arm.group_path(self.subscription, name)

    def _pool(self, name: str, resource_group: str | None) -> str:
        group = (
            self.resource_group if resource_group is None else resource_group
        )  # "" is a mistake, of scripts above all
        return arm.pool_path(self.subscription, group, name)

    def scope(self, *, pool: str | None = None, resource_group: str | None = None) -> str:
        """The resource id that rights are given at: a pool's, a group's, or the subscription's."""
        if pool is not None:
            return "/" + self._pool(pool, resource_group)
        where = f"/subscriptions/{self.subscription}"
        return where if resource_group is None else f"/{arm.group_path(self.subscription, resource_group)}"

    def _graph_of(self, metadata: dict[str, Any]) -> str:
        """Where the directory is: what the cloud says, so long as it is Microsoft's or the server itself."""
        told = str(metadata.get("microsoftGraphResourceId") or "").rstrip("/")
        return told if told in _GRAPHS or urlsplit(told)[:2] == urlsplit(self.endpoint)[:2] else self.endpoint


def understood(call: Call[T], reply: httpx.Response) -> T:
    """The answer of a call. Raises ApiError, also for one of another API: what stands at an address may be anything."""
    try:
        return call.read(check(reply))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = "what the server answers is not of this API: is the endpoint right?"
        raise ApiError(reply.status_code, "UnexpectedAnswer", message) from error


@dataclass(frozen=True, slots=True)
class Waiting:
    """Whom to tell, and until when to wait."""

    tell: OnProgress | None
    began: float
    timeout: float

    @classmethod
    def now(cls, tell: OnProgress | None, timeout: float) -> Self:
        return cls(tell, time.monotonic(), timeout)

    def before(self, operation: Operation) -> float:
        """Tell of work that goes on; how long to wait before the next look. Raises TimeoutError."""
        seconds = time.monotonic() - self.began
        if self.tell is not None:
            self.tell(Progress(operation.state, seconds))
        if seconds + operation.wait_s > self.timeout:
            raise TimeoutError(f"not done after {seconds:.0f} seconds; the server goes on with it")
        return operation.wait_s
