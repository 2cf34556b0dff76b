"""hostlink end to end: a client, a real Unix socket, the host's service, sessions on small sandboxes."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from carrel import errors
from carrel.guest.frames import Decoder, encode
from carrel.host import codec
from carrel.host.door import bind
from carrel.host.hostlink import HostLink
from carrel.host.service import Service
from carrel.models import MIB, ExecutionSpec, Level, Outcome, Output, PoolSpec, ShellCommand, Status, Value, ValueKind
from carrel.sessions.keeper import Keeper
from fake_sandboxes import Agent, FakeBackend
from small_pool import pieces, until

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "hostlink.sock"


@asynccontextmanager
async def host(backend: FakeBackend, path: Path) -> AsyncIterator[Keeper]:
    async with Keeper({Level.NAMESPACE: backend}) as keeper:
        await keeper.apply_pool(PoolSpec("python", maximum=5))
        await keeper.settled("python")
        with bind(path, None) as sock:
            async with Service(keeper, sock, {os.geteuid()}):
                yield keeper
                await keeper.close()


@pytest.fixture
async def keeper(backend: FakeBackend, path: Path) -> AsyncIterator[Keeper]:
    async with host(backend, path) as keeper:
        yield keeper
    assert not backend.alive


@pytest.fixture
async def link(keeper: Keeper, path: Path) -> AsyncIterator[HostLink]:
    link = HostLink(path)
    yield link
    await link.close()


def agent(backend: FakeBackend, keeper: Keeper, identifier: str = "alice") -> Agent:
    return backend.agent_of(keeper.find("python", identifier))


# ---- pools and sessions


async def test_the_socket_is_its_owners_only(keeper: Keeper, path: Path) -> None:
    assert [stat.S_IMODE(os.stat(each).st_mode) for each in (path, path.parent)] == [0o600, 0o700]  # noqa: PTH116


async def test_pools_and_sessions_cross_whole(link: HostLink) -> None:
    (status,) = await link.pools()
    assert status.spec == PoolSpec("python", maximum=5) and status.error is None

    first, again = await link.open("python", "alice"), await link.open("python", "alice")
    assert (first.identifier, first.is_new, again.is_new) == ("alice", True, False)
    assert first.guid == again.guid and again.expires_at == pytest.approx(time.time() + 300, abs=1)
    await link.open("python", "bob")
    views, total = await link.sessions("python", skip=1, limit=1)
    assert [view.identifier for view in views] == ["bob"] and total == 2
    assert (await link.session("python", "bob")).guid == views[0].guid
    await link.end("python", "bob")
    with pytest.raises(errors.SessionNotFound, match="Could not find session with name 'bob'"):
        await link.session("python", "bob")
    with pytest.raises(errors.SessionNotFound):
        await link.end("python", "bob")
    with pytest.raises(errors.PoolNotFound):
        await link.open("node", "alice")


async def test_an_error_keeps_its_class_its_headers_and_the_connection(link: HostLink) -> None:
    for number in range(5):
        await link.open("python", f"user-{number}")
    for _ in range(3):
        with pytest.raises(errors.PoolFull) as caught:
            await link.open("python", "one-more")
    assert "There are already '5' active sessions" in caught.value.message
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
    assert len(link._lines.idle) == 1


# ---- code


async def test_an_execution_crosses_whole(link: HostLink) -> None:
    view, execution = await link.execute(
        "python", "alice", ExecutionSpec("print hi\nvalue 12\nerror no", operation_id="op")
    )

    assert view.is_new and execution.id == "op" and execution.identifier == "alice"
    assert (execution.status, execution.stdout, execution.stderr) == (Status.FAILED, "hi", "no")
    assert await link.execution("python", "alice", "op") == execution
    assert (await link.execute("python", "alice", ExecutionSpec('value "ä"')))[1].value == Value(ValueKind.SCALAR, "ä")
    with pytest.raises(errors.ExecutionMissing):
        await link.execution("python", "alice", "unknown")
    with pytest.raises(errors.SessionNotFound):
        await link.execution("python", "nobody", "op")


async def test_large_code_and_a_large_result(link: HostLink) -> None:
    """Both are more than a frame."""
    text = "x" * (2 * MIB)
    code = f'value "{text}"\nflood 3000000\n' + "set x\n" * 1000
    _, execution = await link.execute("python", "alice", ExecutionSpec(code, stream_limit=4_000_000))
    assert execution.value.json == text
    assert execution.stdout == "x" * 3_000_000

    with pytest.raises(errors.ContentTooLarge):
        await link.execute("python", "alice", ExecutionSpec("x" * (9 * MIB)))
    with pytest.raises(errors.RequestInvalid):
        await link.execute("python", "alice", ExecutionSpec("'\ud800'"))


async def test_an_asynchronous_execution_is_polled(link: HostLink) -> None:
    spec = ExecutionSpec("sleep 0.5\nprint done", is_asynchronous=True, operation_id="op")
    _, started = await link.execute("python", "alice", spec)
    assert started.status is Status.RUNNING
    _, queued = await link.execute("python", "alice", ExecutionSpec("get", is_asynchronous=True))
    assert queued.status is Status.NOT_STARTED

    polled = started
    while polled.status is Status.RUNNING:
        await asyncio.sleep(0.01)
        polled = await link.execution("python", "alice", "op")
    assert polled.stdout == "done" and polled.wall_ms >= 90


async def test_a_cancelled_caller_leaves_the_execution_running(link: HostLink, keeper: Keeper) -> None:
    caller = asyncio.create_task(
        link.execute("python", "alice", ExecutionSpec("sleep 0.1\nprint x", operation_id="op"))
    )
    await asyncio.sleep(0.03)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert not link._lines.idle, "a connection in the middle of a call is not used again"

    assert (await link.execution("python", "alice", "op")).status is Status.RUNNING
    await asyncio.sleep(0.1)
    assert (await link.execution("python", "alice", "op")).stdout == "x"


async def test_many_calls_at_once(link: HostLink) -> None:
    async def call(number: int) -> str:
        _, execution = await link.execute("python", f"user-{number % 5}", ExecutionSpec(f"print {number}"))
        return execution.stdout

    assert await asyncio.gather(*(call(number) for number in range(100))) == [str(number) for number in range(100)]


DOCUMENTS = {
    "no JSON": "{",
    "no object": "[1]",
    "a kind that is none": '{"kind": "magic"}',
    "a kind that is a list": '{"kind": ["text"]}',
    "a constant that JSON lacks": '{"kind": "scalar", "json": NaN, "text": ""}',
    "a scalar that is a list": '{"kind": "scalar", "json": [], "text": ""}',
    "an image that is no image": '{"kind": "image", "json": {"format": 7}, "text": ""}',
    "a text that is a number": '{"kind": "text", "json": null, "text": 7}',
    "nested without end": '{"kind": "container", "text": "", "json": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "a number without end": '{"kind": "scalar", "text": "", "json": ' + "9" * 10_000 + "}",
}


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS.keys())
async def test_a_forged_value_is_left_out(link: HostLink, document: str) -> None:
    """What a sandbox says it returned is checked where it is read; the execution stays a result."""
    _, execution = await link.execute("python", "alice", ExecutionSpec(f"print fine\ndocument {document}"))

    assert (execution.status, execution.stdout, execution.value) == (Status.SUCCEEDED, "fine", Value())
    assert execution.stderr == codec.UNREADABLE


# ---- files


async def test_files_cross_both_ways(link: HostLink, keeper: Keeper) -> None:
    content = os.urandom(3 * MIB)
    view, stored = await link.upload("python", "alice", "a/b.bin", pieces(content[:10], b"", content[10:]))
    assert view.is_new and (stored.name, stored.directory, stored.size) == ("b.bin", "a", 3 * MIB)
    assert (await link.stat("python", "alice", "a/b.bin"))[1] == stored
    assert (await link.list_files("python", "alice", "", True))[1] == [stored]

    async with link.download("python", "alice", "a/b.bin") as download:
        assert (download.session.identifier, download.file, download.start) == ("alice", stored, 0)
        assert b"".join([chunk async for chunk in download]) == content
    async with link.download("python", "alice", "a/b.bin", offset=5, length=7) as download:
        assert (download.start, download.length) == (5, 7)
        assert b"".join([chunk async for chunk in download]) == content[5:12]
    await link.delete_file("python", "alice", "a/b.bin")
    with pytest.raises(errors.FileMissing):
        async with link.download("python", "alice", "a/b.bin"):
            pass
    assert (await link.list_files("python", "alice", "", True))[1] == []
    assert len(link._lines.idle) == 1


async def test_a_long_listing(link: HostLink, keeper: Keeper, backend: FakeBackend) -> None:
    await link.open("python", "alice")
    agent(backend, keeper).files = {f"{'long-name-' * 20}{number}": b"" for number in range(3000)}

    _, files = await link.list_files("python", "alice", "", False)
    assert len(files) == 3000 and len({file.name for file in files}) == 3000


async def test_an_upload_whose_source_breaks_leaves_nothing(
    link: HostLink, keeper: Keeper, backend: FakeBackend
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        raise ConnectionResetError("the client is gone")

    with pytest.raises(ConnectionResetError):
        await link.upload("python", "alice", "half", broken())
    await until(lambda: agent(backend, keeper).aborted)
    assert (await link.list_files("python", "alice", "", True))[1] == []


async def test_an_upload_that_does_not_fit_says_so_before_its_end(link: HostLink) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 1000 * MIB:
            sent += MIB
            yield bytes(MIB)

    with pytest.raises(errors.DiskFull):
        await link.upload("python", "alice", "big", endless())
    assert sent < 20 * MIB


async def test_an_upload_to_a_full_pool_is_refused_and_its_body_dropped(link: HostLink) -> None:
    for number in range(5):
        await link.open("python", f"user-{number}")

    with pytest.raises(errors.PoolFull):
        await link.upload("python", "one-more", "x", pieces(*[bytes(MIB)] * 3))


async def test_a_download_left_early_stops_the_agent(link: HostLink, keeper: Keeper, backend: FakeBackend) -> None:
    await link.upload("python", "alice", "big", pieces(bytes(8 * MIB)))
    async with link.download("python", "alice", "big") as download:
        async for _ in download:
            break
    await until(lambda: agent(backend, keeper).aborted)

    assert (await link.execute("python", "alice", ExecutionSpec("print fine")))[1].stdout == "fine"


async def test_a_slow_reader_holds_back_the_agent_and_nobody_else(link: HostLink) -> None:
    await link.upload("python", "alice", "big", pieces(bytes(9 * MIB)))
    async with link.download("python", "alice", "big") as download:
        first = await anext(aiter(download))
        began = time.monotonic()
        assert (await link.execute("python", "alice", ExecutionSpec("print fine")))[1].stdout == "fine"
        assert time.monotonic() - began < 5
        assert len(first) + sum([len(chunk) async for chunk in download]) == 9 * MIB


# ---- hosts that are not there


async def test_a_host_that_is_not_there_is_said_so_and_found_again(path: Path) -> None:
    """A gateway outlives its host: connections of the old one are not used for the new one."""
    link = HostLink(path)
    with pytest.raises(errors.HostUnavailable):
        await link.pools()
    for _ in range(2):
        async with host(FakeBackend(), path):
            assert (await link.open("python", "alice")).is_new
        with pytest.raises(errors.HostUnavailable):
            await link.open("python", "alice")
    await link.close()


async def test_a_stopping_host_tells_its_callers(path: Path) -> None:
    link = HostLink(path)
    async with host(FakeBackend(), path) as keeper:
        running = asyncio.create_task(link.execute("python", "alice", ExecutionSpec("sleep 5")))
        await asyncio.sleep(0.05)
        await keeper.close()
        with pytest.raises(errors.SessionLost, match="the service is stopping"):
            await running
    await link.close()


async def test_a_socket_left_behind_is_replaced_and_one_in_use_is_not(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    async with host(FakeBackend(), path):
        with pytest.raises(errors.HostUnavailable, match="Another server"):
            bind(path, None)
        assert (await HostLink(path).pools())[0].spec.name == "python"


async def test_a_stranger_is_not_read(path: Path) -> None:
    """Who connects is known by the kernel's word; a user that is no gateway's gets nothing, whatever he sends."""
    async with Keeper({Level.NAMESPACE: FakeBackend()}) as keeper:
        with bind(path, None) as sock:
            async with Service(keeper, sock, {os.geteuid() + 1}):
                with pytest.raises(errors.HostUnavailable):
                    await HostLink(path).pools()


@pytest.mark.parametrize("request_bytes", [b"\xff" * 64, encode({"op": "no-such"}), encode({}), encode({"op": "open"})])
async def test_a_request_that_is_none_ends_nothing_else(keeper: Keeper, path: Path, request_bytes: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(request_bytes)
    answer = await asyncio.wait_for(reader.read(65536), 2)
    writer.close()

    for header, _ in Decoder().feed(answer):
        assert header["error"]["code"] == "InternalServerError" and "Traceback" not in json.dumps(header)
    link = HostLink(path)
    assert (await link.open("python", "alice")).is_new
    await link.close()


# ---- more of executions: displays, variables, commands, events, cancel, restart


async def test_displays_variables_and_exit_codes_cross_whole(
    link: HostLink, keeper: Keeper, backend: FakeBackend
) -> None:
    """In both directions: what is given to an execution, and what comes back with it."""
    picture = {"image/svg+xml": "x" * 600_000, "application/json": {"a": [1, None]}}
    code = f"print one\ndisplay {json.dumps({'data': picture, 'metadata': {'w': 1}})}\nget\nreturned " + '{"y": [1.5]}'
    spec = ExecutionSpec(code, variables={"x": "given"}, wanted=("y", "z"))
    _, execution = await link.execute("python", "alice", spec)

    assert execution.outputs == (Output(picture, {"w": 1}),) and execution.dropped_outputs == 0
    assert (execution.stdout, execution.variables) == ("onegiven", {"y": [1.5]})
    opened = agent(backend, keeper).opened
    assert (opened.get("kind", "code"), opened["get"]) == ("code", ["y", "z"])

    for command in (ShellCommand("print x\nexit 3"), ShellCommand(argv=("print x\nexit 3", "y"), stdin="in")):
        _, failed = await link.execute("python", "alice", ExecutionSpec("", shell=command))
        assert (failed.exit_code, failed.status, failed.stdout) == (3, Status.FAILED, "x")
        assert agent(backend, keeper).opened.get("kind", "code") == "shell" and failed.variables is None


async def test_events_come_in_order_while_the_code_runs(link: HostLink) -> None:
    """Each as it is written, then the result, which holds all of it again."""
    code = 'print a\nsleep 0.1\ndisplay {"data": {"text/plain": "d"}}\nprint b\nsleep 0.1\nvalue 1'
    seen = []
    async with link.stream("python", "alice", ExecutionSpec(code)) as stream:
        assert stream.session.is_new
        async for event in stream:
            seen.append((event.kind, event.text, time.monotonic()))
            last = event

    assert [each[:2] for each in seen] == [("stdout", "a"), ("display", ""), ("stdout", "b"), ("result", "")]
    assert seen[1][2] - seen[0][2] > 0.08 and seen[3][2] - seen[2][2] > 0.08
    assert last.execution == await link.execution("python", "alice", stream.id)
    async with link.follow("python", "alice", stream.id, after=1) as again:
        assert [event.kind async for event in again] == ["display", "stdout", "result"]


async def test_an_execution_is_canceled_and_a_session_restarted(link: HostLink) -> None:
    running = asyncio.create_task(link.execute("python", "alice", ExecutionSpec("sleep 30", operation_id="op")))
    await asyncio.sleep(0.05)
    canceled = await link.cancel("python", "alice", "op")
    assert (canceled.status, canceled.outcome) == (Status.CANCELED, Outcome.CANCELED)
    assert (await running)[1] == canceled == await link.cancel("python", "alice", "op")
    assert await link.cancel_all("python", "alice") == 0

    await link.execute("python", "alice", ExecutionSpec("set 1"))
    assert (await link.restart("python", "alice")).identifier == "alice"
    assert (await link.execute("python", "alice", ExecutionSpec("get")))[1].stdout == "unset"
    listed, total = await link.executions("python", "alice", skip=1, limit=10)
    assert total == 3 and [each.status for each in listed] == [Status.SUCCEEDED] * 2 and listed[1].stdout == ""


async def test_an_environment_is_given_once(link: HostLink, keeper: Keeper, backend: FakeBackend) -> None:
    """At the session's creation; after a restart the new interpreter has it too."""
    await link.open("python", "alice", {"NAME": "wert €"})
    assert not (await link.open("python", "alice", {"NAME": "wert €"})).is_new
    await link.restart("python", "alice")

    assert agent(backend, keeper).environments == [{"NAME": "wert €"}] * 2
    for other in ({}, {"NAME": "other"}):
        with pytest.raises(errors.SessionExists):
            await link.open("python", "alice", other)
    await link.open("python", "alice")
