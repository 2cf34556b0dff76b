"""Usage adds up whatever is killed: executions and bytes to the last answered call, once each, and no second that was told is taken back.

Callers keep their own books: what they were answered must be in the sums, and nothing beyond what they asked for may be.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from carrel.client import ApiError, Client, Management
from carrel.storage import State
from conftest import Server, SlimServer, fresh_identifier
from processes import alive, eventually

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

FILE = 50_000  # bytes


@dataclass
class Caller(threading.Thread):
    """Runs code, stores files and reads them back as fast as it is answered, and writes down what it asked for and what it got."""

    server: Server
    principal: str
    asked: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("executions", "in", "out"), 0))
    got: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("executions", "in", "out"), 0))
    turns: int = 0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)
        self.is_done = threading.Event()
        self._token = State(self.server.state).issue_token(subject=self.principal)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        # Without repeats: an upload that is sent again comes in twice, and is counted so.
        with Client(self.server.endpoint, self._token, identifier=fresh_identifier(), retries=0) as client:
            for number in itertools.count():
                if self.is_done.is_set():
                    break
                try:
                    self._turn(client, number)
                    self.turns += 1
                except (ApiError, httpx.HTTPError):
                    time.sleep(0.05)
            with suppress(ApiError, httpx.HTTPError):
                client.end()

    def _turn(self, client: Client, number: int) -> None:
        code = f"print('{number:06}' * 100)"
        self._count({"executions": 1, "in": len(code), "out": 601}, lambda: client.execute(code))
        if number % 5 == 0:
            self._count({"in": FILE}, lambda: client.upload("data.bin", bytes(FILE)))
            self._count({"out": FILE}, lambda: client.download("data.bin"))

    def _count(self, what: dict[str, int], call: Callable[[], object]) -> None:
        for name, count in what.items():
            self.asked[name] += count
        call()
        for name, count in what.items():
            self.got[name] += count


@contextmanager
def load(server: Server, callers: list[Caller]) -> Iterator[list[Caller]]:
    """Callers at work for the length of the block, each with a session of its own."""
    mine = [Caller(server, str(uuid.uuid4())) for _ in range(2)]
    callers += mine
    for each in mine:
        each.start()
    try:
        assert eventually(lambda: all(each.turns > 10 for each in mine), 60)
        yield mine
    finally:
        for each in mine:
            each.is_done.set()
        for each in mine:
            each.join(60)
            assert not each.is_alive()


def busy(callers: list[Caller], turns: int = 10) -> bool:
    """Wait until each has had some more turns."""
    goals = [each.turns + turns for each in callers]
    return eventually(lambda: all(each.turns >= goal for each, goal in zip(callers, goals, strict=True)), 60)


def usage(server: Server) -> dict[str, dict[str, Any]]:
    """By principal."""
    with Management.from_connection(server.state) as management:
        rows = management.usage(by=["principal"]).rows
    return {str(row.principal): {"row": row} for row in rows}


def check(server: Server, callers: list[Caller]) -> None:
    """What was answered is counted, and nothing that was not asked for. A value's own few bytes are counted as well."""
    found = usage(server)
    for each in callers:
        row = found[each.principal]["row"]
        values = 100 * each.asked["executions"]
        assert each.got["executions"] > 0
        assert each.got["executions"] <= row.executions <= each.asked["executions"]
        assert each.got["in"] <= row.bytes_in <= each.asked["in"]
        assert each.got["out"] <= row.bytes_out <= each.asked["out"] + values
        assert (row.sessions, row.failed_executions) == (row.peak_sessions, 0)


def seconds(server: Server, caller: Caller) -> float:
    row = usage(server).get(caller.principal)
    return 0.0 if row is None else float(row["row"].session_seconds)


def kill(server: Server, name: str) -> int:
    pid = server.pids[name]
    os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: not alive(pid), 20)
    return pid


def test_usage_adds_up_after_gateways_and_hosts_are_killed(slim_server: SlimServer, tmp_path: Path) -> None:
    """Under load: two gateways, then the host and all with it; the next server tells the rest."""
    state, callers = tmp_path / "state", list[Caller]()
    with slim_server(state=state) as server:
        began = time.monotonic()
        with load(server, callers) as at_work:
            for _ in range(2):
                pid = kill(server, "gateway")
                assert eventually(lambda gone=pid: server.pids["gateway"] != gone, 30)  # type: ignore[misc]
                assert busy(at_work)
            check_running = usage(server)
            assert eventually(lambda: seconds(server, at_work[0]) > 0, 30)
            told = seconds(server, at_work[0])
            kill(server, "host")
            assert eventually(lambda: server.process.poll() is not None, 30)
        lived = time.monotonic() - began
    assert all(row["row"].executions > 0 for row in check_running.values() if row["row"].principal != "*")
    with slim_server(state=state) as server:
        check(server, callers)
        assert told <= seconds(server, callers[0]) <= lived
        with load(server, callers):
            pass
        check(server, callers)


@pytest.mark.parametrize(
    "order", [("supervisor",), ("host", "gateway"), ("gateway", "host"), ("gateway", "supervisor")]
)
def test_usage_adds_up_after_all_are_killed_in_any_order(
    slim_server: SlimServer, tmp_path: Path, order: tuple[str, ...]
) -> None:
    """Three times over, and asked again and again: nothing is counted twice."""
    state, callers = tmp_path / "state", list[Caller]()
    for _ in range(3):
        with slim_server(state=state) as server, load(server, callers) as at_work:
            assert busy(at_work)
            pids = server.pids
            for name in order:
                with suppress(ProcessLookupError):
                    os.kill(pids[name], signal.SIGKILL)
            assert eventually(lambda: server.process.poll() is not None, 30)
    with slim_server(state=state) as server:
        for _ in range(3):
            check(server, callers)


def test_a_store_that_is_away_costs_nothing_but_time(slim_server: SlimServer, tmp_path: Path) -> None:
    """The journal holds what the store cannot take: locked for a while by somebody else, it has everything afterwards."""
    import sqlite3

    state, callers = tmp_path / "state", list[Caller]()
    with slim_server(state=state) as server:
        with load(server, callers) as at_work:
            other = sqlite3.connect(state / "store" / "carrel.db", isolation_level=None, timeout=30)
            other.execute("BEGIN IMMEDIATE")
            assert busy(at_work)
            other.execute("ROLLBACK")
            other.close()
        check(server, callers)
