"""From counts to what Prometheus reads: prometheus-client writes both formats, from families that are made here by the table."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.exposition import generate_latest as generate_text
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics.exposition import generate_latest as generate_open
from prometheus_client.registry import Collector

from carrel import __version__
from carrel.counts import HostCounts, PoolCounts, added
from carrel.observations import Histogram
from carrel.proc import Process
from carrel.server.instruments import Instruments
from carrel.server.metrics.requests import OTHER, Requests
from carrel.server.metrics.table import BY_NAME

MOST_POOLS = 200  # that have series of their own; the rest are added up under this name:
OTHER_POOLS = f"({OTHER})"
_DOUBLINGS = range(-1, 19)  # of a millisecond: buckets from 0.5 ms to 262 s

Labels = tuple[str, ...]


def is_open_metrics(accept: str) -> bool:
    """Whether a scraper's Accept names OpenMetrics, as Prometheus' does; others get the text format."""
    return any(each.partition(";")[0].strip().lower() == "application/openmetrics-text" for each in accept.split(","))


def write(families: list[Family], *, is_open: bool) -> tuple[bytes, bytes]:
    """The body and its content type."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Ready(families))
    if is_open:
        return generate_open(registry), CONTENT_TYPE_LATEST.encode()  # type: ignore[no-untyped-call]  # its signature has no types
    return generate_text(registry), CONTENT_TYPE_PLAIN_0_0_4.encode()


class _Ready(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def gauge(name: str, *values: tuple[Labels, float]) -> Family:
    metric = BY_NAME[name]
    family = GaugeMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def counter(name: str, *values: tuple[Labels, float]) -> Family:
    metric = BY_NAME[name]
    family = CounterMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in values:
        family.add_metric(labels, value)
    return family


def histogram(name: str, *values: tuple[Labels, Histogram]) -> Family:
    metric = BY_NAME[name]
    family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
    for labels, value in values:
        buckets = [(str(2.0**doubling / 1000), float(value.up_to(doubling))) for doubling in _DOUBLINGS]
        family.add_metric(labels, [*buckets, ("+Inf", float(value.count))], value.sum_ms / 1000)
    return family


def of_build() -> Iterator[Family]:
    yield gauge("carrel_build_info", ((__version__, platform.python_version()), 1))


def of_requests(requests: Requests) -> Iterator[Family]:
    yield counter("carrel_http_requests_total", *requests.over.items())
    yield histogram("carrel_http_request_duration_seconds", *requests.times.items())
    yield gauge("carrel_http_requests_in_flight", ((), requests.in_flight))
    for name, counted in (("received", requests.received), ("sent", requests.sent)):
        yield counter(f"carrel_http_{name}_bytes_total", *(((plane,), count) for plane, count in counted.items()))
    yield counter("carrel_tokens_refused_total", *(((why,), count) for why, count in requests.refused.items()))


def of_records(instruments: Instruments) -> Iterator[Family]:
    """Nothing waits and nothing is lost where audit log or traces are off."""
    ledger, counts = instruments.ledger, instruments.telemetry.counts
    outbox = instruments.telemetry.outbox
    yield gauge("carrel_audit_waiting_records", ((), 0 if ledger is None else ledger.waiting))
    yield gauge("carrel_audit_full", ((), int(ledger is not None and not ledger.has_room)))
    yield counter("carrel_spans_sent_total", ((), 0 if counts is None else counts.sent))
    lost = (0 if counts is None else counts.lost) + (0 if outbox is None else outbox.dropped)
    yield counter("carrel_spans_lost_total", ((), lost))


def of_processes(processes: Mapping[str, Process]) -> Iterator[Family]:
    each = [((name,), process) for name, process in processes.items()]
    yield counter("carrel_process_cpu_seconds_total", *((name, process.cpu_s) for name, process in each))
    yield gauge("carrel_process_resident_memory_bytes", *((name, process.memory_bytes) for name, process in each))
    yield gauge("carrel_process_open_fds", *((name, process.open_files) for name, process in each))
    yield gauge("carrel_process_max_fds", *((name, process.maximum_files) for name, process in each))
    yield gauge("carrel_process_start_time_seconds", *((name, process.started_at) for name, process in each))


def of_host(counts: HostCounts) -> Iterator[Family]:
    books, machine = counts.books, counts.machine
    yield gauge("carrel_host_sandboxes", ((), books.sandboxes))
    yield gauge("carrel_host_sandboxes_maximum", ((), books.maximum_sandboxes))
    yield gauge("carrel_host_results_bytes", ((), books.results_bytes))
    yield gauge("carrel_host_results_maximum_bytes", ((), books.maximum_results_bytes))
    yield gauge("carrel_host_memory_bytes", ((), machine.memory_bytes))
    yield gauge("carrel_host_memory_available_bytes", ((), machine.available_bytes))
    yield from _of_pools(_bounded(counts.pools))


def _bounded(pools: Mapping[str, PoolCounts]) -> Mapping[str, PoolCounts]:
    if len(pools) <= MOST_POOLS:
        return pools
    names = sorted(pools)
    own = {name: pools[name] for name in names[:MOST_POOLS]}
    return {**own, OTHER_POOLS: added(pools[name] for name in names[MOST_POOLS:])}


_POOL_GAUGES = {
    "carrel_pool_refused": "refused",
    "carrel_pool_ready_sandboxes": "ready",
    "carrel_pool_maximum_sessions": "maximum",
    "carrel_pool_waiting_callers": "callers",
    "carrel_pool_waiting_executions": "queued",
}
_POOL_COUNTERS = {
    "carrel_sandbox_start_failures_total": "failed",
    "carrel_sessions_started_total": "sessions",
    "carrel_interpreters_restarted_total": "restarts",
    "carrel_session_received_bytes_total": "bytes_in",
    "carrel_session_sent_bytes_total": "bytes_out",
}
_POOL_TIMES = {
    "carrel_sandbox_start_seconds": "start",
    "carrel_session_allocation_seconds": "allocation",
    "carrel_first_call_seconds": "first_call",
    "carrel_execution_seconds": "execution",
    "carrel_execution_queue_seconds": "queue",
}


def _of_pools(pools: Mapping[str, PoolCounts]) -> Iterator[Family]:
    states = ("warm", "starting", "live")
    yield gauge(
        "carrel_pool_sandboxes",
        *(((name, state), getattr(pool, state)) for name, pool in pools.items() for state in states),
    )
    for metric, field in _POOL_GAUGES.items():
        yield gauge(metric, *(((name,), getattr(pool, field)) for name, pool in pools.items()))
    for metric, field in _POOL_COUNTERS.items():
        yield counter(metric, *(((name,), getattr(pool, field)) for name, pool in pools.items()))
    for metric, field in (("carrel_sessions_ended_total", "ended"), ("carrel_executions_total", "executions")):
        words = ((name, getattr(pool, field)) for name, pool in pools.items())
        yield counter(metric, *(((name, word), count) for name, counts in words for word, count in counts.items()))
    made = ((name, what, count) for name, pool in pools.items() for what, count in pool.made.items())
    yield counter("carrel_sandboxes_started_total", *(((name, *what.split(" ")), count) for name, what, count in made))
    for metric, field in _POOL_TIMES.items():
        yield histogram(metric, *(((name,), pool.times[field]) for name, pool in pools.items()))
