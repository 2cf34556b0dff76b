"""The host's journal and ledger: nothing that was written is lost or read twice, whatever cut the writer off, and sums stay right."""

from __future__ import annotations

import errno
import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from carrel.accounts import DAY_S, EVERYBODY, Sums
from carrel.models import ExecutionSpec, PoolSpec, Usage
from carrel.sessions.executions import Order, Record
from carrel.sessions.journal import Journal
from carrel.sessions.ledger import Ledger
from carrel.wire import journal as wire

FILE_BYTES = 4096


def opened(folder: Path, files: int = 4) -> Journal:
    return Journal.open(folder / "journal", files, FILE_BYTES)


def line(number: int, size: int = 20) -> bytes:
    return wire.encode({"n": number, "pad": "é" * size})


def taken(journal: Journal, place: int = 0) -> tuple[list[int], int]:
    """All numbers from a place on, as a gateway would take them: some at a time, giving up what it has."""
    numbers: list[int] = []
    while True:
        lines, place = journal.read(place, 1024)
        if not lines:
            return numbers, place
        numbers += [wire.fields_of(each)["n"] for each in lines.splitlines(keepends=True)]
        journal.release(place)


def test_lines_come_back_in_order_also_from_the_next_host(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    for number in range(60):
        journal.append(line(number))
    journal.close()
    again = opened(tmp_path)

    numbers, place = taken(again)

    assert numbers == list(range(60))
    assert again.identity == journal.identity
    again.append(line(60))
    again.close()
    assert taken(opened(tmp_path), place)[0] == [60]


def test_what_was_taken_makes_room(tmp_path: Path) -> None:
    """Ten times what fits, taken as it comes, by one host after the other."""
    place, numbers = 0, []
    for start in range(0, 1000, 50):
        journal = opened(tmp_path, files=2)
        for number in range(start, start + 50):
            journal.append(line(number, 5))
        found, place = taken(journal, place)
        numbers += found
        journal.close()

    assert numbers == list(range(1000))
    assert sum(file.stat().st_size for file in (tmp_path / "journal").iterdir()) < 2 * FILE_BYTES


def test_a_line_that_was_torn_is_cut_off_at_every_byte(tmp_path: Path) -> None:
    """What was whole before it stays, and what comes next is whole."""
    journal = opened(tmp_path)
    journal.append(line(0))
    journal.append(line(1))
    journal.close()
    file = tmp_path / "journal" / "00"
    content = file.read_bytes()
    begin = len(content) - len(line(1))
    for length in range(begin, len(content)):
        file.write_bytes(content[:length])
        cut = opened(tmp_path)
        cut.append(line(2))

        assert taken(cut)[0] == [0, 2]
        cut.close()


def test_a_head_that_was_torn_begins_another_journal(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.append(line(0))
    journal.close()
    file = tmp_path / "journal" / "00"
    file.write_bytes(file.read_bytes()[:9])
    again = opened(tmp_path)
    again.append(line(1))

    assert again.identity != journal.identity
    assert taken(again)[0] == [1]
    again.close()


@pytest.mark.parametrize("junk", [b"\n" * 9, b"\0" * 500, b"00000000 {}\n", b"x" * 5000, b'deadbeef {"n":7}\n'])
def test_what_is_no_line_is_never_read(tmp_path: Path, junk: bytes) -> None:
    journal = opened(tmp_path)
    journal.append(line(0))
    journal.close()
    with (tmp_path / "journal" / "00").open("ab") as file:
        file.write(junk)
    again = opened(tmp_path)

    assert taken(again)[0] == [0]
    again.close()


def test_a_machine_that_lost_what_was_taken_gives_no_place_twice(tmp_path: Path) -> None:
    """The store is further than the file is, after a loss of power: what comes now is still taken."""
    journal = opened(tmp_path)
    journal.append(line(0))
    ahead = journal.end + 1000
    assert journal.read(ahead) == (b"", ahead)
    journal.append(line(1))

    assert taken(journal, ahead)[0] == [1]
    journal.close()


def test_a_full_journal_says_so_and_goes_on_when_it_is_taken(tmp_path: Path) -> None:
    journal, number = opened(tmp_path, files=2), 0
    with pytest.raises(OSError, match="full"):
        for number in range(1000):
            journal.append(line(number))
    assert journal.is_half_full
    numbers, place = taken(journal)
    journal.append(line(number))

    assert numbers == list(range(number))
    assert taken(journal, place)[0] == [number]
    journal.close()


def test_without_files_nothing_is_kept_and_nothing_breaks(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    ledger = Ledger(opened(tmp_path))

    ledger.sums("p", "ann").executions += 1
    ledger.settle()

    assert ledger.read("", 0)[2] == b""


# ---- sums ------------------------------------------------------------------------------------------------------------------------


@dataclass
class Clock:
    """A day's time in our hand, and what a session's processes have computed."""

    now: float = 100 * DAY_S + 1000.0
    cpu: int | None = 0
    cpu_source: str = ""
    memory_source: str = ""
    marks: list[float] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def cpu_us(self) -> int | None:
        return self.cpu

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def count_memory_kills(self) -> int:
        return 0


def sums(journal: Journal) -> dict[tuple[str, str, int], Sums]:
    found: dict[tuple[str, str, int], Sums] = {}
    for each in journal.read(0)[0].splitlines(keepends=True):
        fields = json.loads(each[9:])
        found.setdefault((fields["p"], fields["w"], fields["d"]), Sums()).add(Sums(**fields["s"]))
    return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.open(tmp_path / "journal")


def test_a_session_is_counted_by_the_second_to_its_end(journal: Journal, clock: Clock) -> None:
    ledger = Ledger(journal, clock.time, clock.time)
    account = ledger.open("p", "ann", clock)  # type: ignore[arg-type]
    for _ in range(5):
        clock.now += 2
        clock.cpu = (clock.cpu or 0) + 1000
        ledger.tick()
    clock.now += 0.25
    account.close(clock.now)
    account.close(clock.now)
    ledger.tick()

    assert sums(journal) == {
        ("p", "ann", 100): Sums(session_us=10_250_000, cpu_us=5000, sessions=1, peak=1),
        ("p", EVERYBODY, 100): Sums(peak=1),
    }


def test_a_sandbox_claims_no_more_processor_time_than_there_was(journal: Journal, clock: Clock) -> None:
    """Without control groups its own word is all there is, and code of a session may have the last of it."""
    clock.cpu = None
    ledger = Ledger(journal, clock.time, clock.time)
    account = ledger.open("p", "ann", clock)  # type: ignore[arg-type]
    spec = ExecutionSpec("1")
    record = Record(spec, Order.of(spec), 0.0, "ann")
    record.has_begun, record.wall_ms, record.usage = True, 10.0, Usage(cpu_ms=2.0**63)
    account.executed(record, PoolSpec("p"), "conversation", "guid")

    assert sums(journal)["p", "ann", 100].cpu_us == 10_000 * (os.cpu_count() or 1)


def test_midnight_parts_a_session_in_two_days(journal: Journal, clock: Clock) -> None:
    clock.now = 101 * DAY_S - 1.5
    ledger = Ledger(journal, clock.time, clock.time)
    account = ledger.open("p", "ann", clock)  # type: ignore[arg-type]
    clock.now += 2
    ledger.tick()
    account.close(clock.now)
    found = sums(journal)

    assert (found["p", "ann", 100].session_us, found["p", "ann", 101].session_us) == (1_500_000, 500_000)
    assert (found["p", "ann", 100].peak, found["p", "ann", 101].peak, found["p", "ann", 101].sessions) == (1, 1, 0)


def test_the_peak_is_of_those_that_live_at_one_moment(journal: Journal, clock: Clock) -> None:
    ledger = Ledger(journal, clock.time, clock.time)
    accounts = [ledger.open("p", who, clock) for who in ("ann", "bob", "ann")]  # type: ignore[arg-type]
    for account in accounts:
        account.close(clock.now)
    ledger.open("p", "bob", clock)  # type: ignore[arg-type]
    found = sums(journal)

    assert [found["p", who, 100].peak for who in ("ann", "bob", EVERYBODY)] == [2, 1, 3]


def test_a_disk_that_is_full_loses_nothing_while_the_host_lives(
    journal: Journal, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums are kept in memory and come with the next write that works; half a line is never left."""
    real, rooms = os.pwrite, iter([0, 0, 1, 0, 7, 0])

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        room = next(rooms)
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:room], at)

    ledger = Ledger(journal, clock.time, clock.time)
    ledger.sums("p", "ann").executions += 1
    ledger.settle()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", pwrite)
        for _ in range(4):
            ledger.sums("p", "ann").executions += 1
            ledger.settle()
    ledger.sums("p", "ann").executions += 1
    ledger.settle()

    assert sums(journal)["p", "ann", 100].executions == 6


def test_sums_add_up_however_often_hosts_are_replaced(tmp_path: Path, clock: Clock) -> None:
    """Each host is let go without a word, as by kill -9, at any moment between two calls."""
    chance, total, place, taken_up = random.Random(7), 0, 0, 0  # noqa: S311 - repeatable
    for _ in range(30):
        journal = Journal.open(tmp_path / "journal", 3, 2048)
        ledger = Ledger(journal, clock.time, clock.time)
        for _ in range(chance.randrange(12)):
            ledger.sums("p", "ann").bytes_in += 3
            ledger.settle()
            total += 3
            if chance.random() < 0.5:
                lines, place = journal.read(place, chance.choice([200, 5000]))
                for each in lines.splitlines(keepends=True):
                    taken_up += wire.fields_of(each)["s"]["bytes_in"]
                if chance.random() < 0.7:
                    journal.release(place)
        journal.close()
    journal = Journal.open(tmp_path / "journal", 3, 2048)
    while (found := journal.read(place))[0]:
        place = found[1]
        taken_up += sum(wire.fields_of(each)["s"]["bytes_in"] for each in found[0].splitlines(keepends=True))
    journal.close()

    assert taken_up == total > 0
