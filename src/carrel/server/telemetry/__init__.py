"""Traces of requests, on their way out by OTLP. Off unless the setting `otlp-endpoint` says where to (decision 0036)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrel.config import Config
from carrel.host.hostlink import HostLink
from carrel.server.telemetry.exporter import MOST, Counts, Exporter
from carrel.server.telemetry.fetching import Fetching
from carrel.server.telemetry.tracer import Tracer
from carrel.tracing import Outbox


@dataclass(frozen=True, slots=True)
class Telemetry:
    """`beside` are tasks that run as long as the gateway serves. Without a collector there is nothing of all this."""

    tracer: Tracer
    outbox: Outbox | None = None
    counts: Counts | None = None
    beside: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = ()


def begin(config: Config, headers: Mapping[str, str], authorities: Path, link: HostLink, instance: str) -> Telemetry:
    """While files can be read. `authorities` is a file of CAs; `instance` tells this server from others."""
    if not config.otlp_endpoint:
        return Telemetry(Tracer())
    outbox = Outbox(MOST)
    exporter = Exporter(config.otlp_endpoint, headers, authorities, outbox, instance)
    tracer = Tracer(outbox, config.trace_sample)
    return Telemetry(tracer, outbox, exporter.counts, (exporter.run, Fetching(link, outbox).run))
