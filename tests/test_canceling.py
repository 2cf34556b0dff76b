"""Ending executions, beginning anew, and what nobody waits for: on small sandboxes, with every state that a session can be in."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from carrel import errors
from carrel.models import ExecutionSpec, Outcome, PoolSpec, Status
from carrel.sessions import runner, store
from carrel.sessions.executions import CANCELED, TIMED_OUT, Record
from carrel.sessions.keeper import Keeper
from carrel.sessions.session import Session
from carrel.sessions.states import SessionState
from fake_sandboxes import FakeBackend
from small_pool import pieces, pool_of, run, until

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("hurry")]


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def alice(keeper: Keeper) -> Session:
    return (await keeper.session("python", "alice"))[0]


def start(session: Session, code: str, operation_id: str = "op", timeout: float = 5.0) -> Record:
    return session.submit(ExecutionSpec(code, operation_id=operation_id, timeout=timeout))


# ---- cancel


async def test_running_code_is_interrupted_and_its_variables_stay(alice: Session) -> None:
    await run(alice, "set kept")
    record = start(alice, "print before\nsleep 30")
    await asyncio.sleep(0.02)
    began = time.monotonic()
    assert await alice.cancel("op") is record

    assert (record.status, record.outcome) == (Status.CANCELED, Outcome.CANCELED)
    assert (record.stdout, record.stderr.decode()) == (b"before", CANCELED)
    assert time.monotonic() - began < 10
    assert (await run(alice, "get")).stdout == b"kept"


async def test_code_that_ignores_it_costs_the_interpreter(alice: Session, backend: FakeBackend) -> None:
    """The ladder of a timeout: after the grace period everything is killed, the session stays."""
    await alice.upload("kept.txt", pieces(b"content"))
    record = start(alice, "print before\nhang")
    await alice.cancel("op")

    assert (record.status, record.stdout) == (Status.CANCELED, b"before")
    assert (await run(alice, "get")).stdout == b"unset"
    assert (await alice.stat("kept.txt")).size == 7
    assert backend.alive[alice.guest.sandbox.id].interpreters == 2


async def test_what_waits_is_taken_out_of_the_line(alice: Session, backend: FakeBackend) -> None:
    """At once, and never run; those behind it move up."""
    first, second, third = (
        start(alice, code, code[-3:]) for code in ("sleep 0.5\nprint one", "print two", "print 3rd")
    )
    await alice.cancel("two")

    assert first.status is Status.RUNNING
    assert (second.status, second.stderr.decode(), second.wall_ms) == (Status.CANCELED, CANCELED, 0)
    await third.done()
    assert (first.status, third.stdout) == (Status.SUCCEEDED, b"3rd")
    assert backend.agent_of(alice).ran == ["sleep 0.5\nprint one", "print 3rd"]


async def test_what_is_over_stays_what_it_is(alice: Session) -> None:
    await run(alice, "print done", operation_id="op")
    for _ in range(2):
        assert (await alice.cancel("op")).status is Status.SUCCEEDED
    with pytest.raises(errors.ExecutionMissing):
        await alice.cancel("unknown")


async def test_many_cancel_the_same(alice: Session) -> None:
    record = start(alice, "sleep 30")
    answers = await asyncio.gather(*(alice.cancel("op") for _ in range(20)), alice.cancel_all(), alice.cancel_all())

    assert set(answers[:20]) == {record} and sum(each for each in answers[20:] if isinstance(each, int)) == 0
    assert record.status is Status.CANCELED
    assert (await run(alice, "print next")).stdout == b"next"


async def test_all_of_a_session(alice: Session) -> None:
    records = [start(alice, "sleep 30", f"op-{number}") for number in range(4)]
    assert await alice.cancel_all() == 4
    assert {record.status for record in records} == {Status.CANCELED}
    assert await alice.cancel_all() == 0
    assert (await run(alice, "print next")).stdout == b"next"


async def test_a_caller_that_vanishes_cancels_all_the_same(alice: Session) -> None:
    record = start(alice, "hang")
    caller = asyncio.create_task(alice.cancel("op"))
    await asyncio.sleep(0.02)
    caller.cancel()
    await record.done()
    assert record.status is Status.CANCELED


async def test_cancel_and_deadline_together_end_it_once(alice: Session) -> None:
    """Whichever comes first names it; both find the session as they should leave it."""
    for number in range(8):
        record = start(alice, "hang" if number % 2 else "sleep 30", f"op-{number}", timeout=0.05)
        await asyncio.sleep(0.045 + 0.003 * number / 2)
        await alice.cancel(record.id)
        assert (record.status, record.stderr.decode()) in ((Status.CANCELED, CANCELED), (Status.FAILED, TIMED_OUT))
        assert (await run(alice, "print next")).stdout == b"next"


async def test_cancel_while_the_interpreter_dies_tells_its_death(alice: Session) -> None:
    record = start(alice, "die")
    await until(lambda: alice.state is SessionState.RESTARTING or record.is_over)
    assert (await alice.cancel("op")).outcome is Outcome.KILLED
    assert (await run(alice, "get")).stdout == b"unset"


async def test_cancel_while_the_session_ends(alice: Session, keeper: Keeper) -> None:
    start(alice, "hang")
    canceling = asyncio.create_task(alice.cancel("op"))
    await asyncio.sleep(0.02)
    keeper.end("python", "alice")

    with pytest.raises(errors.SessionEnded):
        await canceling
    with pytest.raises(errors.SessionEnded):
        await alice.cancel("op")


async def test_an_agent_that_does_not_answer_is_killed(backend: FakeBackend) -> None:
    backend.mute = frozenset({"interrupt", "reset"})
    async with pool_of(backend) as keeper:
        alice, _ = await keeper.session("python", "alice")
        record = start(alice, "hang")
        await alice.cancel("op")

        assert record.status is Status.CANCELED
        await until(lambda: alice.state is SessionState.ENDED)


# ---- restart


async def test_a_restart_loses_variables_and_keeps_files(alice: Session, backend: FakeBackend) -> None:
    await run(alice, "set gone")
    await alice.upload("kept.txt", pieces(b"content"))
    await alice.restart()

    assert (await run(alice, "get")).stdout == b"unset" and (await alice.stat("kept.txt")).size == 7
    assert backend.alive[alice.guest.sandbox.id].interpreters == 2


async def test_a_restart_cancels_what_runs_and_what_waits(alice: Session) -> None:
    """At once: nothing is asked to stop first."""
    running, waiting = start(alice, "print before\nhang", "one"), start(alice, "get", "two")
    await asyncio.sleep(0.02)
    began = time.monotonic()
    await alice.restart()

    assert time.monotonic() - began < 0.9, "the grace of an interrupt is a second"
    assert (running.status, running.stdout, running.stderr.decode()) == (Status.CANCELED, b"before", CANCELED)
    assert (waiting.status, waiting.stdout) == (Status.CANCELED, b"")
    assert (await run(alice, "get")).stdout == b"unset"


async def test_restarts_at_the_same_time_are_one(alice: Session, backend: FakeBackend) -> None:
    start(alice, "hang")
    restarts = [asyncio.create_task(alice.restart()) for _ in range(10)]
    await asyncio.sleep(0)
    following = asyncio.create_task(run(alice, "get"))
    await asyncio.gather(*restarts)

    assert (await following).stdout == b"unset"
    assert backend.alive[alice.guest.sandbox.id].interpreters == 2


async def test_a_restart_does_not_wait_for_a_deadline_under_way(
    alice: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code past its deadline, within the grace period: it is over as what it was, and the interpreter goes at once."""
    monkeypatch.setattr(runner, "GRACE_S", 5.0)
    record = start(alice, "hang", timeout=0.05)
    await until(lambda: alice.state is SessionState.INTERRUPTING)
    began = time.monotonic()
    await alice.restart()

    assert time.monotonic() - began < 1 and record.outcome is Outcome.TIMEOUT
    assert (await run(alice, "get")).stdout == b"unset"


async def test_a_restart_that_cannot_be_ends_the_session(alice: Session, backend: FakeBackend) -> None:
    backend.interpreter_failure = "no memory for another"
    record = start(alice, "hang")
    with pytest.raises(errors.SessionLost, match="could not be replaced"):
        await alice.restart()
    assert record.status is Status.CANCELED and alice.state is SessionState.ENDED
    with pytest.raises(errors.SessionLost):
        await alice.restart()


async def test_an_environment_outlives_every_interpreter(alice: Session, backend: FakeBackend) -> None:
    """It is there before anything that waits runs."""
    await alice.set_environment({"A": "1"}, is_new=True)
    dying, following = start(alice, "die", "one"), start(alice, "print x", "two")
    await following.done()
    await alice.restart()

    assert dying.outcome is Outcome.KILLED
    assert backend.agent_of(alice).environments == [{"A": "1"}] * 3


async def test_no_order_of_calls_leaves_a_session_hanging(alice: Session) -> None:
    """Cancel, restart, deadline, death and more code, at any moments: every execution ends, and the session works."""
    chance = random.Random(41)  # noqa: S311 - the same disorder each time
    words = ("sleep 0.02\nprint x", "hang", "die", "sleep 30", "print x", "exit 3")
    records: list[Record] = []

    async def disturb(number: int) -> None:
        await asyncio.sleep(chance.random())
        match number % 4:
            case 0:
                records.append(start(alice, chance.choice(words), f"op-{number}", timeout=0.05 + chance.random() / 5))
            case 1 if records:
                await alice.cancel(chance.choice(records).id)
            case 2:
                await alice.restart()
            case 3:
                await alice.cancel_all()

    async with asyncio.timeout(20):
        await asyncio.gather(*(disturb(number) for number in range(60)))
        for record in records:
            await record.done()
        assert (await run(alice, "print fine")).stdout == b"fine"
    assert alice.state is SessionState.IDLE
    assert {record.status for record in records} <= {Status.SUCCEEDED, Status.FAILED, Status.CANCELED}


# ---- what nobody waits for


def begin(session: Session, code: str, operation_id: str, timeout: float = 5.0) -> Record:
    spec = ExecutionSpec(code, timeout=timeout, is_asynchronous=True, operation_id=operation_id)
    return session.submit(spec)


async def test_an_unread_result_is_not_pushed_out(alice: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whatever else is finished meanwhile; once it has been read it is like any other."""
    monkeypatch.setattr(store, "KEPT", 5)
    record = begin(alice, "print kept", "asked")
    for number in range(20):
        await run(alice, f"print {number}")
    assert alice.execution("asked") is record and record.stdout == b"kept"
    alice.read(record)
    for number in range(6):
        await run(alice, f"print {number}")

    with pytest.raises(errors.ExecutionMissing):
        alice.execution("asked")


async def test_too_many_unread_results_refuse_more(alice: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 for another one, until some are read; calls that somebody waits for go on."""
    monkeypatch.setattr(store, "KEPT", 3)
    records = [begin(alice, "print x", f"op-{number}") for number in range(3)]
    await records[-1].done()
    with pytest.raises(errors.SessionBusy):
        begin(alice, "print x", "one more")
    assert (await run(alice, "print fine")).stdout == b"fine"
    alice.read(records[0])

    begin(alice, "print x", "one more")


async def test_unread_results_that_grew_too_large_are_bounded(alice: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those taken before anybody knew how large they are: the oldest go."""
    monkeypatch.setattr(store, "UNREAD_BYTES", 10_000)
    records = [begin(alice, f'value "{"x" * 4000}"', f"op-{number}") for number in range(6)]
    await records[-1].done()

    assert [each.id for each in alice.executions(0, 100)[0]] == ["op-4", "op-5"]


@pytest.mark.parametrize("is_asynchronous", [True, False])
async def test_a_pool_bounds_both_kinds_of_calls(is_asynchronous: bool, backend: FakeBackend) -> None:
    """What nobody waits for may take longer, where the pool allows it; it keeps its session from expiring all the while."""
    async with pool_of(backend, cooldown=1) as keeper:
        await keeper.apply_pool(PoolSpec("python", cooldown=1, maximum_execution=1, maximum_asynchronous=3))
        alice, _ = await keeper.session("python", "alice")
        record = alice.submit(ExecutionSpec("sleep 2\nprint x", timeout=86_400, is_asynchronous=is_asynchronous))
        await record.done()

        assert record.outcome is (Outcome.OK if is_asynchronous else Outcome.TIMEOUT)
        assert keeper.find("python", "alice") is alice


async def test_executions_are_listed_in_their_order(alice: Session) -> None:
    await run(alice, "print one", operation_id="one")
    start(alice, "sleep 30", "two")
    start(alice, "sleep 30", "three")
    records, total = alice.executions(1, 1)

    assert [record.id for record in records] == ["two"] and total == 3
    assert alice.executions(3, 10) == ([], 3)
    assert [record.status for record in alice.executions(0, 10)[0]] == [
        Status.SUCCEEDED,
        Status.RUNNING,
        Status.NOT_STARTED,
    ]
    await alice.cancel_all()
