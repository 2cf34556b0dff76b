"""One request to the control plane, and what every handler of it may use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from carrel.arm_errors import ContentInvalid, ParameterInvalid
from carrel.config import Config
from carrel.errors import RequestInvalid
from carrel.server.access import Access
from carrel.server.exchange import Exchange, Headers
from carrel.server.pools import Pools
from carrel.store import Store
from carrel.wire import jsons

MAX_BODY = 4 * 1024 * 1024  # ARM's own
_MOST = 1000  # items of a page


@dataclass(frozen=True, slots=True)
class Services:
    """What the control plane works on, once for all requests."""

    config: Config
    tenant: str
    store: Store
    access: Access
    pools: Pools


@dataclass(frozen=True, slots=True)
class ArmCall:
    """`names` are those of the route's pattern, decoded; `query` has lower-case names; `version` is one that the route knows."""

    exchange: Exchange
    names: Mapping[str, str]
    query: Mapping[str, str]
    version: str
    services: Services
    path: str  # as it was asked for, for links to further pages

    @property
    def config(self) -> Config:
        return self.services.config

    @property
    def subscription(self) -> str:
        """The one there is, as the server spells it: a request for another does not come here."""
        return self.config.subscription

    def link(self, path: str, **query: str) -> str:
        """An absolute address, as this caller reaches us. Values of `query` are safe in an address."""
        parameters = "&".join(f"{name}={value}" for name, value in {"api-version": self.version, **query}.items())
        return f"{self.exchange.origin()}{path}?{parameters}"

    def whole(self, name: str, default: int, most: int = _MOST) -> int:
        """A number of the query, at least 1. More than `most` is `most`, as ARM does."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text)):
            raise ParameterInvalid(f"{name} must be a whole number of at least 1.", target=name)
        return min(int(text), most)

    async def body(self) -> Mapping[str, object]:
        """The JSON object of the request. Raises ContentInvalid."""
        try:
            return jsons.decode_object(await self.exchange.body(MAX_BODY))
        except RequestInvalid as error:
            raise ContentInvalid(error.message, target=error.target) from error

    async def reply(self, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
        await self.exchange.reply(status, body, headers)


Handler = Callable[[ArmCall], Awaitable[None]]
