"""Guessing is slow: failures are counted by who guesses and by what is guessed at, and drain away with time.

Three counts, each a bucket that a failure fills and time empties. A peer's failures about one name are few, a peer's about all names
are more: both stop that peer alone. All peers' failures about one name stop the guessing of many at once, but not those peers that have
proved themselves for that name before, so that nobody can lock somebody else out. Nothing is locked for ever, and no book grows for ever.

One peer's checks of one name wait for each other: a thousand guesses at the same moment are not one, and a thousand right answers are none.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from carrel.server.exchange import Exchange
from carrel.server.peers import is_loopback, uid_of
from carrel.wire.oauth import OAuthError

_MOST = 20_000  # entries of each book: some 3 MB; the longest untouched go first
_TRUST_S = 86_400.0
_WAITING = 64  # checks of one peer for one name


@dataclass(frozen=True, slots=True)
class Limit:
    """So many failures at once, and another one every so many seconds."""

    burst: int
    every_s: float


PAIR = Limit(8, 15.0)
PEER = Limit(60, 2.0)
NAME = Limit(60, 10.0)


class Throttle:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pairs = _Book(PAIR)
        self._peers = _Book(PEER)
        self._names = _Book(NAME)
        self._trusted: OrderedDict[str, float] = OrderedDict()
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}

    @contextlib.asynccontextmanager
    async def attempt(self, peer: str, name: str, *, is_guessable: bool = True) -> AsyncIterator[Attempt]:
        """Around one check. Raises OAuthError (429) where too many failed. `is_guessable`: people chose what is checked, so that many
        peers together could find it."""
        pair = f"{peer} {name}"
        async with self._turn(pair):
            now = self._clock()
            counted = [(self._pairs, pair), (self._peers, peer)]
            if is_guessable and self._trusted.get(pair, -math.inf) < now - _TRUST_S:
                counted.append((self._names, name))
            wait = max(book.wait(key, now) for book, key in counted)
            if wait > 0:
                raise too_many(wait)
            for book, key in counted:  # also while it is checked, for the two books that have other checks in them
                book.add(key, now, 1)
            attempt = Attempt()
            try:
                yield attempt
            finally:
                if attempt.has_passed or not attempt.is_judged:
                    for book, key in counted:
                        book.add(key, self._clock(), -1)
                if attempt.has_passed:
                    self._trust(pair)

    @contextlib.asynccontextmanager
    async def _turn(self, pair: str) -> AsyncIterator[None]:
        lock, waiting = self._turns.get(pair, (asyncio.Lock(), 0))
        if waiting >= _WAITING:
            raise too_many(1)
        self._turns[pair] = (lock, waiting + 1)
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns.pop(pair)
            if waiting > 1:
                self._turns[pair] = (lock, waiting - 1)

    def _trust(self, pair: str) -> None:
        self._trusted[pair] = self._clock()
        self._trusted.move_to_end(pair)
        _trim(self._trusted)


@dataclass(slots=True)
class Attempt:
    """How a check ended; one that never came to an end (the caller went, the store is away) is no failure."""

    is_judged: bool = False
    has_passed: bool = False

    def judge(self, *, has_passed: bool) -> bool:
        self.is_judged, self.has_passed = True, has_passed
        return has_passed


class _Book:
    """Levels of buckets by key, as they were when last touched."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str, now: float) -> float:
        """Seconds until one more may fail; 0 where it may now."""
        over = self._level(key, now) - (self._limit.burst - 1)
        return over * self._limit.every_s if over > 0 else 0.0

    def add(self, key: str, now: float, count: int) -> None:
        level = max(0.0, self._level(key, now) + count)
        if level:
            self._levels[key] = (level, now)
            self._levels.move_to_end(key)
            _trim(self._levels)
        else:
            self._levels.pop(key, None)

    def _level(self, key: str, now: float) -> float:
        level, at = self._levels.get(key, (0.0, now))
        return max(0.0, level - (now - at) / self._limit.every_s)


class Rate:
    """How often something may be done at all, by whom."""

    def __init__(self, limit: Limit, clock: Callable[[], float]) -> None:
        self._book = _Book(limit)
        self._clock = clock

    def take(self, key: str) -> None:
        """Raises OAuthError (429)."""
        now = self._clock()
        if wait := self._book.wait(key, now):
            raise too_many(wait)
        self._book.add(key, now, 1)


def _trim(book: OrderedDict[str, Any]) -> None:
    while len(book) > _MOST:
        book.popitem(last=False)


def too_many(wait_s: float) -> OAuthError:
    seconds = str(max(1, math.ceil(wait_s)))
    return OAuthError(
        "temporarily_unavailable",
        50196,
        f"There were too many attempts. Try again in {seconds} seconds.",
        status=429,
        headers={"Retry-After": seconds},
    )


def peer_of(exchange: Exchange) -> str:
    """Who asks, as far as guessing is concerned: a user of this machine, an IPv4 address, or the IPv6 network that one host has."""
    address = exchange.scope["client"]
    if address is None:
        return "?"
    if is_loopback(address):
        return f"uid {uid_of(address, exchange.scope['server'])}"
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
