"""The route itself: who may scrape (setting `metrics`), asking the host, and writing it down beside the loop."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric as Family

from carrel.audiences import Plane
from carrel.config import Config
from carrel.counts import HostCounts
from carrel.errors import CarrelError, RouteNotFound
from carrel.host.hostlink import HostLink
from carrel.proc import Disk
from carrel.roles import POOL_READ
from carrel.server.asgi import Receive, Scope, Send
from carrel.server.exchange import KEY, Exchange, method_not_allowed
from carrel.server.instruments import Instruments
from carrel.server.metrics import exposition
from carrel.server.metrics.exposition import gauge
from carrel.store import Store

PATH = "/metrics"
_ANSWER_S = 2.0  # for host and store each: Prometheus gives a scrape ten seconds


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the numbers are from. Made before the gateway gives up its rights."""

    instruments: Instruments
    link: HostLink
    store: Store
    disk: Disk


class Metrics:
    """The application behind `/metrics`, for both ways in: with `open` it needs no token, and is asked before anybody looks for one."""

    def __init__(self, config: Config, sources: Sources) -> None:
        self._access = config.metrics
        self._scope = f"/subscriptions/{config.subscription}"
        self._sources = sources

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """With a token: one for the control plane, of somebody who may read every pool."""
        exchange: Exchange = scope[KEY]
        principal, access = exchange.caller()
        principal.require_audience(Plane.ARM)
        exchange.route = PATH
        if self._access == "off":
            raise RouteNotFound("This server gives no metrics: its setting metrics is off.")
        if exchange.method not in ("GET", "HEAD"):
            raise method_not_allowed(PATH, exchange.method, ("GET", "HEAD"))
        access.require(principal, POOL_READ, self._scope)
        await self.show(exchange)

    async def show(self, exchange: Exchange) -> None:
        """`GET /metrics`."""
        families, counts = await self._look()
        is_open = exposition.is_open_metrics(exchange.header(b"accept") or "")
        # In a thread: with many pools it takes tens of milliseconds, and calls go on meanwhile.
        body, content_type = await asyncio.to_thread(_written, families, counts, is_open=is_open)
        await exchange.reply(200, body, content_type=(b"content-type", content_type))

    async def _look(self) -> tuple[list[Family], HostCounts | None]:
        """What this gateway itself counts, made into families while nothing changes it; and the host's numbers, which nobody else has."""
        sources = self._sources
        counts, answered_s = await asyncio.gather(self._ask_host(), self._ask_store())
        processes = {"gateway": sources.instruments.proc.process()}
        families = [*exposition.of_build(), *exposition.of_requests(sources.instruments.requests)]
        families += [*exposition.of_records(sources.instruments), *self._of_machine(answered_s)]
        families.append(gauge("carrel_host_up", ((), int(counts is not None))))
        if counts is not None:
            processes["host"] = counts.process
        return [*families, *exposition.of_processes(processes)], counts

    def _of_machine(self, answered_s: float | None) -> list[Family]:
        size, free = self._sources.disk.bytes()
        answers = [gauge("carrel_store_answer_seconds", ((), answered_s))] if answered_s is not None else []
        ends = self._sources.instruments.certificate.end.timestamp()
        return [
            gauge("carrel_store_up", ((), int(answered_s is not None))),
            *answers,
            gauge("carrel_state_disk_bytes", ((), size)),
            gauge("carrel_state_disk_free_bytes", ((), free)),
            gauge("carrel_certificate_expiry_timestamp_seconds", ((), ends)),
        ]

    async def _ask_host(self) -> HostCounts | None:
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._sources.link.counts()
        except (TimeoutError, CarrelError):
            return None

    async def _ask_store(self) -> float | None:
        """Seconds that a look at it took; None where it does not answer."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self._sources.store.generation()
        except Exception:  # whatever a database raises: that it does is what is told
            return None
        return time.perf_counter() - began


def _written(families: list[Family], counts: HostCounts | None, *, is_open: bool) -> tuple[bytes, bytes]:
    of_host = [] if counts is None else exposition.of_host(counts)
    return exposition.write([*families, *of_host], is_open=is_open)
