"""Every metric that there is: name, type, labels, meaning. What is exposed is made by this; docs/reference/metrics.md is held to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Type = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A counter's name is as it is queried, with `_total`."""

    name: str
    type: Type
    labels: tuple[str, ...]
    help: str


METRICS = (
    # ---- this gateway
    Metric("carrel_build_info", "gauge", ("version", "python"), "Always 1: which Carrel this is."),
    Metric(
        "carrel_http_requests_total",
        "counter",
        ("plane", "route", "method", "status", "api_version"),
        "Requests that are over.",
    ),
    Metric(
        "carrel_http_request_duration_seconds",
        "histogram",
        ("plane", "route"),
        "From a request's head to the end of its reply.",
    ),
    Metric("carrel_http_requests_in_flight", "gauge", (), "Requests under way, the scrape among them."),
    Metric("carrel_http_received_bytes_total", "counter", ("plane",), "Bytes of requests' bodies."),
    Metric("carrel_http_sent_bytes_total", "counter", ("plane",), "Bytes of replies' bodies."),
    Metric("carrel_tokens_refused_total", "counter", ("reason",), "Requests that were answered 401."),
    Metric("carrel_store_up", "gauge", (), "1 while the store answers."),
    Metric("carrel_store_answer_seconds", "gauge", (), "How long the store took to answer the scrape."),
    Metric("carrel_state_disk_bytes", "gauge", (), "Size of the file system of the state folder."),
    Metric("carrel_state_disk_free_bytes", "gauge", (), "What is free of it."),
    Metric("carrel_certificate_expiry_timestamp_seconds", "gauge", (), "When the certificate for HTTPS ends."),
    Metric("carrel_audit_waiting_records", "gauge", (), "Records of the audit log that are not known to be written."),
    Metric("carrel_audit_full", "gauge", (), "1 while there is no room for further records: it does not keep up."),
    Metric("carrel_spans_sent_total", "counter", (), "Spans of traces that the collector took."),
    Metric("carrel_spans_lost_total", "counter", (), "Spans that it did not take."),
    # ---- both processes
    Metric("carrel_process_cpu_seconds_total", "counter", ("process",), "Processor time of the gateway, and the host."),
    Metric("carrel_process_resident_memory_bytes", "gauge", ("process",), "Memory of it."),
    Metric("carrel_process_open_fds", "gauge", ("process",), "Its open descriptors."),
    Metric("carrel_process_max_fds", "gauge", ("process",), "The most that it may open."),
    Metric("carrel_process_start_time_seconds", "gauge", ("process",), "When it was started."),
    # ---- the host
    Metric("carrel_host_up", "gauge", (), "1 while the session host answers. What follows is there only then."),
    Metric("carrel_host_sandboxes", "gauge", (), "Sandboxes of all pools, starting ones included."),
    Metric("carrel_host_sandboxes_maximum", "gauge", (), "The most that there may be; 0 for no limit."),
    Metric("carrel_host_results_bytes", "gauge", (), "What results of executions hold, of all sessions."),
    Metric("carrel_host_results_maximum_bytes", "gauge", (), "The most that they may hold."),
    Metric("carrel_host_memory_bytes", "gauge", (), "Memory of the host's machine."),
    Metric("carrel_host_memory_available_bytes", "gauge", (), "What is available of it."),
    # ---- a pool
    Metric("carrel_pool_refused", "gauge", ("pool",), "1 where the pool cannot be served here."),
    Metric("carrel_pool_sandboxes", "gauge", ("pool", "state"), "Sandboxes: warm, starting, live."),
    Metric("carrel_pool_ready_sandboxes", "gauge", ("pool",), "Warm ones that the pool is to keep."),
    Metric("carrel_pool_maximum_sessions", "gauge", ("pool",), "The most sessions that it may have."),
    Metric("carrel_pool_waiting_callers", "gauge", ("pool",), "New sessions that wait for a sandbox."),
    Metric(
        "carrel_pool_waiting_executions", "gauge", ("pool",), "Executions that wait behind others of their session."
    ),
    Metric("carrel_sandboxes_started_total", "counter", ("pool", "runtime", "level"), "Sandboxes made."),
    Metric("carrel_sandbox_start_failures_total", "counter", ("pool",), "Sandboxes that could not be made."),
    Metric("carrel_sandbox_start_seconds", "histogram", ("pool",), "How long making one took: what a refill takes."),
    Metric("carrel_sessions_started_total", "counter", ("pool",), "Sessions begun."),
    Metric("carrel_sessions_ended_total", "counter", ("pool", "reason"), "Sessions ended."),
    Metric(
        "carrel_session_allocation_seconds",
        "histogram",
        ("pool",),
        "From a call for a new session until it has its sandbox.",
    ),
    Metric("carrel_first_call_seconds", "histogram", ("pool",), "From a new session's first call to its result."),
    Metric("carrel_executions_total", "counter", ("pool", "outcome"), "Executions that are over."),
    Metric("carrel_execution_seconds", "histogram", ("pool",), "How long the code ran."),
    Metric(
        "carrel_execution_queue_seconds", "histogram", ("pool",), "How long it waited behind others of its session."
    ),
    Metric("carrel_interpreters_restarted_total", "counter", ("pool",), "Interpreters replaced in a live session."),
    Metric(
        "carrel_session_received_bytes_total",
        "counter",
        ("pool",),
        "Bytes that sessions got: code, variables, uploads.",
    ),
    Metric(
        "carrel_session_sent_bytes_total", "counter", ("pool",), "Bytes that they gave: output, results, downloads."
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}
