"""One request to the control plane, and what every handler of it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import quote

from carrel.arm_errors import ContentInvalid, GroupNotFound, ParameterInvalid
from carrel.config import Config
from carrel.errors import RequestInvalid
from carrel.server.access import Access
from carrel.server.arm.group_deletion import Deletions
from carrel.server.audit.describing import paths_of
from carrel.server.exchange import Exchange, Headers
from carrel.server.pools import Pools
from carrel.store import GroupRecord, PoolId, Stamp, Store
from carrel.store.records import group_id
from carrel.wire import jsons
from carrel.wire.arm_lists import encode_list, page_of
from carrel.wire.arm_resources import shown
from carrel.wire.locations import normal

_OF_A_PAGE = ("api-version", "$skiptoken")
MAX_BODY = 4 * 1024 * 1024  # ARM's own
_MOST = 1000  # items of a page, as many as there can be in most places: az does not ask for a second page of a group

T = TypeVar("T")
Resource = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Services:
    """What the control plane works on, once for all requests."""

    config: Config
    tenant: str
    store: Store
    access: Access
    pools: Pools
    deletions: Deletions


@dataclass(frozen=True, slots=True)
class ArmCall:
    """`names` are those of the route's pattern, decoded; `query` has lower-case names; `version` is one that the route knows."""

    exchange: Exchange
    names: Mapping[str, str]
    query: Mapping[str, str]
    version: str
    services: Services
    path: str  # as it was asked for, for links to further pages

    def require(self, action: str, scope: str) -> None:
        """Raises AuthorizationFailed. Asked before anything is looked for: who may not see a thing does not learn whether it is there."""
        principal, access = self.exchange.caller()
        access.require(principal, action, scope)

    def sees(self, scope: str) -> bool:
        principal, access = self.exchange.caller()
        return access.sees(principal, scope)

    def require_sight(self, scope: str) -> None:
        """Raises AuthorizationFailed for a caller without any right at, above or below `scope`."""
        if not self.sees(scope):
            self.require("*/read", scope)

    def stamp(self, now: float) -> Stamp:
        """Who does it, for systemData: by name, where it has one."""
        principal, _ = self.exchange.caller()
        return replace(principal.stamp(now), by=principal.name)

    @property
    def config(self) -> Config:
        return self.services.config

    @property
    def subscription(self) -> str:
        """The one there is, as the server spells it: a request for another does not come here."""
        return self.config.subscription

    @property
    def subscription_id(self) -> str:
        return f"/subscriptions/{self.subscription}"

    @property
    def group_id(self) -> str:
        """Of the group in the path."""
        return group_id(self.subscription, self.names["group"])

    @property
    def location(self) -> str:
        """The server's own, as in addresses."""
        return normal(self.config.location)

    def pool_id(self) -> PoolId:
        """Of the pool in the path, its own name as written there."""
        return PoolId(self.subscription, self.names["group"], self.names["pool"])

    async def group(self, name: str) -> GroupRecord:
        """Raises GroupNotFound."""
        record = await self.services.store.run(lambda books: books.groups.get(self.subscription, name))
        if record is None:
            raise no_group(name)
        return record

    def link(self, path: str, **query: str) -> str:
        """An absolute address, as this caller reaches us. Values of `query` are safe in an address."""
        parameters = "&".join(f"{name}={value}" for name, value in {"api-version": self.version, **query}.items())
        return f"{self.exchange.origin()}{path}?{parameters}"

    def _next_link(self, token: str | None) -> str | None:
        """Where a list goes on: the same request, with a token."""
        if token is None:
            return None
        kept = {name: quote(value, safe="") for name, value in self.query.items() if name not in _OF_A_PAGE}
        return self.link(self.path, **kept, **{"%24skipToken": token})

    def _whole(self, name: str, most: int) -> int:
        """A number of the query, at least 1. More than `most` is `most`, as ARM does; so is none."""
        text = self.query.get(name)
        if text is None:
            return most
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
            raise ParameterInvalid(f"{name} must be a whole number of at least 1.", target=name)
        return min(int(text), most)

    async def body(self) -> Mapping[str, object]:
        """The JSON object of the request. Raises ContentInvalid."""
        content = await self.exchange.body(MAX_BODY)
        try:
            body = jsons.decode_object(content)
        except RequestInvalid as error:
            raise ContentInvalid(error.message, target=error.target) from error
        if not jsons.is_storable(body):
            raise ContentInvalid(
                "A text of the request holds a null character or half of a surrogate pair.", target="$"
            )
        self.exchange.details = {"properties": paths_of(body)}
        return body

    async def reply_page(self, items: Iterable[T], key: Callable[[T], str], encode: Callable[[T], Resource]) -> None:
        """A page of a list, with where it goes on. Raises ParameterInvalid."""
        page, token = page_of(items, key, self.query.get("$skiptoken"), self._whole("$top", _MOST))
        await self.reply(200, encode_list([encode(each) for each in page], self._next_link(token)))

    async def reply(self, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
        await self.exchange.reply(status, body, headers)


def no_group(name: str) -> GroupNotFound:
    return GroupNotFound(f"Resource group '{shown(name)}' could not be found.", target="resourceGroup")


Handler = Callable[[ArmCall], Awaitable[None]]
