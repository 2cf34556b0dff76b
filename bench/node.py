"""JavaScript sessions beside Python's, on one server: a first call, a later call, and what an idle one takes of the machine's memory."""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path

from bench import calls, machine
from bench.http import BadReply, Connection
from bench.lines import Line, holds, ms, p50, summary
from bench.memory import end_sessions, open_sessions
from bench.product import Pool, fresh, serving

_MOST_MB = 12.0
_TIMES_PYTHON = 1.5
_BATCH, _REWARM = 100, 15
_BEFORE = 4  # sessions opened and ended beforehand, so that what the host keeps for good is not counted

_POOLS = """
[pools.python]
scaleConfiguration = {maxConcurrentSessions = 8, readySessionInstances = 1}
[pools.node]
containerType = "NodeLTS"
scaleConfiguration = {maxConcurrentSessions = 8, readySessionInstances = 2}
[pools.crowd]
containerType = "NodeLTS"
scaleConfiguration = {maxConcurrentSessions = 100, readySessionInstances = 0}
"""


def lines(images: Path, first_calls: int, rounds: int, sessions: int, batches: int) -> list[Line]:
    with serving(images, _POOLS) as product:
        memory = _idle(product.pool("crowd"), sessions // batches, batches)
        first = calls.first_call(product.pool("node"), first_calls)
        later = _later(product.pool("node"), product.pool("python"), rounds)
    return [_named(first), later, memory]


def _named(line: Line) -> Line:
    return Line(f"{line.what}, Node", line.measured, line.floor, line.ratio, line.budget, line.is_met, line.detail)


def _later(node: Pool, python: Pool, rounds: int) -> Line:
    """`1+1` in turns. What it costs before and after the interpreter is the same for both."""
    ours: list[float] = []
    theirs: list[float] = []
    of_rounds = []
    identifier = fresh()
    with Connection(node.endpoint) as one, Connection(python.endpoint) as other:
        for number in range(rounds + 1):
            a, b = (_batch(connection, pool, identifier) for connection, pool in ((one, node), (other, python)))
            if number > 0:  # the first round warms both up
                ours, theirs = ours + a, theirs + b
                of_rounds.append(round(p50(a) / p50(b), 2))
        node.end(one, identifier)
        python.end(other, identifier)
    return Line(
        what="1+1 on a running session, p50, Node",
        measured=ms(p50(ours)),
        floor=f"{ms(p50(theirs))} (Python)",
        ratio=f"{p50(of_rounds):.2f}",
        budget=f"ratio ≤ {_TIMES_PYTHON}",
        is_met=holds(of_rounds, at_most=_TIMES_PYTHON),
        detail={"node_ms": summary(ours), "python_ms": summary(theirs), "of_rounds": of_rounds},
    )


def _batch(connection: Connection, pool: Pool, identifier: str) -> list[float]:
    timed = [connection.timed(pool.execute(identifier)) for _ in range(_BATCH)]
    if json.loads(timed[-1][1])["result"]["executionResult"] != 2:
        raise BadReply(timed[-1][1].decode())
    return [took for took, _body in timed][_REWARM:]


def _idle(pool: Pool, size: int, batches: int) -> Line:
    supervisor = pool.product.pids["supervisor"]  # sandboxes are no children of the host
    with Connection(pool.endpoint) as connection:
        end_sessions(pool, connection, open_sessions(pool, connection, _BEFORE))
        processes = machine.descendants(supervisor)
        levels, identifiers = [machine.settled_available_mb()], []
        for _ in range(batches):
            identifiers += open_sessions(pool, connection, size)
            levels.append(machine.settled_available_mb())
        pss = machine.pss_mb(machine.descendants(supervisor) - processes)
        end_sessions(pool, connection, identifiers)
    falls = [(before - after) / size for before, after in itertools.pairwise(levels)]
    each = statistics.median(falls)
    return Line(
        what=f"memory of an idle Node session, {size * batches} open",
        measured=f"{each:.2f} MB" + (f" (PSS {pss / size / batches:.2f})" if pss is not None else ""),
        floor="",
        ratio="",
        budget=f"≤ {_MOST_MB:.0f} MB",
        is_met=holds(falls, at_most=_MOST_MB),
        detail={"available_mb": levels, "fall_mb_each": falls, "pss_mb": pss},
    )
