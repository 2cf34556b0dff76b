"""Spans on their way to a collector: batches over OTLP/HTTP, by the client that the gateway's other outgoing calls have.

OpenTelemetry's own exporter brings `requests` and a thread of its own, which would have to be there before the gateway gives up its rights,
with capabilities that the others lose; so only its data model and encoder are used (decision 0036).

A collector that is away, slow, refuses or lies costs spans and nothing else. At most MOST wait; what comes to a full queue is dropped and
counted. One request at a time, each within its time, of its answer ANSWER_BYTES are looked at. What may be repeated (OTLP, "Failures") is,
a few times, with growing pauses or after the collector's own, within bounds.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carrel.server import outgoing
from carrel.tracing import Outbox, Span

if TYPE_CHECKING:
    import httpx

    from carrel.server.telemetry.otlp import Encoder

MOST = 8192  # spans that wait
BATCH = 512
LINGER_S = 0.3  # so that a batch is one, where there is little to send
ANSWER_BYTES = 64 * 1024
LAST_S = 1.0  # for what is still to be sent when the gateway ends
TOLD_S = 60.0  # between two lines of the log that say the same
_AGAIN = (429, 502, 503, 504)

_log = logging.getLogger("carrel.traces")


@dataclass(frozen=True, slots=True)
class Patience:
    """With a collector. `pauses_s` are those before each further try, where it does not say how long, up to `longest_s`."""

    answer_s: float = 10.0
    pauses_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    longest_s: float = 30.0


@dataclass(slots=True)
class Counts:
    sent: int = 0
    lost: int = 0  # not taken by the collector; what the queue had no room for is the outbox's


class Exporter:
    """Made while files can be read; `run` while the gateway serves."""

    def __init__(
        self,
        endpoint: str,
        headers: Mapping[str, str],
        authorities: Path,
        outbox: Outbox,
        instance: str,
        patience: Patience | None = None,
    ) -> None:
        from carrel.server.telemetry import otlp  # megabytes, which a gateway without traces does not need

        self._url = f"{endpoint.rstrip('/')}/{otlp.PATH}"
        self._headers = {**headers, "content-type": "application/x-protobuf", "user-agent": "carrel-otlp/1"}
        self._encoder: Encoder = otlp.Encoder(instance)
        self._rejected: Callable[[bytes], int] = otlp.rejected
        self._trust = ssl.create_default_context(cafile=authorities)
        self._outbox = outbox
        self._patience = patience or Patience()
        self._more = asyncio.Event()
        self._told_at = -TOLD_S
        self._is_failing = False
        self._untold = 0
        self.counts = Counts()
        outbox.tell = self._more.set
        self._rehearse()

    async def run(self) -> None:
        """Until cancelled."""
        async with outgoing.client(self._trust, self._patience.answer_s, 2) as http:
            try:
                while True:
                    await self._more.wait()
                    if len(self._outbox) < BATCH:
                        await asyncio.sleep(LINGER_S)
                    self._more.clear()
                    while spans := self._outbox.take(BATCH):
                        await self._export(http, spans)
            finally:
                with suppress(Exception):
                    async with asyncio.timeout(LAST_S):
                        await self._last(http)

    async def _last(self, http: httpx.AsyncClient) -> None:
        if spans := self._outbox.take(BATCH):
            await self._post(http, self._encoder.encode(spans))

    async def _export(self, http: httpx.AsyncClient, spans: list[Span]) -> None:
        """Whatever comes of it: a mistake of ours in here must not end the gateway."""
        why, left = "", len(spans)
        try:
            body = await asyncio.to_thread(self._encoder.encode, spans)
            why, left = await self._deliver(http, body, left)
        except Exception as error:
            why = type(error).__name__
        self.counts.sent += len(spans) - left
        self.counts.lost += left
        self._tell(why, left)

    async def _deliver(self, http: httpx.AsyncClient, body: bytes, count: int) -> tuple[str, int]:
        """Why some were not taken, and how many."""
        why = ""
        for pause in (*self._patience.pauses_s, None):
            status, why, after, rejected = await self._post(http, body)
            if status == 200:
                return ("some were rejected" if rejected else "", min(max(rejected, 0), count))
            if pause is None or status not in (0, *_AGAIN):
                break
            await asyncio.sleep(after if after is not None else pause * random.uniform(0.5, 1.5))  # noqa: S311 - not all at once
        return why, count

    async def _post(self, http: httpx.AsyncClient, body: bytes) -> tuple[int, str, float | None, int]:
        """Status (0: none), what went wrong, when to try again as the collector has it, and how many it rejected."""
        try:
            async with (
                asyncio.timeout(self._patience.answer_s),
                http.stream("POST", self._url, content=body, headers=self._headers) as reply,
            ):
                status = reply.status_code
                if 200 <= status < 300:
                    return 200, "", None, self._rejected(await _beginning(reply))
                return status, f"status {status}", self._pause(reply.headers.get("retry-after")), 0
        except Exception as error:  # whatever the library raises for whatever an address may be
            return 0, type(error).__name__, None, 0

    def _pause(self, text: str | None) -> float | None:
        """`Retry-After` in seconds, within bounds; a date is not read."""
        if text is None or not (text.isascii() and text.isdigit() and len(text) < 10):
            return None
        return min(float(text), self._patience.longest_s)

    def _tell(self, why: str, left: int) -> None:
        if not why:
            if self._is_failing:
                _log.info("traces are taken again", extra={"count": self._untold})
            self._is_failing, self._untold = False, 0
            return
        self._is_failing = True
        self._untold += left
        if time.monotonic() - self._told_at >= TOLD_S:
            self._told_at = time.monotonic()
            _log.warning("traces are not taken", extra={"why": why, "count": self._untold})

    def _rehearse(self) -> None:
        """All that is loaded when it is first used, is loaded now."""
        self._encoder.encode(
            [Span("", "1" * 32, "1" * 16, "1" * 16, 0, 0, attributes={"a": 1, "b": ""}, error="x", state="a=b")]
        )
        self._rejected(b"")
        asyncio.run(outgoing.rehearse())


async def _beginning(reply: httpx.Response) -> bytes:
    """Of an answer that may be endless. One that is too long is not read, and the connection is closed."""
    found = b""
    async for piece in reply.aiter_bytes():
        found += piece
        if len(found) > ANSWER_BYTES:
            return b""
    return found
