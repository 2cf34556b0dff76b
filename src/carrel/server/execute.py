"""The execute routes: run code in a session, and look at what ran."""

from __future__ import annotations

import time
from urllib.parse import quote, urlencode

from carrel.errors import ExecutionMissing
from carrel.models import Execution, SessionView, Status
from carrel.server.call import Call, session_headers
from carrel.server.exchange import Headers
from carrel.wire import jsons, names
from carrel.wire.executions import encode_execution, encode_old
from carrel.wire.programs import NEW_STREAM, OLD_STREAM, ExecuteRequest, decode_execution
from carrel.wire.times import go_duration

_RUNNING = (Status.NOT_STARTED, Status.RUNNING)


async def execute_old(call: Call) -> None:
    """`POST code/execute` and its aliases. The answer to code that fails is 200 like any other."""
    request, view, execution, handed_over = await _run(call, OLD_STREAM)
    headers = _headers(call, view, execution, handed_over)
    body = encode_old(execution, with_top_level=call.exchange.route == "python/execute")
    if not request.spec.is_asynchronous:
        return await call.exchange.reply(200, body, headers)
    return await call.exchange.reply(202, body, headers + _location(call, execution))


async def execute(call: Call) -> None:
    """`POST executions`."""
    request, view, execution, handed_over = await _run(call, NEW_STREAM)
    headers = _headers(call, view, execution, handed_over)
    body = encode_execution(execution, call.version, request.execution_type)
    status = 202 if request.spec.is_asynchronous else call.version.executions_status
    if status == 202:
        headers += _location(call, execution)
    await call.exchange.reply(status, body, headers)


async def execution(call: Call) -> None:
    """`GET executions/{id}`."""
    identifier = call.identifier()
    found = await call.link.execution(call.pool.name, identifier, _execution_id(call.argument))
    headers: Headers = [(b"operation-id", found.id.encode())]
    if found.status in _RUNNING:
        headers.append((b"retry-after", b"1"))  # Azure's pollers sleep 30 seconds without it
    await call.exchange.reply(200, encode_execution(found, call.version), headers)


async def _run(call: Call, default_stream: int) -> tuple[ExecuteRequest, SessionView, Execution, float]:
    """The request, what came of it, and the moment it was handed to the host."""
    request = decode_execution(
        await call.exchange.body(jsons.MAX_BODY),
        default_stream=default_stream,
        operation_id=names.decode_operation_id(call.exchange.header(b"operation-id")),
        pool_maximum_s=call.pool.maximum_execution,
    )
    identifier = call.identifier(request.identifier)
    handed_over = time.perf_counter()
    view, result = await call.link.execute(call.pool.name, identifier, request.spec)
    return request, view, result, handed_over


def _headers(call: Call, view: SessionView, execution: Execution, handed_over: float) -> Headers:
    """The session and the timings, in milliseconds but for Go's duration, as the live service names them."""
    now = time.perf_counter()
    started = call.exchange.started
    return [
        *session_headers(view),
        (b"operation-id", execution.id.encode()),
        (b"x-ms-preparation-time", b"%.6f" % ((handed_over - started) * 1000)),
        (b"x-ms-execution-request-time", b"%.6f" % ((now - handed_over) * 1000)),
        (b"x-ms-execution-read-response-time", b"%.6f" % 0),
        (b"x-ms-total-execution-service-time", b"%.6f" % ((now - started) * 1000)),
        (b"x-ms-container-execution-duration", b"%d" % execution.wall_ms),
        (b"x-ms-overall-execution-time", go_duration(now - started).encode()),
    ]


def _location(call: Call, execution: Execution) -> Headers:
    """Where to ask for the execution: absolute, since Azure's pollers and `urljoin` both take it."""
    query = urlencode({"api-version": call.version.name, "identifier": execution.identifier}, quote_via=quote)
    url = call.link_to(f"executions/{quote(execution.id, safe='')}?{query}")
    headers: Headers = [(b"operation-location", url.encode("ascii"))]
    return [*headers, (b"retry-after", b"1")] if execution.status in _RUNNING else headers


def _execution_id(text: str) -> str:
    """An id nobody could have been given is an execution that is not there."""
    if not text.isascii() or not text.isprintable() or len(text) > 128:
        raise ExecutionMissing("No execution with this id is known in this session.")
    return text
