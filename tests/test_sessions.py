"""Sessions on small sandboxes that are real enough: order, deadlines, deaths, hostile agents, and who gets which sandbox."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import pytest

from carrel import errors
from carrel.backends.base import Death
from carrel.backends.network import Network
from carrel.guest.frames import Decoder, FrameError, Header, encode
from carrel.models import MIB, ExecutionSpec, Level, Outcome, PoolSpec, ShellCommand, Status, Usage
from carrel.sessions.budget import Budget
from carrel.sessions.channel import Channel
from carrel.sessions.executions import TIMED_OUT, Order, Record, cut
from carrel.sessions.keeper import Keeper
from carrel.sessions.room import short
from carrel.sessions.states import SANDBOX, SESSION, SessionEvent, SessionState, TransitionError, step
from carrel.sessions.store import KEPT, Store
from fake_sandboxes import FakeBackend
from small_pool import pieces, pool_of, run, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("hurry")]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


# ---- code


async def test_a_sessions_output_value_and_state(keeper: Keeper) -> None:
    """What the code printed and returned comes back, and state lives as long as the session does."""
    alice, is_new = await keeper.session("python", "alice")
    record = await run(alice, "set 41\nprint hi\nvalue 42")

    assert is_new
    assert (record.status, record.stdout, record.stderr) == (Status.SUCCEEDED, b"hi", b"")
    assert b"42" in record.value
    assert (await run(alice, "get")).stdout == b"41"
    assert (await run(alice, "error oh no")).status is Status.FAILED


async def test_calls_of_a_session_run_in_order_and_one_at_a_time(keeper: Keeper) -> None:
    alice, _ = await keeper.session("python", "alice")
    order: list[int] = []

    async def call(number: int) -> None:
        await run(alice, f"sleep 0.01\nset {number}")
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(10)))
    assert order == list(range(10))
    assert (await run(alice, "get")).stdout == b"9"


async def test_too_many_waiting_calls_are_refused(keeper: Keeper) -> None:
    alice, _ = await keeper.session("python", "alice")
    records = [alice.submit(ExecutionSpec("sleep 0.001")) for _ in range(65)]

    with pytest.raises(errors.SessionBusy):
        alice.submit(ExecutionSpec("get"))
    await records[-1].done()


async def test_a_caller_that_vanishes_changes_nothing(keeper: Keeper) -> None:
    """The execution runs to its end, and its result can be had by its id."""
    alice, _ = await keeper.session("python", "alice")
    caller = asyncio.create_task(run(alice, "sleep 0.1\nprint done", operation_id="op-1"))
    await asyncio.sleep(0.02)
    caller.cancel()

    record = alice.execution("op-1")
    assert record.status is Status.RUNNING
    await record.done()
    assert record.stdout == b"done"


async def test_a_repeated_operation_runs_once(keeper: Keeper, backend: FakeBackend) -> None:
    alice, _ = await keeper.session("python", "alice")
    first, second = await asyncio.gather(*(run(alice, "sleep 0.05\nprint x", operation_id="op") for _ in range(2)))

    assert first is second and backend.agent_of(alice).ran == ["sleep 0.05\nprint x"]
    with pytest.raises(errors.ExecutionConflict):
        await run(alice, "print other", operation_id="op")
    with pytest.raises(errors.ExecutionMissing):
        alice.execution("unknown")


async def test_output_is_cut_in_characters_without_a_marker(keeper: Keeper) -> None:
    alice, _ = await keeper.session("python", "alice")

    assert (await run(alice, "print ää€€", limit=3)).stdout.decode() == "ää€"
    assert len((await run(alice, "flood 40000", limit=10_000)).stdout) == 10_000


def test_a_message_of_ours_fits_into_the_limit() -> None:
    """The traceback gives way to the reason, not the other way round."""
    ended = cut(b"x" * 100, 70, TIMED_OUT)

    assert len(ended) == 70 and ended.endswith(b"x\n" + TIMED_OUT.encode())
    assert cut(b"tail\n", 4096, "why") == b"tail\nwhy"
    assert cut(b"", 4096, "why") == b"why"


def record_of(operation_id: str, *, is_asynchronous: bool = False) -> Record:
    spec = ExecutionSpec("", operation_id=operation_id, is_asynchronous=is_asynchronous)
    return Record(spec, Order.of(spec), 0.0)


def test_the_store_forgets_the_oldest_results_first_and_never_a_running_one() -> None:
    store = Store(Budget(1024 * MIB))
    running = record_of("running")
    store.add(running)
    for number in range(KEPT + 1):
        record = record_of(f"op-{number}")
        store.add(record)
        record.finish(Outcome.OK, Usage())
        store.finished(record)

    assert store.get("op-0") is None and store.get("op-1") is not None
    assert store.get("running") is running

    large = record_of("large")
    store.add(large)
    large.value = b"x" * (65 * MIB)
    large.finish(Outcome.OK, Usage())
    store.finished(large)
    assert store.get("op-100") is None and store.get("large") is large and store.get("running") is running


def test_the_session_that_holds_most_gives_up_its_results_first() -> None:
    """All sessions together have a bound: one that floods loses its own results, never a neighbour's. The ended ones count no more."""
    budget = Budget(10 * MIB)
    quiet, loud = Store(budget), Store(budget)
    keep(quiet, "small", MIB)
    for number in range(20):
        keep(loud, f"large-{number}", 2 * MIB)

    assert quiet.get("small") is not None and loud.get("large-19") is not None and loud.get("large-0") is None
    assert budget.used_bytes == quiet.size + loud.size <= 10 * MIB
    assert loud.lose(errors.SessionLost("over")) >= 8 * MIB and loud.lose(errors.SessionLost("over")) == 0
    assert budget.used_bytes == quiet.size


def test_results_that_nobody_has_read_go_last() -> None:
    budget = Budget(10 * MIB)
    store = Store(budget)
    unread = keep(store, "unread", 4 * MIB, is_asynchronous=True)
    for number in range(5):
        keep(store, f"read-{number}", 3 * MIB)

    assert store.get("unread") is unread and budget.used_bytes == store.size <= 10 * MIB
    store.read(unread)
    keep(store, "last", 4 * MIB)
    assert store.get("last") is not None and budget.used_bytes == store.size <= 10 * MIB


async def test_calls_that_wait_have_a_bound_in_bytes(keeper: Keeper) -> None:
    """Not only in number: sixty-four programs of eight megabytes would be half a gigabyte of one session's."""
    alice, _ = await keeper.session("python", "alice")
    large = ExecutionSpec("print " + "x" * 7 * MIB)
    alice.submit(ExecutionSpec("sleep 30"))
    waiting = [alice.submit(large) for _ in range(4)]

    with pytest.raises(errors.SessionBusy):
        alice.submit(large)
    waiting.append(alice.submit(ExecutionSpec("print small")))
    assert await alice.cancel_all() == 6
    assert {record.status for record in waiting} == {Status.CANCELED}


def keep(store: Store, operation_id: str, size: int, *, is_asynchronous: bool = False) -> Record:
    record = record_of(operation_id, is_asynchronous=is_asynchronous)
    store.add(record)
    record.value = b"x" * size
    record.finish(Outcome.OK, Usage())
    store.finished(record)
    return record


def test_a_result_does_not_keep_the_program_it_came_from() -> None:
    """Hundreds of results are kept, and counted by their output: a program may have 8 MiB."""
    for spec in (
        ExecutionSpec("x" * MIB),
        ExecutionSpec("", shell=ShellCommand("cat", stdin="x" * MIB)),
        ExecutionSpec("", shell=ShellCommand(argv=("echo", "x" * MIB))),
    ):
        record = Record(spec, Order.of(spec), time.monotonic())
        record.finish(Outcome.OK, Usage())
        assert record.order is None and len(repr(record.spec)) < 1000
        assert (record.spec.shell is None) == (spec.shell is None)


# ---- deadlines and deaths


async def test_code_over_its_deadline_is_interrupted_and_keeps_its_variables(keeper: Keeper) -> None:
    alice, _ = await keeper.session("python", "alice")
    await run(alice, "set kept")
    record = await run(alice, "print before\nsleep 30", timeout=0.1)

    assert (record.status, record.stdout, record.stderr.decode()) == (Status.FAILED, b"before", TIMED_OUT)
    assert 90 <= record.wall_ms <= 500
    assert (await run(alice, "get")).stdout == b"kept"


async def test_code_that_does_not_stop_costs_the_interpreter_not_the_session(
    keeper: Keeper, backend: FakeBackend
) -> None:
    """After the grace period every process is killed; the next call finds a fresh interpreter and the same files."""
    alice, _ = await keeper.session("python", "alice")
    await run(alice, "set gone")
    await alice.upload("kept.txt", pieces(b"content"))
    stuck = asyncio.create_task(run(alice, "print before\nhang", timeout=0.1))
    await asyncio.sleep(0.01)
    following = await run(alice, "get")

    assert (await stuck).stdout == b"before" and (await stuck).stderr.decode() == TIMED_OUT
    assert following.stdout == b"unset" and following.queued_ms >= 400
    assert (await alice.stat("kept.txt")).size == 7
    assert backend.alive[alice.guest.sandbox.id].interpreters == 2


@pytest.mark.parametrize(
    ("death", "text"),
    [
        (Death(was_out_of_memory=True, signal=9), "Kernel restarted: out of memory (the limit is 64 MiB)"),
        (Death(signal=11), "Kernel restarted: the process was killed by SIGSEGV (Segmentation fault)"),
        (Death(exit_code=3), "Kernel restarted: the process exited with code 3"),
        (Death(), "Kernel restarted"),
    ],
)
async def test_an_interpreter_that_dies_is_a_result_and_is_replaced(
    keeper: Keeper, backend: FakeBackend, death: Death, text: str
) -> None:
    backend.how_they_die = death
    alice, _ = await keeper.session("python", "alice")
    record = await run(alice, "print last words\ndie")

    assert (record.status, record.stdout, record.stderr.decode()) == (Status.FAILED, b"last words", text)
    assert (await run(alice, "get")).stdout == b"unset"


async def test_an_interpreter_that_dies_between_calls_is_replaced(keeper: Keeper, backend: FakeBackend) -> None:
    alice, _ = await keeper.session("python", "alice")
    backend.agent_of(alice).send({"s": 0, "event": "died"})
    await until(lambda: backend.alive[alice.guest.sandbox.id].interpreters == 2)

    assert (await run(alice, "get")).status is Status.SUCCEEDED


async def test_a_session_whose_interpreter_cannot_be_replaced_ends(keeper: Keeper, backend: FakeBackend) -> None:
    backend.interpreter_failure = "no memory for another"
    alice, _ = await keeper.session("python", "alice")
    dying = asyncio.create_task(run(alice, "die"))
    await asyncio.sleep(0)

    with pytest.raises(errors.SessionLost, match="could not be replaced"):
        await run(alice, "get")
    assert (await dying).stderr == b"Kernel restarted"
    again, is_new = await keeper.session("python", "alice")
    assert is_new and again is not alice


async def test_an_agent_that_does_not_answer_is_killed(backend: FakeBackend) -> None:
    """The last step of the ladder: neither interrupt nor reset is answered."""
    backend.mute = frozenset({"interrupt", "reset"})
    async with pool_of(backend) as keeper:
        alice, _ = await keeper.session("python", "alice")
        name = alice.guest.sandbox.id
        record = await run(alice, "hang", timeout=0.05)

        assert record.stderr.decode() == TIMED_OUT
        await until(lambda: name not in backend.alive)
        assert alice.state is SessionState.ENDED


# ---- hostile agents

HOSTILE = {
    "a stream that was never opened": 'frame {"s": 999, "data": "stdout"}',
    "a stream number below zero": 'frame {"s": -1, "end": 1}',
    "a stream number that is a boolean": 'frame {"s": true, "end": 1}',
    "no stream number": 'frame {"end": 1}',
    "another call's stream": 'frame {"s": 1, "end": 1}',
    "output of no kind": 'frame {"s": "N", "data": "stdin"}',
    "output of a kind that is a list": 'frame {"s": "N", "data": ["stdout"]}',
    "an outcome that is none": 'frame {"s": "N", "end": 1, "outcome": "splendid"}',
    "an outcome of the wrong type": 'frame {"s": "N", "end": 1, "outcome": {"ok": 1}}',
    "a cause that is none": 'frame {"s": "N", "end": 1, "outcome": "error", "cause": "boredom"}',
    "a count below zero": 'frame {"s": "N", "end": 1, "outcome": "ok", "printed": -1}',
    "a count that is a text": 'frame {"s": "N", "end": 1, "outcome": "ok", "cpu_us": "1"}',
    "a count without end": 'frame {"s": "N", "end": 1, "outcome": "ok", "written": 99999999999999999999}',
    "an error that is no object": 'frame {"s": "N", "error": "boo"}',
    "an error with a message without end": 'frame {"s": "N", "error": {"code": "x", "message": "' + "m" * 5000 + '"}}',
    "an event that is none": 'frame {"s": 0, "event": "party"}',
    "deaths without number": 'frame {"s": 0, "event": "died"}\nframe {"s": 0, "event": "died"}',
    "more output than the cap": "flood 300000",
    "more displays than there may be": "display {}\n" * 101,
    "displays that are larger than their cap": "picture 17000000",
    "an exit code that is none": 'frame {"s": "N", "end": 1, "outcome": "ok", "exit": 256}',
    "an exit code that is a boolean": 'frame {"s": "N", "end": 1, "outcome": "ok", "exit": true}',
    "fewer than no displays dropped": 'frame {"s": "N", "end": 1, "outcome": "ok", "dropped": -1}',
    "a header that is too long": "bytes 7fffffff00000000",
    "a payload that is too long": "bytes 000000027fffffff7b7d",
    "a header that is no JSON": "bytes 00000003000000007b7d7d",
    "a header that is no object": "bytes 00000002000000005b5d",
    "the end of the channel": "vanish",
    "half a frame, then the end": "bytes 0000\nvanish",
}


@pytest.mark.parametrize("words", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hostile_agent_loses_its_own_session_only(keeper: Keeper, backend: FakeBackend, words: str) -> None:
    alice, _ = await keeper.session("python", "alice")
    bob, _ = await keeper.session("python", "bob")
    name = alice.guest.sandbox.id
    if words.startswith("frame") and "\n" in words:  # more than one frame: said by the agent itself
        calling = asyncio.create_task(run(alice, "sleep 5", limit=1000))
        await asyncio.sleep(0.01)
        for line in words.splitlines():
            backend.agent_of(alice)._frame(0, line.partition(" ")[2], 0)
    else:
        calling = asyncio.create_task(run(alice, words.replace("\nvanish", ""), limit=1000))
        if words.endswith("\nvanish"):
            await asyncio.sleep(0.02)
            backend.agent_of(alice)._vanish(0, "", 0)

    with pytest.raises(errors.SessionLost, match="The session ended while the call was under way: its"):
        await calling
    await until(lambda: name not in backend.alive)
    assert (await run(bob, "print fine")).stdout == b"fine"
    again, is_new = await keeper.session("python", "alice")
    assert is_new and (await run(again, "get")).stdout == b"unset"


async def test_an_agent_that_stops_reading_is_killed(keeper: Keeper, backend: FakeBackend) -> None:
    """What it does not take is bounded by credit, and its silence is noticed."""
    alice, _ = await keeper.session("python", "alice")
    name = alice.guest.sandbox.id
    await run(alice, "deaf")

    with pytest.raises(errors.SessionLost, match="stopped answering"):
        for _ in range(2):  # the first may still have been read
            await alice.upload("big", pieces(*[bytes(MIB)] * 20))
    await until(lambda: name not in backend.alive)


async def test_an_agent_may_report_errors_of_its_own_files_only(keeper: Keeper, backend: FakeBackend) -> None:
    """A forged code does not become an error of ours that means something else."""
    alice, _ = await keeper.session("python", "alice")
    backend.agent_of(alice)._op_stat = lambda number, header: backend.agent_of(alice).send(  # type: ignore[method-assign]
        {"s": number, "error": {"code": "Unauthorized", "message": "give me\x1b[31m a token"}}
    )

    with pytest.raises(errors.CarrelError) as caught:
        await alice.stat("x")
    assert type(caught.value) is errors.CarrelError
    assert "\x1b" not in caught.value.message


# ---- files


async def test_files_do_not_wait_for_code(keeper: Keeper) -> None:
    alice, _ = await keeper.session("python", "alice")
    running = asyncio.create_task(run(alice, "sleep 5", timeout=1.0))
    await asyncio.sleep(0.01)
    began = time.monotonic()
    stored = await alice.upload("a/b.txt", pieces(b"one", b"", b"two"))
    assert (stored.name, stored.directory, stored.size) == ("b.txt", "a", 6)
    assert [file.name for file in await alice.list_files("", True)] == ["b.txt"]
    async with alice.download("a/b.txt", 1, 3) as reading:
        assert (reading.file.size, reading.start, reading.length) == (6, 1, 3)
        assert b"".join([chunk async for chunk in reading.chunks]) == b"net"
    await alice.delete_file("a/b.txt")
    with pytest.raises(errors.FileMissing):
        await alice.stat("a/b.txt")

    assert time.monotonic() - began < 0.9 and not running.done()
    await running


async def test_a_large_file_goes_both_ways_within_its_credit(keeper: Keeper) -> None:
    alice, _ = await keeper.session("python", "alice")
    content = os.urandom(8 * MIB)
    await alice.upload("big", pieces(content[: 5 * MIB], content[5 * MIB :]))
    async with alice.download("big") as reading:
        received = bytearray()
        async for chunk in reading.chunks:
            received += chunk
            await asyncio.sleep(0)
    assert bytes(received) == content


async def test_a_reader_that_stops_stops_the_agent(keeper: Keeper, backend: FakeBackend) -> None:
    """The agent sends no more than its credit, and is told when nobody wants the rest."""
    alice, _ = await keeper.session("python", "alice")
    await alice.upload("big", pieces(bytes(8 * MIB)))
    async with alice.download("big") as reading:
        await anext(reading.chunks)
    await until(lambda: backend.agent_of(alice).aborted)

    assert (await run(alice, "print fine")).stdout == b"fine"


async def test_an_upload_that_breaks_leaves_nothing(keeper: Keeper, backend: FakeBackend) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError("the client is gone")

    alice, _ = await keeper.session("python", "alice")
    with pytest.raises(ConnectionResetError):
        await alice.upload("half", broken())
    await until(lambda: backend.agent_of(alice).aborted)

    assert await alice.list_files("", True) == []


async def test_an_upload_that_does_not_fit_ends_early(keeper: Keeper) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while taken < 1000 * MIB:
            taken += MIB
            yield bytes(MIB)

    alice, _ = await keeper.session("python", "alice")
    with pytest.raises(errors.DiskFull):
        await alice.upload("big", endless())
    assert taken < 20 * MIB


# ---- who gets which sandbox


async def test_a_hundred_first_calls_make_one_session(backend: FakeBackend) -> None:
    backend.create_s = 0.02
    async with pool_of(backend, ready=0) as keeper:
        answers = await asyncio.gather(*(keeper.session("python", "alice") for _ in range(100)))

        assert len({id(session) for session, _ in answers}) == 1
        assert [is_new for _, is_new in answers].count(True) == 1
        assert backend.made == 1


async def test_no_two_identifiers_share_a_sandbox(backend: FakeBackend) -> None:
    async with pool_of(backend, maximum=20) as keeper:
        sessions = [
            each for each, _ in await asyncio.gather(*(keeper.session("python", f"user-{n}") for n in range(20)))
        ]

        assert len({each.guest.sandbox.id for each in sessions}) == 20
        with pytest.raises(errors.PoolFull) as caught:
            await keeper.session("python", "one more")
        assert caught.value.headers["Retry-After"] == "60"


async def test_a_deleted_session_frees_its_slot_at_once(backend: FakeBackend) -> None:
    """The kill takes its time behind; the next caller does not wait for it."""
    async with pool_of(backend, maximum=1) as keeper:
        backend.kill_s = 1.5
        alice, _ = await keeper.session("python", "alice")
        running = asyncio.create_task(run(alice, "sleep 5"))
        await asyncio.sleep(0.01)
        began = time.monotonic()
        keeper.end("python", "alice")
        await keeper.session("python", "bob")

        assert time.monotonic() - began < 1.2
        with pytest.raises(errors.SessionLost, match="it was deleted"):
            await running
        with pytest.raises(errors.SessionNotFound):
            keeper.end("python", "alice")
    assert not backend.alive


async def test_a_ready_sandbox_that_dies_is_replaced(keeper: Keeper, backend: FakeBackend) -> None:
    await until(lambda: keeper.pools()[0].warm == 2)
    next(iter(backend.alive.values())).agent._vanish(0, "", 0)
    await until(lambda: len(backend.alive) == 1)
    await until(lambda: keeper.pools()[0].warm == 2)

    assert len(backend.alive) == 2


async def test_an_idle_session_expires_and_a_busy_one_does_not(backend: FakeBackend) -> None:
    async with pool_of(backend, cooldown=1) as keeper:
        alice, _ = await keeper.session("python", "alice")
        await keeper.session("python", "bob")
        alice.submit(ExecutionSpec("sleep 1.3", is_asynchronous=True))
        views, total = keeper.sessions("python", 0, 300)
        assert [view.identifier for view in views] == ["alice", "bob"] and total == 2
        assert views[0].expires_at == pytest.approx(time.time() + 1, abs=0.2)

        await asyncio.sleep(1.2)
        assert keeper.sessions("python", 0, 300)[1] == 1
        assert keeper.find("python", "alice") is alice
        await until(lambda: keeper.sessions("python", 0, 300)[1] == 0)


async def test_a_first_call_is_told_why_no_sandbox_starts(backend: FakeBackend) -> None:
    backend.failures = ["the disk is full"] * 3
    async with pool_of(backend, ready=0) as keeper:
        with pytest.raises(errors.SandboxStartFailed, match="the disk is full"):
            await keeper.session("python", "alice")
        assert keeper.pools()[0].error == "the disk is full"


async def test_a_pool_defined_anew_keeps_its_sessions_and_replaces_the_rest(
    keeper: Keeper, backend: FakeBackend
) -> None:
    alice, _ = await keeper.session("python", "alice")
    await until(lambda: keeper.pools()[0].starting == 0)
    before = set(backend.alive)
    await keeper.apply_pool(PoolSpec("python", ready=1, memory_bytes=32 * MIB))
    await until(
        lambda: keeper.pools()[0].warm == 2 and len(backend.alive) == 3
    )  # one more than `ready`: alice just came

    assert set(backend.alive) & before == {alice.guest.sandbox.id}
    assert (await keeper.session("python", "alice"))[0] is alice


async def test_new_sessions_start_while_a_pool_moves_to_an_image_that_is_being_built(
    keeper: Keeper, backend: FakeBackend
) -> None:
    """A build takes minutes: until it is done new sessions get the image there is, however many."""
    backend.image_s = 0.7
    move = asyncio.create_task(keeper.set_image("python", "another"))
    await asyncio.sleep(0.05)

    for number in range(5):  # more than are ready
        session, _ = await keeper.session("python", f"user-{number}")
        assert (await run(session, "print x")).stdout == b"x"
    assert not move.done()

    assert (await move).reference == "another"
    await until(lambda: keeper.pools()[0].warm >= 2)
    assert keeper.image("python") == await move
    session, _ = await keeper.session("python", "late")
    assert (await run(session, "print y")).stdout == b"y"


async def test_who_waits_for_a_pool_that_is_being_prepared_is_told_what_is_under_way(
    backend: FakeBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the machine's paths, with a Retry-After; the pool's status has it until the first sandbox is there."""
    monkeypatch.setattr("carrel.sessions.pool.WAIT_S", 0.05)
    backend.image_s, backend.image_lines = 0.3, ("building", "copying Python 3.11.2 from /usr/lib/my python")
    backend.create_s = 0.3
    async with Keeper({Level.NAMESPACE: backend}) as keeper:
        await keeper.apply_pool(PoolSpec("python", ready=1, memory_bytes=32 * MIB))
        with pytest.raises(errors.SandboxStartFailed, match=r"prepared: copying Python 3\.11\.2\. ") as early:
            await keeper.session("python", "alice")
        assert (early.value.status, early.value.headers["Retry-After"]) == (503, "5")
        assert keeper.pools()[0].preparing == "copying Python 3.11.2"

        await until(lambda: keeper.image("python") is not None)
        with pytest.raises(errors.SandboxStartFailed, match=r"still being prepared: starting its first sandbox\. "):
            await keeper.session("python", "alice")

        await until(lambda: keeper.pools()[0].warm)
        assert keeper.pools()[0].preparing is None
        assert (await keeper.session("python", "alice"))[1]


async def test_a_pool_that_cannot_be_prepared_says_why_and_not_that_it_is_being_prepared(backend: FakeBackend) -> None:
    backend.image_failures = ["no registry"] * 20
    async with pool_of(backend, ready=1) as keeper:
        assert await keeper.settled("python") == "no registry"
        assert (keeper.pools()[0].error, keeper.pools()[0].preparing) == ("no registry", None)


async def test_closing_ends_everything_and_may_be_repeated(backend: FakeBackend) -> None:
    backend.create_s = 0.05
    async with pool_of(backend, ready=1) as keeper:
        alice, _ = await keeper.session("python", "alice")
        running = asyncio.create_task(run(alice, "sleep 5"))
        waiting = [asyncio.create_task(keeper.session("python", f"user-{n}")) for n in range(3)]
        await asyncio.sleep(0.01)
        await keeper.close()
        await keeper.close()

        assert not backend.alive and backend.is_closed
        with pytest.raises(errors.SessionLost, match="the service is stopping"):
            await running
        for task in waiting:
            with pytest.raises(errors.SandboxStartFailed, match="the service is stopping"):
                await task
        with pytest.raises(errors.SandboxStartFailed):
            await keeper.session("python", "late")
        with pytest.raises(errors.PoolNotFound):
            await keeper.session("node", "alice")


# ---- parts


def test_what_is_not_in_a_table_cannot_happen() -> None:
    with pytest.raises(TransitionError):
        step(SESSION, SessionState.ENDED, SessionEvent.RUN)
    for table in (SESSION, SANDBOX):
        assert {state for state, _ in table} == set(type(next(iter(table))[0]))


async def test_descriptors_ride_on_their_own_frame() -> None:
    """Behind everything written before, however slowly the other side reads."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    read, write = os.pipe()
    channel = Channel(ours, lambda header, payload: None, lambda reason: None)
    channel.send(b"a" * 300_000)
    channel.send(b"b" * 10, [write])
    channel.send(b"c" * 100_000)
    theirs.setblocking(False)
    received, seen_at = bytearray(), 0
    while len(received) < 400_010:
        try:
            data, descriptors, _, _ = socket.recv_fds(theirs, 5000, 4)
        except BlockingIOError:
            await asyncio.sleep(0.001)
            continue
        received += data
        if descriptors:
            seen_at = len(received)
            os.write(descriptors[0], b"!")
            os.close(descriptors[0])
    channel.close()

    assert 300_000 < seen_at <= 300_010  # a read may begin before the message that carries them, and ends with it
    assert received == b"a" * 300_000 + b"b" * 10 + b"c" * 100_000
    assert os.read(read, 1) == b"!"
    for descriptor in (read, write):
        os.close(descriptor)
    theirs.close()


def test_frames_in_any_pieces() -> None:
    """The decoder gives the same frames however the bytes are cut, and refuses what is over its bounds at once."""
    sent: list[tuple[Header, bytes]] = [({"s": 1, "end": 1}, b""), ({"s": 2, "data": "stdout"}, b"x" * 1000)]
    stream = b"".join(encode(header, payload) for header, payload in sent)
    for size in (1, 3, 7, 500, len(stream)):
        decoder = Decoder()
        cuts = [*range(0, len(stream), size), len(stream)]
        assert [frame for start, stop in pairwise(cuts) for frame in decoder.feed(stream[start:stop])] == sent
    with pytest.raises(FrameError):
        list(Decoder().feed(b"\xff" * 8))


async def test_what_was_refused_is_logged_with_its_session(caplog: pytest.LogCaptureFixture) -> None:
    """The egress process knows sandboxes only; the log names the session by its digest, and never by its identifier."""

    async def start(*_nothing: object) -> Any:
        raise AssertionError("nothing here needs a process")

    network = Network(start, start)
    backend = FakeBackend(network=network)
    async with pool_of(backend) as keeper:
        alice, _ = await keeper.session("python", "alice")
        network.on_refused(alice.guest.sandbox.id, "elsewhere.example:443", "it is not on the pool's egress list", 3)
        network.on_refused("no sandbox of ours", "elsewhere.example:443", "", 0)

    (record,) = [vars(each) for each in caplog.records if each.message == "egress refused"]
    told = {name: record[name] for name in ("pool", "session", "target", "not_told_before")}
    assert told == {
        "pool": "python",
        "session": short("alice"),
        "target": "elsewhere.example:443",
        "not_told_before": 3,
    }
