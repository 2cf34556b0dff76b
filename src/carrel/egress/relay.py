"""Bytes from one connection to another, both ways, as they come."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

IDLE_S = 300.0  # a tunnel in which nothing moves either way for so long is ended
CLOSE_S = 10.0  # for the other side to take what was written for it before a connection ended
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Streams:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class _Clock:
    """When a byte last moved, in either direction."""

    def __init__(self) -> None:
        self.moved_at = time.monotonic()


async def relay(one: Streams, other: Streams) -> None:
    """Until both directions have ended. A side that has said all it had to say may still be listening, so an end is passed on as one.

    Raises OSError where a side is reset, TimeoutError where nothing moves for IDLE_S.
    """
    clock = _Clock()
    try:
        async with asyncio.TaskGroup() as group:
            ways = [group.create_task(_pump(one.reader, other.writer, clock))]
            ways.append(group.create_task(_pump(other.reader, one.writer, clock)))
            watch = group.create_task(_watch(clock))
            await asyncio.gather(*ways)
            watch.cancel()
    except ExceptionGroup as errors:  # not except*, which would wrap what is raised in it again
        raise errors.exceptions[0] from None


async def finish(writer: asyncio.StreamWriter) -> None:
    """Close a connection with what was written to it, and for good: one who does not read must not hold it, or its memory, any longer."""
    try:
        writer.close()
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()
    except (OSError, TimeoutError):
        pass  # the other side is gone, or does not read
    finally:
        writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, clock: _Clock) -> None:
    while data := await reader.read(_CHUNK):
        clock.moved_at = time.monotonic()
        writer.write(data)
        await writer.drain()
        clock.moved_at = time.monotonic()
    with contextlib.suppress(OSError):  # the other side may have left meanwhile
        writer.write_eof()


async def _watch(clock: _Clock) -> None:
    left = IDLE_S
    while left > 0:
        await asyncio.sleep(left)
        left = clock.moved_at + IDLE_S - time.monotonic()
    raise TimeoutError
