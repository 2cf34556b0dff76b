"""One request to the operator plane, and what every handler of it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from carrel.config import Config
from carrel.errors import AuthorizationFailed
from carrel.host.hostlink import HostLink
from carrel.server.access import Access
from carrel.server.audit.scribe import Scribe
from carrel.server.drain import Drain
from carrel.server.exchange import Exchange
from carrel.server.instruments import Instruments
from carrel.server.pools import Pool, Pools
from carrel.storage import State
from carrel.store import Store


@dataclass(frozen=True, slots=True)
class OperatorServices:
    """What the operator plane works on, once for all requests."""

    config: Config
    state: State
    store: Store
    access: Access
    pools: Pools
    link: HostLink
    instruments: Instruments
    drain: Drain
    scribe: Scribe | None  # None: there is no audit log


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """`query` has lower-case names; `action` is what the route's table says that a caller needs, somewhere at least."""

    exchange: Exchange
    query: Mapping[str, str]
    action: str
    services: OperatorServices

    @property
    def subscription_id(self) -> str:
        return f"/subscriptions/{self.services.config.subscription}"

    @property
    def sees_all(self) -> bool:
        """Whether the caller has the right on the whole subscription: what belongs to no pool is for those alone."""
        return self.may(self.subscription_id)

    def may(self, scope: str) -> bool:
        """Whether the caller has the route's right there, by the path of a resource."""
        principal, access = self.exchange.caller()
        return access.may(principal, self.action, scope)

    def pools(self) -> list[Pool]:
        """Those that the caller may read: a list never tells of others."""
        return [pool for pool in self.services.pools.list() if self.may(pool.record.id.resource_id)]

    def require(self) -> None:
        """Raises AuthorizationFailed for a caller who has the right nowhere."""
        principal, access = self.exchange.caller()
        if not access.may_somewhere(principal, self.action):
            access.require(principal, self.action, self.subscription_id)
            raise AuthorizationFailed("Nothing that this route tells of may be seen by the caller.")

    async def reply(self, status: int, body: bytes = b"") -> None:
        await self.exchange.reply(status, body)


Handler = Callable[[OperatorCall], Awaitable[None]]
