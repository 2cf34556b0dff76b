"""One request to Graph, and what every handler of it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from carrel.config import Config
from carrel.errors import RequestInvalid
from carrel.graph_errors import GraphError, RequestDenied
from carrel.server.access import Access, Principal
from carrel.server.audit.describing import paths_of
from carrel.server.authority.hashing import Hasher
from carrel.server.authority.throttle import Throttle
from carrel.server.exchange import Exchange
from carrel.store import Store
from carrel.wire import jsons

MAX_BODY = 256 * 1024

# Who may give roles to anybody may as well make anybody; who may not must not become somebody else by a new password.
MANAGE = "Microsoft.Authorization/roleAssignments/write"


@dataclass(frozen=True, slots=True)
class GraphServices:
    """What Graph works on, once for all requests."""

    config: Config
    tenant: str
    store: Store
    access: Access
    own_id: str  # of the principal that the server has made for itself
    hasher: Hasher
    throttle: Throttle


@dataclass(frozen=True, slots=True)
class GraphCall:
    """`names` are those of the route's pattern, decoded; `query` has lower-case names; `base` is Graph's own address, for this caller."""

    exchange: Exchange
    names: Mapping[str, str]
    query: Mapping[str, str]
    services: GraphServices
    base: str

    @property
    def principal(self) -> Principal:
        return self.exchange.caller()[0]

    def require_manager(self) -> None:
        """Raises RequestDenied unless the caller may manage identities."""
        scope = f"/subscriptions/{self.services.config.subscription}"
        if not self.services.access.may(self.principal, MANAGE, scope):
            raise RequestDenied(
                "Insufficient privileges to complete the operation: managing identities needs the role Owner (or User Access "
                "Administrator) on the subscription."
            )

    async def body(self) -> Mapping[str, object]:
        """The JSON object of the request. Raises GraphError."""
        try:
            body = jsons.decode_object(await self.exchange.body(MAX_BODY))
        except RequestInvalid as error:
            raise GraphError(error.message, target=error.target) from error
        self.exchange.details = {"properties": paths_of(body)}
        return body

    def context(self, what: str) -> str:
        """`@odata.context` of a reply."""
        return f"{self.base}/$metadata#{what}"

    async def reply(self, status: int, body: bytes = b"") -> None:
        await self.exchange.reply(status, body)


Handler = Callable[[GraphCall], Awaitable[None]]
