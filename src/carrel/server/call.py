"""A data-plane request whose pool, role, route and api-version are settled: what the handlers are given."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from carrel.errors import RequestInvalid
from carrel.host.hostlink import HostLink
from carrel.models import Condition, PoolSpec, SessionView
from carrel.pool_records import with_property
from carrel.pool_secrets import NO_SECRETS, PoolSecrets
from carrel.server.exchange import Exchange, Headers
from carrel.server.pools import Pools
from carrel.server.request import Target
from carrel.store import Stamp
from carrel.wire import names
from carrel.wire.conditions import decode_condition
from carrel.wire.times import timestamp
from carrel.wire.versions import Version

if TYPE_CHECKING:
    from carrel.server.bound import BoundTokens
    from carrel.server.session_logs import SessionLogs

PAGE = 300  # Azure's
_MAX_SKIP = 1_000_000


@dataclass(frozen=True, slots=True)
class Call:
    exchange: Exchange
    target: Target
    query: Mapping[str, str]
    version: Version
    pool: PoolSpec
    link: HostLink
    digest: Callable[[str], str]  # of an identifier, for the log
    pools: Pools  # for what changes the pool
    tokens: BoundTokens
    logs: SessionLogs
    secrets: PoolSecrets = NO_SECRETS  # of the pool
    argument: str = (
        ""  # what stands in the path after the route's fixed words, decoded: a file's name, an execution's id
    )

    def identifier(self, in_body: str | None = None) -> str:
        """The session's identifier, from wherever the caller put it. Raises RequestInvalid where two places disagree."""
        given = [text for text in (self.query.get("identifier"), self.target.identifier, in_body) if text is not None]
        if any(text != given[0] for text in given):
            raise RequestInvalid("The request names more than one session identifier.", target="identifier")
        identifier = names.decode_identifier(given[0] if given else None)
        self.exchange.caller()[0].require_identifier(identifier)
        self.exchange.session = self.digest(identifier)
        return identifier

    async def keep(self, name: str, value: object) -> None:
        """What the host has changed about the pool is to outlast it: write it into the record, as `carrel.NAME` of its properties."""
        principal, _ = self.exchange.caller()
        stamp = Stamp(principal.name or principal.id, principal.kind, time.time())
        await self.pools.amend(self.pool.name, lambda record: with_property(record, name, value, stamp))

    def directory(self) -> str:
        """The `path` parameter, relative to /mnt/data."""
        return names.decode_directory(self.query.get("path"))

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A boolean parameter."""
        text = self.query.get(name, "").lower()
        if text in ("true", "1"):
            return True
        if text in ("false", "0"):
            return False
        if text:
            raise RequestInvalid(f"The query parameter '{name}' must be true or false.", target=name)
        return default

    def condition(self) -> Condition:
        """What If-Match and If-None-Match demand. Raises RequestInvalid."""
        return decode_condition(self._lines(b"if-match"), self._lines(b"if-none-match"))

    def _lines(self, name: bytes) -> str | None:
        """A header that is a list; several lines of it are one (RFC 9110 §5.3)."""
        lines = [value.decode("latin-1") for key, value in self.exchange.headers if key == name]
        return ", ".join(lines) if lines else None

    def whole(self, name: str, maximum: int) -> int:
        """A parameter that is a whole number from 0; 0 where it is absent."""
        text = self.query.get(name) or "0"
        if not (text.isascii() and text.isdigit()) or len(text) > 7 or int(text) > maximum:
            raise RequestInvalid(
                f"The query parameter '{name}' must be a whole number from 0 to {maximum}.", target=name
            )
        return int(text)

    def skip(self) -> int:
        """How much of a list the caller has already."""
        return self.whole("skip", _MAX_SKIP)

    def next_link(self, route: str, following: int, total: int) -> str | None:
        """Where a list goes on after a page, if it does. Names the session that the list is of, where it is of one."""
        if following >= total:
            return None
        query = {"api-version": self.version.name, "skip": str(following)}
        if (identifier := self.query.get("identifier") or self.target.identifier) is not None:
            query["identifier"] = identifier
        return self.link_to(f"{route}?{urlencode(query, quote_via=quote)}")

    def link_to(self, rest: str) -> str:
        """An absolute URL below the pool's endpoint, as this caller reaches it."""
        return f"{self.exchange.origin()}{self.target.endpoint}/{rest}"


Handler = Callable[[Call], Awaitable[None]]


def session_headers(view: SessionView) -> Headers:
    return [
        (b"x-ms-session-guid", view.guid.encode()),
        (b"x-ms-new-allocation", b"true" if view.is_new else b"false"),
        expiry(view.expires_at),
    ]


def expiry(expires_at: float) -> tuple[bytes, bytes]:
    """When the session ends if nobody uses it again: beyond Azure, and so in a header."""
    return b"carrel-expire-at", timestamp(expires_at).encode()
