"""Sessions of a Shell pool, on a server of their own: the first command, one more, and what an idle session takes of the machine.

A command is a process, so the floor is one: the same line, run by the same `bash -c` from a small process without any product.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import time
from pathlib import Path

from bench import machine
from bench.http import BadReply, Connection
from bench.lines import Line, both, holds, ms, p50, percentile, summary
from bench.product import VERSION, Pool, fresh, serving

_FIRST_MORE_MS, _FIRST_P99_MS = 2.0, 25.0
_MOST_MB = 12.0  # what any runtime's idle session may take
_BATCH = 40
_BEFORE = 4
_FILL_S = 180
_LINE = "echo 1"
_COMMAND = json.dumps({"shellCommand": _LINE}).encode()

_POOLS = """
[pools.shell]
containerType = "Shell"
scaleConfiguration = {maxConcurrentSessions = 8, readySessionInstances = 2}
[pools.crowd]
containerType = "Shell"
scaleConfiguration = {maxConcurrentSessions = 220, readySessionInstances = 0}
"""


def lines(images: Path, first_calls: int, rounds: int, sessions: int, batches: int) -> list[Line]:
    with serving(images, _POOLS) as product:
        pool, crowd = product.pool("shell"), product.pool("crowd")
        pool.wait_until_quiet(_FILL_S)
        return [_idle(crowd, sessions, batches), _first(pool, first_calls), _later(pool, rounds)]


def _first(pool: Pool, count: int) -> Line:
    """In turns with the same command on a running session, each with the pool full before."""
    first: list[float] = []
    later: list[float] = []
    running = fresh()
    with Connection(pool.endpoint) as connection:
        _run(pool, connection, running)
        for _ in range(count):
            pool.wait_until_quiet(_FILL_S)
            later.append(_run(pool, connection, running))
            pool.wait_until_quiet(_FILL_S)
            identifier = fresh()
            first.append(_run(pool, connection, identifier))
            pool.end(connection, identifier)
        pool.end(connection, running)
    more, p99 = p50(first) - p50(later), percentile(first, 0.99)
    return Line(
        what="first command of a new shell session, warm pool",
        measured=f"{ms(p50(first))}, p99 {ms(p99)}",
        floor=f"{ms(p50(later))} (running session)",
        ratio=f"{more:+.2f} ms",
        budget=f"+{_FIRST_MORE_MS:.0f} ms, p99 < {_FIRST_P99_MS:.0f} ms",
        is_met=both(more <= _FIRST_MORE_MS, p99 < _FIRST_P99_MS),
        detail={"first_ms": summary(first), "later_ms": summary(later)},
    )


def _later(pool: Pool, rounds: int) -> Line:
    ours: list[float] = []
    theirs: list[float] = []
    identifier = fresh()
    with Connection(pool.endpoint) as connection:
        for _ in range(rounds):
            ours += [_run(pool, connection, identifier) for _ in range(_BATCH)]
            theirs += [_plain() for _ in range(_BATCH)]
        pool.end(connection, identifier)
    return Line(
        what=f"`{_LINE}` on a running shell session, p50",
        measured=ms(p50(ours)),
        floor=f"{ms(p50(theirs))} (plain bash -c)",
        ratio=f"{p50(ours) / p50(theirs):.2f}",
        budget="",
        is_met=True,
        detail={"product_ms": summary(ours), "floor_ms": summary(theirs)},
    )


def _idle(pool: Pool, count: int, batches: int) -> Line:
    """As for Python's (memory.py): the median of the falls of MemAvailable, one command behind each session."""
    server, size = pool.product.pids["supervisor"], count // batches
    with Connection(pool.endpoint) as connection:
        _end(pool, connection, _open(pool, connection, _BEFORE))
        processes = machine.descendants(server)
        levels, opened = [machine.settled_available_mb()], []
        for _ in range(batches):
            opened.append(_open(pool, connection, size))
            levels.append(machine.settled_available_mb())
        pss = machine.pss_mb(machine.descendants(server) - processes)
        for batch in opened:
            _end(pool, connection, batch)
    falls = [(before - after) / size for before, after in itertools.pairwise(levels)]
    return Line(
        what=f"memory of an idle shell session, {size * batches} open",
        measured=f"{statistics.median(falls):.2f} MB"
        + (f" (PSS {pss / (size * batches):.2f})" if pss is not None else ""),
        floor="",
        ratio="",
        budget=f"≤ {_MOST_MB:.0f} MB",
        is_met=holds(falls, at_most=_MOST_MB),
        detail={"available_mb": levels, "fall_mb_each": falls},
    )


def _open(pool: Pool, connection: Connection, count: int) -> list[str]:
    identifiers = [fresh() for _ in range(count)]
    for identifier in identifiers:
        _run(pool, connection, identifier)
    return identifiers


def _end(pool: Pool, connection: Connection, identifiers: list[str]) -> None:
    for identifier in identifiers:
        pool.end(connection, identifier)


def _run(pool: Pool, connection: Connection, identifier: str) -> float:
    path = f"/executions?api-version={VERSION}&identifier={identifier}"
    took, body = connection.timed(pool.endpoint.request("POST", path, _COMMAND))
    if json.loads(body)["result"]["stdout"] != "1\n":
        raise BadReply(body.decode())
    return took


def _plain() -> float:
    """Milliseconds of the same line without us, its output read to the end."""
    bash = shutil.which("bash") or "/bin/bash"
    begin = time.perf_counter()
    reader, writer = os.pipe()
    pid = os.posix_spawn(bash, ["bash", "-c", _LINE], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)])
    os.close(writer)
    while os.read(reader, 4096):
        pass
    os.close(reader)
    os.waitpid(pid, 0)
    return (time.perf_counter() - begin) * 1000
