"""Lines 1 to 3: a first call, a later call, and many at once, over HTTP."""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench import programs
from bench.http import BadReply, Connection, Endpoint, rate
from bench.lines import Line, holds, ms, p50, percentile, summary
from bench.product import CODE, Pool, fresh
from carrel.backends.images import Image

SESSIONS = 8
_FIRST_MORE_MS, _FIRST_P99_MS, _TIMES_FLOOR, _RATE_SHARE = 2.0, 25.0, 2.0, 0.5
# Calls of one side in a round, and how many of them come before those that count: the first ones after a change of sides find the other
# side's data in the caches. In short batches that makes the floor, which is quicker, slower than it is and the ratio too good.
_BATCH, _REWARM = 200, 25
_SETTLE_S = 0.02  # the kill of an ended session's sandbox, which no status shows


@contextlib.contextmanager
def floor(image: Image, sink: str = "", interpreters: int = SESSIONS) -> Iterator[Endpoint]:
    """The raw application with its interpreters behind it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carrel-bench-")))
        paths = [folder / f"{number}.sock" for number in range(interpreters)]
        for path in paths:
            command: list[object] = [image.host_python, programs.floor("interpreter"), path]
            environment = image.host_environment() | {"IPYTHONDIR": str(folder / "ipython"), "HOME": str(folder)}
            process = stack.enter_context(programs.program(command, environment=environment))
            programs.wait_for(path.exists, "a floor's interpreter", process)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        command = [sys.executable, "-m", "bench.floors.relay", listener.fileno(), sink, *paths]
        stack.enter_context(programs.program(command, inherit=[listener.fileno()]))
        yield Endpoint(listener.getsockname()[1])


def execute(endpoint: Endpoint, number: int) -> bytes:
    """The request that runs `1+1` in the floor's interpreter `number`."""
    return endpoint.request("POST", f"/execute/{number}", CODE)


def first_call(pool: Pool, count: int) -> Line:
    """New identifier and running session in turns, each with the pool full and quiet before, so that both find the same machine."""
    first: list[float] = []
    later: list[float] = []
    running = fresh()
    with Connection(pool.endpoint) as connection:
        _check(connection.call(pool.execute(running)))
        for _ in range(count):
            _settle(pool)
            later.append(connection.timed(pool.execute(running))[0])
            _settle(pool)
            identifier = fresh()
            took, body = connection.timed(pool.execute(identifier))
            _check(body)
            first.append(took)
            pool.end(connection, identifier)
        pool.end(connection, running)
    return _first_line(first, later)


def _settle(pool: Pool) -> None:
    pool.wait_until_quiet()
    time.sleep(_SETTLE_S)


def _first_line(first: list[float], later: list[float]) -> Line:
    more, p99 = p50(first) - p50(later), percentile(first, 0.99)
    return Line(
        what="first call of a new identifier, warm pool",
        measured=f"{ms(p50(first))}, p99 {ms(p99)}",
        floor=f"{ms(p50(later))} (running session)",
        ratio=f"{more:+.2f} ms",
        budget=f"+{_FIRST_MORE_MS:.0f} ms, p99 < {_FIRST_P99_MS:.0f} ms",
        is_met=more <= _FIRST_MORE_MS and p99 < _FIRST_P99_MS,
        detail={"first_ms": summary(first), "later_ms": summary(later)},
    )


def later_call(pool: Pool, floor: Endpoint, rounds: int) -> Line:
    identifier = fresh()
    ours: list[float] = []
    theirs: list[float] = []
    with Connection(pool.endpoint) as product, Connection(floor) as raw:
        product_request, raw_request = pool.execute(identifier), execute(floor, 0)
        _check(product.call(product_request))
        _check_raw(raw.call(raw_request))
        pool.wait_until_quiet()
        for number in range(rounds + 1):
            a = _batch(product, product_request)
            b = _batch(raw, raw_request)
            if number > 0:  # the first round warms both up
                ours += a
                theirs += b
        pool.end(product, identifier)
    of_rounds = _of_rounds(ours, theirs)
    return Line(
        what="1+1 on a running session, p50",
        measured=ms(p50(ours)),
        floor=ms(p50(theirs)),
        ratio=f"{p50(of_rounds):.2f}",
        budget=f"ratio ≤ {_TIMES_FLOOR:.0f}",
        is_met=holds(of_rounds, at_most=_TIMES_FLOOR),
        detail={"product_ms": summary(ours), "floor_ms": summary(theirs), "of_rounds": of_rounds},
    )


def many_calls(pool: Pool, floor: Endpoint, rounds: int, seconds: float) -> Line:
    identifiers = [fresh() for _ in range(SESSIONS)]
    requests = [pool.execute(identifier) for identifier in identifiers]
    raw_requests = [execute(floor, number) for number in range(SESSIONS)]
    with Connection(pool.endpoint) as product:
        for request in requests:
            _check(product.call(request))
        pool.wait_until_quiet()
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds):
            ours.append(rate(pool.endpoint, requests, seconds))
            theirs.append(rate(floor, raw_requests, seconds))
        for identifier in identifiers:
            pool.end(product, identifier)
    shares = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Line(
        what=f"executions per second, {SESSIONS} sessions",
        measured=f"{statistics.median(ours):.0f}/s",
        floor=f"{statistics.median(theirs):.0f}/s",
        ratio=f"{p50(shares):.2f}",
        budget=f"ratio ≥ {_RATE_SHARE}",
        is_met=holds(shares, at_least=_RATE_SHARE),
        detail={"product_per_s": ours, "floor_per_s": theirs, "of_rounds": shares},
    )


def _batch(connection: Connection, request: bytes) -> list[float]:
    return [connection.timed(request)[0] for _ in range(_BATCH)][_REWARM:]


def _of_rounds(ours: list[float], theirs: list[float]) -> list[float]:
    """The ratio in each round, to see how steady it is."""
    size = _BATCH - _REWARM
    starts = range(0, len(ours), size)
    return [round(p50(ours[at : at + size]) / p50(theirs[at : at + size]), 2) for at in starts]


def _check(body: bytes) -> None:
    if json.loads(body)["result"]["executionResult"] != 2:
        raise BadReply(body.decode())


def _check_raw(body: bytes) -> None:
    if json.loads(body)["result"] != 2:
        raise BadReply(body.decode())
