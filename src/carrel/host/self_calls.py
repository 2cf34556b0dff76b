"""What hostlink can ask of the host itself: how it is, and what it has recorded."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import resource
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from carrel import __version__
from carrel.host import codec
from carrel.host.call import Call
from carrel.models import Vitals
from carrel.proc import Proc
from carrel.tracing import Outbox
from carrel.troubles import Troubles

BATCH = 256  # spans of a frame
PAUSE_S = 0.2  # so that a frame has some
SPANS = 4096  # of calls that are recorded, until the gateway fetches them


@dataclass(frozen=True, slots=True)
class Instruments:
    """What shows how this host is. Made when it begins."""

    troubles: Troubles = field(default_factory=lambda: Troubles("host"))
    outbox: Outbox = field(default_factory=lambda: Outbox(SPANS))
    proc: Proc = field(default_factory=Proc)
    started_at: float = field(default_factory=time.time)
    maximum_sandboxes: int = 0


class SelfCalls:
    def __init__(self, instruments: Instruments) -> None:
        self._instruments = instruments
        self.ops: dict[str, Callable[[Call], Awaitable[None]]] = {"vitals": self._vitals, "spans": self._spans}
        self._has_spans = asyncio.Event()
        instruments.outbox.tell = self._has_spans.set

    async def _spans(self, call: Call) -> None:
        """Those of calls that are recorded, some at a time. Without end."""
        outbox = self._instruments.outbox
        while True:
            await call.while_there(self._has_spans.wait())
            await asyncio.sleep(PAUSE_S)
            self._has_spans.clear()
            while spans := outbox.take(BATCH):
                told = [{**dataclasses.asdict(each), "attributes": dict(each.attributes)} for each in spans]
                await call.send({"data": 1}, codec.json_to(told))

    async def _vitals(self, call: Call) -> None:
        own = self._instruments
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        vitals = Vitals(os.getpid(), __version__, own.started_at, peak, own.maximum_sandboxes)
        troubles = [dataclasses.asdict(each) for each in own.troubles.last()]
        call.end({"vitals": dataclasses.asdict(vitals)}, codec.json_to(troubles))
