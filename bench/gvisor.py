"""Level `gvisor` beside `namespace`, in one run on one server: a first call from the warm pool, the refill, an idle session, system calls.

One line has a budget: the first call. The others are figures for the documentation, and their budget is "".
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

from bench import machine
from bench.http import BadReply, Connection
from bench.lines import Line, holds, ms, p50, summary
from bench.product import VERSION, Pool, fresh, serving

_TIMES_NAMESPACE = 3.0
_SESSIONS = 4
_FILL_S = 180

_POOLS = """
[pools.namespace]
scaleConfiguration = {maxConcurrentSessions = 8, readySessionInstances = 2}
carrel = {isolation = "namespace"}
[pools.gvisor]
scaleConfiguration = {maxConcurrentSessions = 8, readySessionInstances = 2}
carrel = {isolation = "gvisor"}
"""

# Each times itself and gives microseconds for one of what it does.
_SYSTEM_CALLS = {
    "getppid": "import os, time; t = time.perf_counter(); [os.getppid() for _ in range(20000)]; (time.perf_counter() - t) * 50",
    "stat": "import os, time; t = time.perf_counter(); [os.stat('/mnt/data') for _ in range(5000)]; (time.perf_counter() - t) * 200",
    "open and close": (
        "import os, time; t = time.perf_counter(); [os.close(os.open('/etc/hosts', 0)) for _ in range(2000)]; "
        "(time.perf_counter() - t) * 500"
    ),
    "fork, exit and wait": (
        "import os, time; t = time.perf_counter(); [os.waitpid(os.fork() or os._exit(0), 0) for _ in range(20)]; "
        "(time.perf_counter() - t) * 50000"
    ),
    "pure Python": "import time; t = time.perf_counter(); sum(i * i for i in range(2000000)); (time.perf_counter() - t) * 1000000",
}


def is_offered() -> bool:
    """Whether it is worth starting a server to find out."""
    return os.geteuid() == 0 and shutil.which("runsc") is not None


def lines(images: Path, rounds: int) -> list[Line]:
    with serving(images, _POOLS) as product:
        pools = [product.pool("namespace"), product.pool("gvisor")]
        first: list[list[float]] = [[], []]
        refill: list[list[float]] = [[], []]
        for _ in range(rounds):
            for pool, calls, refills in zip(pools, first, refill, strict=True):
                for each in pools:
                    each.wait_until_quiet(_FILL_S)
                time.sleep(0.1)
                took, ready = _pop(pool)
                calls.append(took)
                refills.append(ready)
        system_calls = [_system_calls(pool) for pool in pools]
        memory = [_idle_mb(pool) for pool in pools]
    return [_first(*first), _refill(*refill), _memory(*memory), *_costs(*system_calls)]


def _pop(pool: Pool) -> tuple[float, float]:
    """Milliseconds of a new identifier's first call, and seconds until the pool is full again."""
    with Connection(pool.endpoint) as connection:
        identifier = fresh()
        took, body = connection.timed(pool.execute(identifier))
        if json.loads(body)["result"]["executionResult"] != 2:
            raise BadReply(body.decode())
        begin = time.perf_counter()
        pool.wait_until_quiet(_FILL_S)
        ready = time.perf_counter() - begin
        pool.end(connection, identifier)
    return took, ready


def _system_calls(pool: Pool) -> dict[str, float]:
    """Microseconds of one; the best of three rounds."""
    found = {}
    with Connection(pool.endpoint) as connection:
        identifier = fresh()
        for name, code in _SYSTEM_CALLS.items():
            content = json.dumps({"properties": {"code": code}}).encode()
            target = f"/executions?api-version={VERSION}&identifier={identifier}"
            request = pool.endpoint.request("POST", target, content)
            found[name] = min(json.loads(connection.call(request))["result"]["executionResult"] for _ in range(3))
        pool.end(connection, identifier)
    return found


def _idle_mb(pool: Pool) -> float:
    """The fall of MemAvailable for each further sandbox: sessions taken from a full pool, which then fills again."""
    pool.wait_until_quiet(_FILL_S)
    identifiers = [fresh() for _ in range(_SESSIONS)]
    with Connection(pool.endpoint) as connection:
        before = machine.settled_available_mb()
        for identifier in identifiers:
            connection.call(pool.execute(identifier))
            pool.wait_until_quiet(_FILL_S)
        fall = before - machine.settled_available_mb()
        for identifier in identifiers:
            pool.end(connection, identifier)
    return fall / _SESSIONS


def _first(namespace: list[float], gvisor: list[float]) -> Line:
    of_rounds = [a / b for a, b in zip(gvisor, namespace, strict=True)]
    return Line(
        what="first call of a new identifier, warm pool, level gvisor",
        measured=ms(p50(gvisor)),
        floor=f"{ms(p50(namespace))} (level namespace)",
        ratio=f"{p50(of_rounds):.2f}",
        budget=f"ratio ≤ {_TIMES_NAMESPACE:.0f}",
        is_met=holds(of_rounds, at_most=_TIMES_NAMESPACE),
        detail={"gvisor_ms": summary(gvisor), "namespace_ms": summary(namespace)},
    )


def _refill(namespace: list[float], gvisor: list[float]) -> Line:
    return _figure(
        "until a warm pool is full again, level gvisor",
        f"{p50(gvisor):.2f} s",
        f"{p50(namespace):.3f} s",
        p50(gvisor) / p50(namespace),
    )


def _memory(namespace: float, gvisor: float) -> Line:
    return _figure(
        "memory of an idle heavy session, level gvisor", f"{gvisor:.0f} MB", f"{namespace:.1f} MB", gvisor / namespace
    )


def _costs(namespace: dict[str, float], gvisor: dict[str, float]) -> list[Line]:
    return [
        _figure(
            f"{name}, level gvisor",
            f"{gvisor[name]:.1f} µs",
            f"{namespace[name]:.1f} µs",
            gvisor[name] / namespace[name],
        )
        for name in _SYSTEM_CALLS
    ]


def _figure(what: str, measured: str, floor: str, ratio: float) -> Line:
    return Line(what, measured, f"{floor} (level namespace)", f"{ratio:.1f}", "", True)
