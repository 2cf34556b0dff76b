"""The HTTP proxy of one sandbox: CONNECT for tunnels, absolute-form requests for plain HTTP, one of either per connection.

Everything that comes from the sandbox is hostile: heads are bounded in size and time, connections in number, and what is under way on
each in bytes by the streams' own limits. A request for plain HTTP is parsed and written anew (h11), never passed on as it came, so the
server it reaches reads what was checked. What is refused is answered in words, told to the host at a bounded rate, and counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import h11

from carrel.egress import plain
from carrel.egress.gate import Gate, Unresolved
from carrel.egress.relay import Streams, finish, relay
from carrel.egress.rules import Target, parse_target

MAX_CONNECTIONS = 256  # of one sandbox
MAX_LOOKUPS = 4  # of one sandbox at once: those of all share some threads
MAX_HEAD = 32 * 1024
HEAD_S = 15.0  # for a whole head
CONNECT_S = 10.0  # for one address
TOLD = 10  # refusals of one sandbox that the host hears of in TOLD_S; the others it is told the number of
TOLD_S = 60.0

# (target, reason, refusals before it that were not told)
Refused = Callable[[str, str, int], None]


class Answered(Exception):
    """The request ends with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@dataclass(slots=True)
class Counts:
    """Since the process began; of all sandboxes of a pool."""

    connections: int = 0
    refusals: int = 0


@dataclass(slots=True)
class _Telling:
    """A window in time, and what was told and not told in it."""

    since: float = 0.0
    told: int = 0
    untold: int = field(default=0)


class Proxy:
    def __init__(self, gate: Gate, pool: str, counts: Counts, on_refused: Refused) -> None:
        self._gate, self._pool, self._counts, self._on_refused = gate, pool, counts, on_refused
        self._telling = _Telling()
        self._lookups = asyncio.Semaphore(MAX_LOOKUPS)
        self._connections: dict[asyncio.Task[None], Target | None] = {}  # None: still asking
        self._server: asyncio.Server | None = None

    async def serve(self, listener: socket.socket) -> None:
        """Begin to serve; takes the listener over."""
        self._server = await asyncio.start_server(self._accepted, sock=listener)

    async def close(self) -> None:
        """End every connection and the listener; nothing of the sandbox's network is held when this returns."""
        if self._server is not None:
            self._server.close()
        await self._cancel(list(self._connections))

    async def recheck(self) -> None:
        """After a change of the rules: end what they would no longer let begin."""
        open_now = self._connections.items()
        await self._cancel(
            [task for task, target in open_now if target is not None and self._gate.rule(self._pool, target) is None]
        )

    async def _cancel(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs us in one
        is_one_too_many = len(self._connections) >= MAX_CONNECTIONS
        self._connections[task] = None
        try:
            if is_one_too_many:
                raise Answered(503, f"this session has {MAX_CONNECTIONS} connections open, which is the limit")
            await self._answer(Streams(reader, writer), task)
        except Answered as answer:
            with contextlib.suppress(OSError, TimeoutError):
                await _say(writer, answer)
        except (OSError, EOFError, TimeoutError, h11.ProtocolError):
            pass  # one of the two ends is gone, or broke the protocol after the answer had begun
        finally:
            try:
                await _end(writer, task)
            finally:
                del self._connections[task]

    async def _answer(self, sandbox: Streams, task: asyncio.Task[None]) -> None:
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
        request = await _head(http, sandbox.reader)
        target = _target(request)
        upstream = await self._connect(target)
        self._connections[task] = target
        try:
            if self._gate.rule(self._pool, target) is None:  # taken away while we resolved and connected
                raise Answered(403, f"{target} is refused: it is not on the pool's egress list any more")
            if request.method == b"CONNECT":
                sandbox.writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                upstream.writer.write(http.trailing_data[0])  # what the client sent without waiting for our answer
                await relay(sandbox, upstream)
            else:
                await plain.exchange(http, request, target, sandbox, upstream)
        finally:
            await _end(upstream.writer, task)

    async def _connect(self, target: Target) -> Streams:
        """A connection to an address of the target that was checked. Raises Answered."""
        try:
            verdict = await self._gate.check(self._pool, target, self._lookups)
        except Unresolved as error:
            raise Answered(502, str(error)) from error
        if not verdict.addresses:
            self._refuse(str(target), verdict.reason)
            raise Answered(403, f"{target} is refused: {verdict.reason}")
        failures = []
        for address in verdict.addresses:
            try:
                async with asyncio.timeout(CONNECT_S):
                    # An address, not the name: nothing is resolved a second time.
                    streams = Streams(*await asyncio.open_connection(str(address), target.port))
                self._counts.connections += 1
                return streams
            except TimeoutError:
                failures.append(f"{address} did not answer within {CONNECT_S:.0f} s")
            except OSError as error:
                failures.append(f"{address}: {error.strerror or error}")
        raise Answered(502, f"{target} could not be reached: {'; '.join(failures)}")

    def _refuse(self, target: str, reason: str) -> None:
        self._counts.refusals += 1
        window, now = self._telling, time.monotonic()
        if now - window.since > TOLD_S:
            window.since, window.told = now, 0
        if window.told >= TOLD:
            window.untold += 1
            return
        self._on_refused(target, reason, window.untold)
        window.told, window.untold = window.told + 1, 0


async def _head(http: h11.Connection, reader: asyncio.StreamReader) -> h11.Request:
    """The request's head. Raises Answered, EOFError where the client left."""
    try:
        async with asyncio.timeout(HEAD_S):
            while (event := http.next_event()) is h11.NEED_DATA:
                data = await reader.read(MAX_HEAD)
                if not data:
                    raise EOFError
                http.receive_data(data)
    except TimeoutError as error:
        raise Answered(408, f"no whole request came within {HEAD_S:.0f} s") from error
    except h11.RemoteProtocolError as error:
        raise Answered(error.error_status_hint, f"not a request to a proxy: {error}") from error
    if not isinstance(event, h11.Request):
        raise EOFError
    return event


def _target(request: h11.Request) -> Target:
    """What the request asks for. Raises Answered."""
    try:
        if request.method == b"CONNECT":
            return parse_target(request.target.decode("ascii"))
        return parse_target(plain.authority(request.target), default_port=80)
    except UnicodeError:
        raise Answered(400, "the target is not ASCII") from None
    except ValueError as error:
        raise Answered(400, f"the target is not one that can be asked for: {error}") from error


async def _end(writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
    """`task` counts as a connection until this returns."""
    writer.transport.abort() if task.cancelling() else await finish(writer)


async def _say(writer: asyncio.StreamWriter, answer: Answered) -> None:
    """The text stands in the body, and in the reason phrase as well: of an answer to CONNECT, most clients show only that."""
    text = f"carrel: {answer}".encode("ascii", "replace").replace(b"\r", b" ").replace(b"\n", b" ")[:500]
    head = (
        b"HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
    )
    writer.write(head % (answer.status, text, len(text) + 1) + text + b"\n")
    async with asyncio.timeout(HEAD_S):
        await writer.drain()
