"""What this gateway counts of each request: a few additions at its end, in dictionaries whose keys are bounded.

A key is made of words of ours alone (planes, route patterns, api-versions, methods that there are), never of what a caller wrote.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from typing import NamedTuple

from carrel.errors import CarrelError, Unauthorized
from carrel.observations import Histogram
from carrel.server.exchange import Exchange

NONE = "none"
OTHER = "other"
_MOST = 5_000  # keys: more than there are routes, methods and versions
_METHODS = frozenset(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
_CLASSES = {status: f"{status}xx" for status in range(1, 6)}


class Kind(NamedTuple):
    plane: str
    route: str
    method: str
    status: str  # 2xx; none where the caller left before there was one
    version: str


class Requests:
    def __init__(self) -> None:
        self.in_flight = 0
        self.over: dict[Kind, int] = {}
        self.times: defaultdict[tuple[str, str], Histogram] = defaultdict(Histogram)  # by plane and route
        self.received: Counter[str] = Counter()  # bytes of bodies, by plane
        self.sent: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()  # tokens, and calls without any, by why

    def refusal(self, error: CarrelError) -> None:
        """A request came to this error."""
        if isinstance(error, Unauthorized):
            self.refused[error.why] += 1

    def end(self, exchange: Exchange) -> None:
        """A request is over, in whichever way."""
        self.in_flight -= 1
        plane, route = exchange.plane or NONE, exchange.route or NONE
        method = exchange.method if exchange.method in _METHODS else OTHER
        kind = Kind(plane, route, method, _CLASSES.get(exchange.status // 100, NONE), exchange.version)
        if kind not in self.over and len(self.over) >= _MOST:
            kind, route = kind._replace(route=OTHER), OTHER
        self.over[kind] = self.over.get(kind, 0) + 1
        self.times[plane, route].add((time.perf_counter() - exchange.started) * 1000)
        self.received[plane] += exchange.received
        self.sent[plane] += exchange.sent
