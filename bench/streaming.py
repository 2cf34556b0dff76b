"""The line about streams: from a write in the sandbox to the byte at an HTTP client.

The program writes the time, the client looks at the clock when it has it: both read the machine's one clock.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

from bench.http import Connection
from bench.lines import Line, ms, p50, percentile, summary
from bench.product import VERSION, Pool, fresh

_BUDGET_MS, _QUIET_MS = 50.0, 10.0
_PAUSE_S = 0.03  # between writes: longer than the agent collects, so that each write is a piece of its own
_OUTPUT = re.compile(rb"event: stdout\n.*\ndata: (.*)\n")  # one or more writes; the result repeats them all
_STAMP = re.compile(rb"\d{19}")
_CODE = """
import os, time
for _ in range({count}):
    time.sleep({pause})
    os.write(1, b"%d\\n" % time.time_ns())
"""


def latency(pool: Pool, count: int) -> Line:
    """Of `count` writes of one execution; the budget is for all but one in a hundred of them.

    The floor is the same program at the end of a pipe. Where even that takes long, the machine is busy and the run decides nothing.
    """
    floor, samples = _through_a_pipe(count), _through_the_product(pool, count)
    p99, floor_p99 = percentile(samples, 0.99), percentile(floor, 0.99)
    is_met = p99 <= _BUDGET_MS and len(samples) >= count
    return Line(
        what="a write in a session, at a client that streams",
        measured=f"{ms(p50(samples))}, p99 {ms(p99)}",
        floor=f"{ms(p50(floor))}, p99 {ms(floor_p99)}",
        ratio="",
        budget=f"p99 ≤ {_BUDGET_MS:.0f} ms",
        is_met=is_met if is_met or floor_p99 <= _QUIET_MS else None,
        detail={"ms": summary(samples), "floor_ms": summary(floor)},
    )


def _through_the_product(pool: Pool, count: int) -> list[float]:
    samples: list[float] = []
    identifier = fresh()
    with Connection(pool.endpoint) as connection:
        connection.call(pool.execute(identifier))
        connection.sock.sendall(_request(pool, identifier, count))
        held = b""
        while data := connection.sock.recv(65_536):
            now = time.time_ns()
            *_, rest = (held := held + data).rpartition(b"\n\n")
            told = b"".join(_OUTPUT.findall(held[: len(held) - len(rest)]))
            samples += _since(now, _STAMP.findall(told))
            if b"event: result" in held:
                break
            held = rest
    with Connection(pool.endpoint) as connection:
        pool.end(connection, identifier)
    return samples


def _through_a_pipe(count: int) -> list[float]:
    samples: list[float] = []
    code = _CODE.format(count=count, pause=_PAUSE_S)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101
        while data := os.read(process.stdout.fileno(), 65_536):
            samples += _since(time.time_ns(), data.split())
    return samples


def _since(now: int, stamps: list[bytes]) -> list[float]:
    return [(now - int(stamp)) / 1e6 for stamp in stamps]


def _request(pool: Pool, identifier: str, count: int) -> bytes:
    code = _CODE.format(count=count, pause=_PAUSE_S)
    body = json.dumps({"code": code, "outputStreamsMaxLength": 1_000_000}).encode()
    request = pool.endpoint.request("POST", f"/executions?api-version={VERSION}&identifier={identifier}", body)
    return request.replace(b"\r\n", b"\r\nAccept: text/event-stream\r\n", 1)
