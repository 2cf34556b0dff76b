"""The host's spans, brought to the gateway's outbox: the host talks to nobody but its gateways, so theirs is the one way out."""

from __future__ import annotations

import asyncio
import logging

from carrel.errors import CarrelError
from carrel.host.hostlink import HostLink
from carrel.tracing import Outbox

AGAIN_S = (0.5, 10.0)  # between two attempts, the first and the last

_log = logging.getLogger("carrel.traces")


class Fetching:
    def __init__(self, link: HostLink, outbox: Outbox) -> None:
        self._link, self._outbox = link, outbox

    async def run(self) -> None:
        """Until cancelled."""
        pause = AGAIN_S[0]
        while True:
            try:
                async with self._link.spans() as batches:
                    async for spans in batches:
                        pause = AGAIN_S[0]
                        for span in spans:
                            self._outbox.put(span)
            except CarrelError:
                pass  # the host is away, which is said elsewhere
            except Exception:  # a mistake of ours: it must not end the gateway
                _log.exception("the host's spans cannot be fetched")
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_S[1])
