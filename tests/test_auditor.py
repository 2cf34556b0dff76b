"""The auditor process with a gateway's end of the connection: nothing is lost or doubled when it is killed, stopped or out of room."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from carrel.audit.chain import Seal
from carrel.audit.messages import Message
from carrel.audit.trail import Limits, Trail, outdated
from carrel.audit.verifying import Report, verify
from carrel.auditor.arrivals import PATIENCE_S, Arrivals
from carrel.backends import ids
from carrel.cli.auditing import Auditing
from carrel.cli.children import Child
from carrel.config import load
from carrel.errors import AuditUnavailable
from carrel.server.audit import ledger as ledgers
from carrel.server.audit.ledger import Ledger
from carrel.server.audit.refusals import OF_A_PEER, WINDOW_S, Refusals

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Bench:
    """An auditor as the supervisor starts it, and a gateway's end."""

    def __init__(self, state: Path, auditing: Auditing, children: dict[str, Child], ledger: Ledger) -> None:
        self.state, self.auditing, self.children, self.ledger = state, auditing, children, ledger
        self._watching = asyncio.ensure_future(auditing.watch(lambda: None))

    @property
    def pid(self) -> int:
        return self.children["auditor"].pid

    def record(self, number: int, *, is_waited: bool = False) -> int:
        return self.ledger.record({"at": "2027", "action": "test/write", "n": number}, is_waited=is_waited)

    async def end(self) -> None:
        self._watching.cancel()
        await self.auditing.stop(10)
        self.auditing.close()

    def lines(self) -> list[dict[str, Any]]:
        files = sorted((self.state / "audit").glob("audit-*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def numbers(self) -> list[int]:
        return [line["n"] for line in self.lines() if line["action"] == "test/write"]

    def report(self) -> Report:
        return verify(self.state / "audit", Seal.of(self.state / "keys" / "audit.key"))


@asynccontextmanager
async def bench_of(state: Path, **settings: str) -> AsyncIterator[Bench]:
    (state / "keys").mkdir(mode=0o700)
    config = load({"state": str(state), "log-level": "error", **settings}, {})
    children: dict[str, Child] = {}
    auditing = Auditing(config, children)
    await auditing.start()
    descriptor = auditing.gateways_fd
    assert descriptor is not None
    end = socket.socket(fileno=os.dup(descriptor))
    bench = Bench(state, auditing, children, Ledger(end))
    running = asyncio.ensure_future(bench.ledger.run())
    await asyncio.sleep(0)
    try:
        yield bench
    finally:
        running.cancel()
        await asyncio.wait([running])
        await bench.end()
        end.close()


async def test_a_killed_auditor_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Killed again and again while records come: each is there once, in order, in a chain that is whole."""
    async with bench_of(tmp_path) as bench:
        last = 0
        for number in range(1, 601):
            last = bench.record(number, is_waited=number % 50 == 0)
            if number % 150 == 0:
                with contextlib.suppress(ProcessLookupError):  # the last one has no successor yet
                    os.kill(bench.pid, signal.SIGKILL)
            if number % 20 == 0:
                await asyncio.sleep(0)
        await wait_for(bench, last)

    assert bench.numbers() == list(range(1, 601))
    assert bench.report().is_whole, bench.report().faults
    assert sum(line["action"] == "audit/start" for line in bench.lines()) > 1


async def wait_for(bench: Bench, number: int) -> None:
    """Until a record is on the disk, however often the auditor has to be started for that."""
    for _ in range(12):
        try:
            return await bench.ledger.written(number)
        except AuditUnavailable:
            continue
    raise AssertionError("it was never written")


@pytest.mark.thorough
async def test_what_a_dead_gateway_sent_is_written(tmp_path: Path) -> None:
    """Sent is enough: the socket is the supervisor's, and the next gateway's records come after."""
    async with bench_of(tmp_path) as bench:
        os.kill(bench.pid, signal.SIGSTOP)
        for number in range(1, 51):
            bench.record(number)
        descriptor = bench.auditing.gateways_fd
        assert descriptor is not None
        with socket.socket(fileno=os.dup(descriptor)) as end:
            other = Ledger(end)  # of a gateway that takes the place of one that was killed
            number = other.record({"action": "test/write", "n": 51}, is_waited=True)
            os.kill(bench.pid, signal.SIGCONT)
            while len(bench.numbers()) < 51:  # noqa: ASYNC110 - nobody tells the test
                await asyncio.sleep(0.01)
        assert number == 1

    assert bench.numbers() == list(range(1, 52))
    assert bench.report().is_whole


async def test_what_does_not_fit_is_counted_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the auditor takes nothing: `drop` counts, and the log says how many; `block` has no room to give."""
    monkeypatch.setattr(ledgers, "MOST_KEPT", 100)
    monkeypatch.setattr(ledgers, "WAIT_S", 0.2)
    async with bench_of(tmp_path) as bench:
        os.kill(bench.pid, signal.SIGSTOP)
        given = [bench.record(number) for number in range(1, 151)]
        assert [bool(each) for each in given] == [True] * 100 + [False] * 50

        with pytest.raises(AuditUnavailable):
            await bench.ledger.room()
        with pytest.raises(AuditUnavailable):
            await bench.ledger.written(100)
        with pytest.raises(AuditUnavailable):
            await bench.ledger.ask({})

        os.kill(bench.pid, signal.SIGCONT)
        monkeypatch.setattr(ledgers, "WAIT_S", 20)
        await bench.ledger.room()
        await bench.ledger.written(bench.record(999, is_waited=True))

    assert bench.numbers() == [*range(1, 101), 999]
    dropped = [line["details"]["count"] for line in bench.lines() if line["action"] == "audit/drop"]
    assert dropped == [50]


@pytest.mark.thorough
async def test_a_question_is_answered_with_all_that_was_recorded_before(tmp_path: Path) -> None:
    """Also while others ask, and in pages."""
    async with bench_of(tmp_path) as bench:
        for number in range(1, 401):
            bench.record(number)
        answer = await bench.ledger.ask({"filter": {"action": "test"}, "limit": 300, "order": "desc"})
        assert [each["n"] for each in answer["records"]] == list(range(400, 100, -1))
        rest = await bench.ledger.ask({"filter": {"action": "test"}, "cursor": answer["cursor"], "order": "desc"})
        assert [each["n"] for each in rest["records"]] == list(range(100, 0, -1)) and rest["cursor"] is None


NONSENSE = [b"R", b"R \n", b"R a b c\n{}", b"Q\n{}", b"\xff" * 100, b"R a 1 \n" + b"x" * 100_000]


async def test_a_gateway_may_say_anything(tmp_path: Path) -> None:
    """The auditor serves on: what it cannot read is a line that says so, or nothing."""
    async with bench_of(tmp_path) as bench:
        descriptor = bench.auditing.gateways_fd
        assert descriptor is not None
        pid = bench.pid
        with socket.socket(fileno=os.dup(descriptor)) as end:
            for data in NONSENSE:
                end.send(data)
        await bench.ledger.written(bench.record(1, is_waited=True))
        assert bench.pid == pid

    assert bench.numbers() == [1]
    assert bench.report().is_whole


async def test_a_hostile_record_stays_one_line(tmp_path: Path) -> None:
    """Newlines, fields of the chain, half characters, what is too large: the chain is whole afterwards, and says what it was given."""
    async with bench_of(tmp_path) as bench:
        bench.ledger.record({"action": 'a\n{"seq":9}', "seq": 99, "hash": "x", "previous": "y", "text": "\ud800\u2028"})
        bench.ledger.record({"action": "test/large", "details": {"code": "\x00" * 200_000}})
        await bench.ledger.written(bench.record(1, is_waited=True))

    report = bench.report()
    assert report.is_whole, report.faults
    lines = bench.lines()
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    assert any(line["details"].get("what") == "the record was too large" for line in lines if "details" in line)


# ---- the disk ------------------------------------------------------------------------------------------------------------------


@contextmanager
def files_of(most: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: what a full disk is like, half a write included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def trail_of(tmp_path: Path) -> Iterator[Callable[..., Trail]]:
    (tmp_path / "audit").mkdir()
    (tmp_path / "keys").mkdir(mode=0o700)
    descriptor = os.open(tmp_path / "audit", os.O_RDONLY)

    def make(now: float = 0, **limits: int) -> Trail:
        wanted = {"file_bytes": 10_000, "file_s": 0, "kept_s": 0, "kept_bytes": 0, **limits}
        return Trail(descriptor, Seal.of(tmp_path / "keys" / "audit.key"), Limits(**wanted), now)

    yield make
    os.close(descriptor)


async def test_a_full_disk_tears_no_line(trail_of: Callable[..., Trail], tmp_path: Path) -> None:
    """What was written half is taken back, and the same records are written once there is room."""
    trail = trail_of()
    records = [{"action": "test/write", "n": number} for number in range(10)]
    trail.append(records[:1], 0)
    with files_of(700), pytest.raises(OSError, match="too large"):
        trail.append(records[1:], 0)
    trail.append(records[1:], 0)
    trail.close()

    report = verify(tmp_path / "audit", Seal.of(tmp_path / "keys" / "audit.key"))
    assert report.is_whole and report.records == 10


@pytest.mark.thorough
async def test_an_auditor_whose_disk_was_full_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps what it has, tells nobody that it is written, and writes it once it can."""
    monkeypatch.setattr(ids, "service", lambda *_: None)  # our own user's, as an ordinary user's are: we set its limits
    async with bench_of(tmp_path) as bench:
        await bench.ledger.written(bench.record(1, is_waited=True))
        unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(bench.pid, resource.RLIMIT_FSIZE, (1000, unlimited[1]))
        number = 0
        for each in range(2, 51):
            number = bench.record(each, is_waited=True)
        waiting = asyncio.ensure_future(wait_for(bench, number))
        assert not (await asyncio.wait([waiting], timeout=0.5))[0]
        resource.prlimit(bench.pid, resource.RLIMIT_FSIZE, unlimited)
        await waiting

    assert bench.numbers() == list(range(1, 51))
    assert bench.report().is_whole


async def test_files_follow_each_other_and_go(trail_of: Callable[..., Trail], tmp_path: Path) -> None:
    """By size and by age; what is too old or too much goes, the oldest first, and never the newest."""
    trail = trail_of(file_bytes=1000, kept_bytes=5000)
    for number in range(100):
        trail.append([{"action": "test/write", "n": number}], 0)
        trail.prune(0)
    trail.close()

    sizes = [file.stat().st_size for file in (tmp_path / "audit").glob("audit-*")]
    assert sum(sizes) < 7000 and len(sizes) > 2
    assert verify(tmp_path / "audit", Seal.of(tmp_path / "keys" / "audit.key")).is_whole
    assert outdated([], 0, Limits(1, 1, 1, 1)) == []


@pytest.mark.thorough
async def test_a_bound_of_all_holds_while_the_log_grows(tmp_path: Path) -> None:
    """Not only once an hour: a busy server would fill the disk meanwhile."""
    async with bench_of(tmp_path, **{"audit-file-mb": "1", "audit-total-mb": "2"}) as bench:
        for _ in range(100):
            last = bench.ledger.record({"at": "2027", "action": "test/write", "details": "x" * 100_000}, is_waited=True)
            await wait_for(bench, last)

    assert sum(file.stat().st_size for file in (tmp_path / "audit").glob("audit-*")) < 4 * 1024 * 1024
    assert bench.report().is_whole, bench.report().faults


# ---- decisions -----------------------------------------------------------------------------------------------------------------


def message(number: int, boot: str = "a", flags: str = "") -> Message:
    return Message(boot, number, flags, {"n": number})


def taken(arrivals: Arrivals, *numbers: int) -> list[int]:
    return [each.number for number in numbers for each in arrivals.take(message(number), 0)[0]]


async def test_records_come_in_order_and_once() -> None:
    """Whatever is sent twice or too early; what is missing is asked for once."""
    arrivals = Arrivals({"a": 5})
    assert taken(arrivals, 4, 5, 6, 6, 7) == [6, 7]
    assert arrivals.take(message(9), 0) == ([], True)
    assert arrivals.take(message(10), 0) == ([], False)
    assert taken(arrivals, 8) == [8, 9, 10]
    assert arrivals.come == {"a": 10}


async def test_what_nobody_sends_again_is_lost_and_told() -> None:
    """A gateway that is gone cannot: after a while the log says which are missing."""
    arrivals = Arrivals({})
    assert taken(arrivals, 1, 4, 5, 8) == [1]
    assert arrivals.overdue(PATIENCE_S / 2) == ([], [])

    found, told = arrivals.overdue(PATIENCE_S * 2)

    assert [each.number for each in found] == [4, 5, 8]
    assert [(each["first"], each["last"]) for each in told] == [(2, 3), (6, 7)]


async def test_a_gateway_may_begin_where_it_says() -> None:
    """What it does not send any more was written once, if not in this log."""
    arrivals = Arrivals({})

    assert arrivals.take(message(50, flags="f"), 0)[0] == [message(50, flags="f")]


async def test_refused_calls_cannot_fill_the_log() -> None:
    """So many of a peer and of all in a window; the others are counted, by action."""
    refusals = Refusals()
    let = [refusals.let("192.0.2.1", "calls/other", 0) for _ in range(OF_A_PEER + 7)]
    assert let == [True] * OF_A_PEER + [False] * 7
    assert refusals.let("192.0.2.2", "calls/other", 1)
    assert refusals.ended(1) == {}
    assert refusals.ended(WINDOW_S + 1) == {"calls/other": 7}
    assert refusals.ended(WINDOW_S + 2) == {}
    assert refusals.let("192.0.2.1", "calls/other", WINDOW_S + 3)
    crowd = [refusals.let(f"192.0.2.{each}", "calls/other", WINDOW_S + 4) for each in range(250)]
    assert not all(crowd) and refusals.has_omitted
