"""Spans as OTLP has them: protobuf, made by OpenTelemetry's own encoder. Imported only where traces are on, and before `linux.renounce`."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from carrel import __version__
from carrel.tracing import Span

PATH = "v1/traces"
_KINDS = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SCOPE = InstrumentationScope("carrel", __version__)


class Encoder:
    """`instance` tells this server from others of the same name."""

    def __init__(self, instance: str) -> None:
        parts = ("gateway", "host")
        shared = {"service.name": "carrel", "service.version": __version__, "service.instance.id": instance}
        self._resources = {part: Resource({**shared, "carrel.part": part}) for part in parts}

    def encode(self, spans: Sequence[Span]) -> bytes:
        return bytes(encode_spans([self._readable(span) for span in spans]).SerializeToString())

    def _readable(self, span: Span) -> ReadableSpan:
        state = _state(span.state)
        context = SpanContext(int(span.trace, 16), int(span.id, 16), False, TraceFlags(1), state)
        parent = (
            SpanContext(context.trace_id, int(span.parent, 16), True, TraceFlags(1), state) if span.parent else None
        )
        return ReadableSpan(
            span.name,
            context=context,
            parent=parent,
            resource=self._resources.get(span.part, self._resources["gateway"]),
            attributes=span.attributes,
            kind=_KINDS[span.kind],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.begin,
            end_time=span.end,
            instrumentation_scope=_SCOPE,
        )


def rejected(answer: bytes) -> int:
    """How many spans a collector that has answered 200 did not take. An answer that is none says nothing."""
    try:
        return int(ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans)
    except Exception:  # whatever a stranger's bytes raise in the library
        return 0


def _state(text: str) -> TraceState:
    pairs = (each.strip().partition("=") for each in text.split(",") if "=" in each)
    return TraceState([(name, value) for name, _, value in pairs])
