"""Line 5: what an idle session of the heavy image takes of the machine's memory."""

from __future__ import annotations

import itertools
import statistics
from pathlib import Path
from typing import Any

from bench import machine
from bench.creation import plain_template
from bench.http import Connection
from bench.lines import Line, holds
from bench.product import Pool, fresh
from carrel.backends.images import Image

_MOST_MB = 6.0
_PLAIN_BATCHES = 3
_BEFORE = 8  # sessions opened and ended beforehand, so that what the host keeps for good is not counted


def idle_sessions(pool: Pool, image: Image, folder: Path, count: int, batches: int) -> Line:
    """Opens `count` sessions in batches, each with one `1+1` behind it, with a look at MemAvailable after each batch.

    The median of the batches: what others on the machine take or give back meanwhile falls into some of them only.
    """
    server, size = pool.product.pids["supervisor"], count // batches
    with Connection(pool.endpoint) as connection:
        end_sessions(pool, connection, open_sessions(pool, connection, _BEFORE))
        plain = _plain_mb(image, folder, size)
        processes = machine.descendants(server)
        levels, open_batches = [machine.settled_available_mb()], []
        for _ in range(batches):
            open_batches.append(open_sessions(pool, connection, size))
            levels.append(machine.settled_available_mb())
        pss = machine.pss_mb(machine.descendants(server) - processes)
        for batch in open_batches:
            end_sessions(pool, connection, batch)
    falls = [(before - after) / size for before, after in itertools.pairwise(levels)]
    return _line(falls, plain, size * batches, pss, {"available_mb": levels, "fall_mb_each": falls})


def _line(falls: list[float], plain: float, count: int, pss: float | None, detail: dict[str, Any]) -> Line:
    each = statistics.median(falls)
    return Line(
        what=f"memory of an idle heavy session, {count} open",
        measured=f"{each:.2f} MB" + (f" (PSS {pss / count:.2f})" if pss is not None else ""),
        floor=f"{plain:.2f} MB (plain fork)",
        ratio=f"{each / plain:.1f}" if plain > 0 else "",
        budget=f"≤ {_MOST_MB:.0f} MB",
        is_met=holds(falls, at_most=_MOST_MB),
        detail={**detail, "pss_mb_each": None if pss is None else pss / count},
    )


def open_sessions(pool: Pool, connection: Connection, count: int) -> list[str]:
    identifiers = [fresh() for _ in range(count)]
    for identifier in identifiers:
        connection.call(pool.execute(identifier))
    return identifiers


def end_sessions(pool: Pool, connection: Connection, identifiers: list[str]) -> None:
    for identifier in identifiers:
        pool.end(connection, identifier)


def _plain_mb(image: Image, folder: Path, size: int) -> float:
    """Each idle child of a plain process with the same imports, in the same way."""
    falls = []
    with plain_template(image, folder) as plain:
        for _ in range(_PLAIN_BATCHES):
            before = machine.settled_available_mb()
            plain.hold(size)
            falls.append((before - machine.settled_available_mb()) / size)
            plain.release()
    return statistics.median(falls)
