"""The keys of one issuer, kept: fetched at the start and every hour, and sooner for a token of a key that is not known yet.

One task per issuer fetches (`run`); calls wait for its next round, all of them for the same one. A stranger can make up tokens of
unknown keys all day: that asks the issuer at most once in `refetch` seconds, and between those nobody waits. While the issuer is away
its keys of up to a day ago go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import httpx

from carrel.errors import IssuerUnavailable
from carrel.issuer_settings import TENANT, IssuerSpec, is_local, url
from carrel.pool_settings import ConfigError
from carrel.server.oidc import jwks
from carrel.server.oidc.jwks import Malformed, PublicKey

FRESH_S = 3600.0
STALE_S = 86_400.0
FETCH_S = 5.0  # for both documents
_WAIT_S = FETCH_S + 1.0
_MOST_BYTES = 256 * 1024
_RETRY_S = (1.0, 60.0)  # after a fetch that failed, the first and the last

log = logging.getLogger("carrel.issuers")


class KeySet:
    def __init__(self, spec: IssuerSpec, clock: Callable[[], float] = time.monotonic) -> None:
        self._spec = spec
        self._clock = clock
        self._keys: tuple[PublicKey, ...] = ()
        self._fetched_at = self._attempted_at = -float("inf")
        self._wanted = asyncio.Event()
        self._round = asyncio.Event()  # set when the fetch that is under way, or comes next, is over
        self._is_fetching = False
        self._fault = ""

    @property
    def keys(self) -> tuple[PublicKey, ...]:
        """Another object when they have changed, and when they are too old to go by."""
        if self._keys and self._clock() - self._fetched_at > STALE_S:
            self._keys = ()
        return self._keys

    async def find(self, key_id: str | None, algorithm: str) -> list[PublicKey]:
        """The keys that a token may be held against; may take a fetch. Raises IssuerUnavailable where there are none at all."""
        found = jwks.matching(self.keys, key_id, algorithm)
        if not found and self._may_fetch():
            await self._next_round()
            found = jwks.matching(self.keys, key_id, algorithm)
        if not self.keys:
            raise IssuerUnavailable(
                f"The keys of the issuer '{self._spec.name}' cannot be had now.", headers={"Retry-After": "5"}
            )
        return found

    async def run(self, http: httpx.AsyncClient) -> None:
        """Until cancelled."""
        pause = _RETRY_S[0]
        while True:
            fault = await self._attempt(http)
            pause = min(pause * 2, _RETRY_S[1]) if fault else _RETRY_S[0]
            try:
                async with asyncio.timeout(pause if fault else FRESH_S):
                    await self._wanted.wait()
            except TimeoutError:
                continue

    def _may_fetch(self) -> bool:
        return self._is_fetching or self._clock() - self._attempted_at >= self._spec.refetch

    async def _next_round(self) -> None:
        """Until the fetch is over that is under way, or that this asks for."""
        waited_for = self._round
        if not self._is_fetching:
            self._wanted.set()
        try:
            async with asyncio.timeout(_WAIT_S):
                await waited_for.wait()
        except TimeoutError:
            return

    async def _attempt(self, http: httpx.AsyncClient) -> str:
        """One round; what went wrong, "" for nothing. Each fault is said once in the log, and that it is well again."""
        self._wanted.clear()
        self._attempted_at, self._is_fetching = self._clock(), True
        try:
            async with asyncio.timeout(FETCH_S):
                keys = await self._fetch(http)
            fault = ""
        except Malformed as error:
            fault = str(error)
        except Exception as error:  # whatever the library raises for whatever an issuer may do
            fault = type(error).__name__
        finally:
            self._is_fetching = False
            self._round.set()
            self._round = asyncio.Event()
        if fault:
            level = logging.DEBUG if fault == self._fault else logging.WARNING
            log.log(level, "an issuer's keys cannot be had", extra={"issuer": self._spec.name, "why": fault})
            self._fault = fault
            return fault
        if self._fault:
            log.info("an issuer's keys can be had again", extra={"issuer": self._spec.name})
        self._fault = ""
        self._fetched_at = self._clock()
        if _names(keys) != _names(self._keys):
            self._keys = keys
            log.info("an issuer has other keys", extra={"issuer": self._spec.name, "count": len(keys)})
        return ""

    async def _fetch(self, http: httpx.AsyncClient) -> tuple[PublicKey, ...]:
        spec = self._spec
        discovery = spec.discovery or spec.issuer.rstrip("/") + "/.well-known/openid-configuration"
        configuration = jwks.document(await _get(http, discovery))
        if configuration.get("issuer") != spec.issuer:
            raise Malformed("its configuration is that of another issuer")
        address = configuration.get("jwks_uri")
        try:
            url("jwks_uri", address if isinstance(address, str) and TENANT not in address else None)
        except ConfigError:
            raise Malformed("its configuration has no usable address of keys") from None
        if is_local(str(address)) and not is_local(discovery):
            raise Malformed("its keys are at an address without TLS")
        keys = jwks.parse(await _get(http, str(address)))
        if not keys:
            raise Malformed("its key set has no usable key")
        return keys


async def _get(http: httpx.AsyncClient, address: str) -> bytes:
    """A small document. Not compressed: a few bytes could become gigabytes."""
    headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "carrel-issuer/1"}
    async with http.stream("GET", address, headers=headers) as reply:
        if reply.status_code != 200:
            raise Malformed(f"it answers {reply.status_code}")
        if reply.headers.get("content-encoding", "identity") != "identity":
            raise Malformed("its answer is compressed")
        content = bytearray()
        async for piece in reply.aiter_raw():
            content += piece
            if len(content) > _MOST_BYTES:
                raise Malformed(f"its answer has more than {_MOST_BYTES} bytes")
        return bytes(content)


def _names(keys: tuple[PublicKey, ...]) -> set[tuple[object, ...]]:
    return {(key.id, key.algorithms, key.key.public_numbers()) for key in keys}
