"""The reply that tells an execution, in a hurry: readers that stall or leave, silence, errors on the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from types import MappingProxyType
from typing import Any, cast

import pytest

from carrel.errors import SessionLost
from carrel.host.events import Event, Stream
from carrel.host.hostlink import HostLink
from carrel.models import Execution, PoolSpec, SessionView, Status
from carrel.server import exchange, stream, telling
from carrel.server.asgi import Message
from carrel.server.bound import BoundTokens
from carrel.server.call import Call
from carrel.server.exchange import CallerGone, Exchange
from carrel.server.pools import Pools
from carrel.server.request import decode_target
from carrel.server.session_logs import SessionLogs
from carrel.wire.versions import decode_version

pytestmark = pytest.mark.anyio
DONE = Execution("e-1", "alice", False, Status.SUCCEEDED, "ab")


class Caller:
    """The other end of a connection: takes `taken` messages, then none; leaves when told to."""

    def __init__(self, taken: float = float("inf")) -> None:
        self.messages: list[Message] = []
        self.left = asyncio.Event()
        self._taken = taken

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if len(self.messages) >= self._taken:
            await asyncio.Event().wait()
        self.messages.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def is_complete(self) -> bool:
        return not self.messages[-1].get("more_body", False)


def call_of(caller: Caller, method: str = "POST") -> Call:
    scope = {"type": "http", "method": method, "headers": [], "scheme": "http", "http_version": "1.1"}
    target = decode_target(b"/subscriptions/s/resourceGroups/g/sessionPools/p/executions")
    assert target is not None
    return Call(
        Exchange(scope, caller.receive, caller.send),
        target,
        MappingProxyType({"identifier": "a b&c"}),
        decode_version("2025-10-02-preview"),
        PoolSpec("p"),
        cast(HostLink, None),
        str,
        cast(Pools, None),
        cast(BoundTokens, None),
        cast(SessionLogs, None),
    )


async def tell(caller: Caller, events: AsyncIterator[Event], method: str = "POST") -> None:
    running = Stream(SessionView("alice", "guid", 0, 0, 0), "e-1", events)
    await stream._tell(call_of(caller, method), running, "alice", "Synchronous")


async def short() -> AsyncIterator[Event]:
    yield Event(1, "stdout", "a")
    yield Event(2, "stdout", "b")
    yield Event(3, "result", execution=DONE)


async def silent(seconds: float = 60) -> AsyncIterator[Event]:
    yield Event(1, "stdout", "a")
    await asyncio.sleep(seconds)
    yield Event(3, "result", execution=DONE)


async def endless() -> AsyncIterator[Event]:
    number = 0
    while True:
        number += 1
        yield Event(number, "stdout", "x")
        await asyncio.sleep(0)


async def failing() -> AsyncIterator[Event]:
    yield Event(1, "stdout", "a")
    raise SessionLost("The session is gone.")


async def test_every_event_is_a_piece_of_its_own() -> None:
    """Nothing waits for what comes next: the reader has each as soon as it is there."""
    caller = Caller()
    await tell(caller, short())

    head, started, *rest = caller.messages
    assert (head["status"], dict(head["headers"])[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
    assert started["body"] == b'event: started\ndata: {"id":"e-1","identifier":"alice"}\n\n'
    assert [piece["body"].count(b"\n\n") for piece in rest] == [1, 1, 1, 0]
    assert caller.is_complete


@pytest.mark.parametrize("events", [silent, endless])
async def test_a_reader_that_leaves_ends_the_reply(events: Callable[[], AsyncIterator[Event]]) -> None:
    caller = Caller()
    asyncio.get_running_loop().call_later(0.1, caller.left.set)
    began = time.monotonic()
    with pytest.raises(CallerGone):
        await tell(caller, events())
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("events", [silent, endless])
@pytest.mark.parametrize("taken", [1, 2, 3])
async def test_a_reader_that_stalls_is_cut(
    taken: int, events: Callable[[], AsyncIterator[Event]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it stalls, and also where the code is silent and only a comment finds it out."""
    monkeypatch.setattr(exchange, "SEND_IDLE_S", 0.1)
    monkeypatch.setattr(telling, "QUIET_S", 0.05)
    began = time.monotonic()
    with pytest.raises(CallerGone):
        await tell(Caller(taken), events())
    assert time.monotonic() - began < 10


async def test_silence_brings_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "QUIET_S", 0.05)
    caller = Caller()
    await tell(caller, silent(0.3))

    assert 3 <= caller.body.count(b": still here\n\n") <= 6
    assert caller.body.endswith(b"\n\n")
    assert caller.is_complete


async def test_an_error_on_the_way_is_the_last_event() -> None:
    caller = Caller()
    await tell(caller, failing())

    *_, last = caller.body.split(b"\n\n")[:-1]
    kind, data = last.split(b"\n")
    error = json.loads(data.removeprefix(b"data: "))["error"]
    assert (kind, error["code"], error["message"]) == (b"event: error", "SessionLost", "The session is gone.")
    assert caller.is_complete


async def test_head_has_no_events() -> None:
    caller = Caller()
    await tell(caller, endless(), "HEAD")

    assert (caller.body, caller.is_complete) == (b"", True)


async def test_a_server_that_stops_ends_the_reply() -> None:
    """Cancelled, it leaves no task and the reply unfinished, so that the reader knows to follow."""
    caller, others = Caller(), asyncio.all_tasks()
    reply = asyncio.create_task(tell(caller, silent()))
    await asyncio.sleep(0.05)
    reply.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reply
    assert not caller.is_complete
    assert asyncio.all_tasks() == others


@pytest.mark.parametrize(("following", "total", "has_more"), [(300, 301, True), (300, 300, False), (0, 0, False)])
async def test_a_list_goes_on_where_a_page_ends(following: int, total: int, has_more: bool) -> None:
    """With all that the next request needs in the link, quoted."""
    call = call_of(Caller())
    call.exchange.headers.append((b"host", b"localhost:1"))
    link: Any = call.next_link(".management/listSessions", following, total)

    expected = "http://localhost:1/subscriptions/s/resourceGroups/g/sessionPools/p/.management/listSessions"
    query = "?api-version=2025-10-02-preview&skip=300&identifier=a%20b%26c"
    assert link == (expected + query if has_more else None)
