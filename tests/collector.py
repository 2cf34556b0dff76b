"""A collector of traces: a real HTTP server that takes OTLP, or does worse."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Told:
    """A span as a collector gets it. Ids in hex."""

    name: str
    trace: str
    id: str
    parent: str
    kind: int
    error: str
    begin: int
    end: int
    attributes: dict[str, Any]
    resource: dict[str, Any]
    state: str


Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


@dataclass
class Collector:
    """`answers` are what the next requests get, each a function of the handler; then all is taken."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    taken: list[Told] = field(default_factory=list)

    def of(self, trace: str) -> list[Told]:
        return [span for span in list(self.taken) if span.trace == trace]

    def named(self, trace: str) -> dict[str, Told]:
        return {span.name: span for span in self.of(trace)}


def status(number: int, **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(number)
        for name, value in {**headers, "content-length": "0"}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return answer


def body(content: bytes) -> Answer:
    """200 with that as what it says."""

    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("content-length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def without_end(handler: http.server.BaseHTTPRequestHandler) -> None:
    """An answer that goes on for as long as somebody reads it."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b"x" * 65_536)
    except OSError:
        handler.close_connection = True


def nothing(handler: http.server.BaseHTTPRequestHandler) -> None:
    """The connection ends without an answer."""
    handler.close_connection = True


def silence(handler: http.server.BaseHTTPRequestHandler) -> None:
    """No answer, for longer than anybody waits."""
    handler.connection.settimeout(60)
    with suppress(OSError):
        handler.connection.recv(1)
    handler.close_connection = True


def no_http(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"\x00\xff garbage\r\n" * 1000)
    handler.close_connection = True


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            found.requests.append(({name.lower(): value for name, value in self.headers.items()}, content))
            if found.answers:
                return found.answers.pop(0)(self)
            if self.path == "/v1/traces":
                found.taken.extend(_spans(content))
            return status(200 if self.path == "/v1/traces" else 404)(self)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as listening:
        listening.daemon_threads = True
        listening.block_on_close = False
        found = Collector(f"http://127.0.0.1:{listening.server_port}")
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            listening.shutdown()


def _spans(content: bytes) -> Iterator[Told]:
    for each in ExportTraceServiceRequest.FromString(content).resource_spans:
        resource = {pair.key: _value(pair.value) for pair in each.resource.attributes}
        for scope in each.scope_spans:
            for span in scope.spans:
                yield Told(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    span.status.message if span.status.code == 2 else "",
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    {pair.key: _value(pair.value) for pair in span.attributes},
                    resource,
                    span.trace_state,
                )


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def now_ns() -> int:
    return time.time_ns()
