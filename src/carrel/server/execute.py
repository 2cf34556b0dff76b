"""The execute routes: run code in a session, and look at what ran."""

from __future__ import annotations

import asyncio
import contextlib
import time
from urllib.parse import quote, urlencode

from carrel.errors import ExecutionMissing
from carrel.models import Execution, SessionView
from carrel.server import stream
from carrel.server.audit import describing
from carrel.server.call import PAGE, Call, expiry, session_headers
from carrel.server.exchange import Headers
from carrel.server.telling import wants_events
from carrel.wire import jsons, names
from carrel.wire.events import MAX_NUMBER
from carrel.wire.executions import encode_execution, encode_executions, encode_old
from carrel.wire.programs import MAX_STREAM, NEW_STREAM, OLD_STREAM, ExecuteRequest, decode_execution
from carrel.wire.times import go_duration

MAX_WAIT_S = 30  # below what proxies and clients wait for a first byte


async def execute_old(call: Call) -> None:
    """`POST code/execute` and its aliases. The answer to code that fails is 200 like any other."""
    request, view, execution, handed_over = await _run(call, OLD_STREAM)
    headers = _headers(call, view, execution, handed_over)
    body = encode_old(execution, with_top_level=call.exchange.route == "python/execute")
    if not request.spec.is_asynchronous:
        return await call.exchange.reply(200, body, headers)
    return await call.exchange.reply(202, body, headers + _location(call, execution))


async def execute(call: Call) -> None:
    """`POST executions`, answered at its end or, to callers that accept events, while it runs."""
    if wants_events(call):
        request, identifier = await _request(call, MAX_STREAM)  # who watches wants to see it all
        return await stream.stream(call, identifier, request.spec, request.execution_type)
    request, view, execution, handed_over = await _run(call, NEW_STREAM)
    headers = _headers(call, view, execution, handed_over)
    body = encode_execution(execution, call.version, request.execution_type)
    status = 202 if request.spec.is_asynchronous else call.version.executions_status
    if status == 202:
        headers += _location(call, execution)
    return await call.exchange.reply(status, body, headers)


async def executions(call: Call) -> None:
    """`GET executions`: those of the session that are kept."""
    skip = call.skip()
    found, total = await call.link.executions(call.pool.name, call.identifier(), skip, PAGE)
    next_link = call.next_link("executions", skip + len(found), total) if found else None
    await call.exchange.reply(200, encode_executions(found, next_link))


async def execution(call: Call) -> None:
    """`GET executions/{id}`: as it stands, as it stands after `wait` seconds at most, or told from now on."""
    identifier, execution_id = call.identifier(), _execution_id(call.argument)
    if wants_events(call):
        return await stream.follow(call, identifier, execution_id)
    if wait := call.whole("wait", MAX_WAIT_S):
        await _until_over(call, identifier, execution_id, wait)
    found = await call.link.execution(call.pool.name, identifier, execution_id)
    return await _reply(call, found)


async def cancel(call: Call) -> None:
    """`POST executions/{id}/cancel`. One that is over stays as it is."""
    found = await call.link.cancel(call.pool.name, call.identifier(), _execution_id(call.argument))
    await _reply(call, found)


async def _reply(call: Call, found: Execution) -> None:
    call.exchange.details = describing.result(found)
    call.exchange.is_deferred = call.exchange.method == "GET" and not found.status.is_over  # a look, and no result
    headers: Headers = [(b"operation-id", found.id.encode())]
    if found.expires_at is not None:
        headers.append(expiry(found.expires_at))
    if not found.status.is_over:
        headers.append((b"retry-after", b"1"))  # Azure's pollers sleep 30 seconds without it
    await call.exchange.reply(200, encode_execution(found, call.version), headers)


async def _until_over(call: Call, identifier: str, execution_id: str, wait: int) -> None:
    """Follows it from beyond its last event: nothing comes but the end."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait):
            async with call.link.follow(call.pool.name, identifier, execution_id, MAX_NUMBER) as running:
                async for _ in running:
                    pass


async def _run(call: Call, default_stream: int) -> tuple[ExecuteRequest, SessionView, Execution, float]:
    """The request, what came of it, and the moment it was handed to the host."""
    request, identifier = await _request(call, default_stream)
    handed_over = time.perf_counter()
    view, result = await call.link.execute(call.pool.name, identifier, request.spec)
    call.exchange.details = describing.execution(call.pool, request.spec, result)
    return request, view, result, handed_over


async def _request(call: Call, default_stream: int) -> tuple[ExecuteRequest, str]:
    """What is to run, and in which session."""
    request = decode_execution(
        await call.exchange.body(jsons.MAX_BODY),
        default_stream=default_stream,
        operation_id=names.decode_operation_id(call.exchange.header(b"operation-id")),
        pool_maximum_s=call.pool.maximum_execution,
        asynchronous_maximum_s=call.pool.longest(is_asynchronous=True),
    )
    return request, call.identifier(request.identifier)


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
    return [*headers, (b"retry-after", b"1")] if not execution.status.is_over else headers


def _execution_id(text: str) -> str:
    """An id nobody could have been given is an execution that is not there."""
    if not text.isascii() or not text.isprintable() or len(text) > 128:
        raise ExecutionMissing("No execution with this id is known in this session.")
    return text
