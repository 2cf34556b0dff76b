"""A line of its own: how much busy sessions slow another session's `1+1`, in the same run, in turns with the quiet machine.

A busy session runs eight spinning processes for a while: all that its pool's processor limit gives it. First one of them, then as many as
the machine has processors, which together want all of it.
"""

from __future__ import annotations

import json
import os
import time

from bench.http import Connection
from bench.lines import Line, holds, ms, p50, percentile, summary
from bench.product import VERSION, Pool, fresh

_ONE, _ALL = 2.0, 4.0  # budgets: times the quiet machine's p50
_BUSY_S, _HEAD_S = 1.5, 0.15  # of which the calls begin after the head
_CALLS = 150
_SPIN = f"""
import os, time
end = time.monotonic() + {_BUSY_S}
for n in range(7):
    if os.fork() == 0:
        while time.monotonic() < end: pass
        os._exit(0)
while time.monotonic() < end: pass
"""


def line(pool: Pool, rounds: int) -> Line:
    victim, busy = fresh(), [fresh() for _ in range(max(2, os.cpu_count() or 2))]
    times: dict[str, list[float]] = {"quiet": [], "one": [], "all": []}
    ratios: dict[str, list[float]] = {"one": [], "all": []}
    with Connection(pool.endpoint) as connection:
        for identifier in (victim, *busy):
            connection.call(pool.execute(identifier))
        pool.wait_until_quiet()
        for number in range(rounds + 1):
            found = {
                "quiet": _calls(pool, connection, victim, []),
                "one": _calls(pool, connection, victim, busy[:1]),
                "all": _calls(pool, connection, victim, busy),
            }
            if number > 0:  # the first round warms up
                for name, taken in found.items():
                    times[name] += taken
                for name, of_rounds in ratios.items():
                    of_rounds.append(p50(found[name]) / p50(found["quiet"]))
        for identifier in (victim, *busy):
            pool.end(connection, identifier)
    p99 = percentile(times["all"], 0.99)
    return Line(
        what=f"1+1 beside one busy session, and beside {len(busy)}",
        measured=f"{ms(p50(times['one']))}, {ms(p50(times['all']))} (p99 {ms(p99)})",
        floor=f"{ms(p50(times['quiet']))} (quiet)",
        ratio=f"{p50(ratios['one']):.2f}, {p50(ratios['all']):.2f}",
        budget=f"ratio ≤ {_ONE:.0f}, ≤ {_ALL:.0f}",
        is_met=holds(ratios["one"], at_most=_ONE) and holds(ratios["all"], at_most=_ALL),
        detail={**{f"{name}_ms": summary(taken) for name, taken in times.items()}, "of_rounds": ratios},
    )


def _calls(pool: Pool, connection: Connection, victim: str, busy: list[str]) -> list[float]:
    """Milliseconds of each call, while the `busy` ones spin; they are waited for."""
    for identifier in busy:
        connection.call(_start(pool, identifier))
    time.sleep(_HEAD_S)
    request, taken = pool.execute(victim), list[float]()
    end = time.monotonic() + _BUSY_S - 2 * _HEAD_S
    while len(taken) < _CALLS and time.monotonic() < end:
        taken.append(connection.timed(request)[0])
        time.sleep(0.002)  # a caller that comes and goes: one that never sleeps would have the processor to begin with
    for identifier in busy:
        connection.call(pool.execute(identifier))  # queued behind the spinning
    return taken


def _start(pool: Pool, identifier: str) -> bytes:
    body = json.dumps({"code": _SPIN, "executionType": "Asynchronous"}).encode()
    return pool.endpoint.request("POST", f"/executions?api-version={VERSION}&identifier={identifier}", body)
