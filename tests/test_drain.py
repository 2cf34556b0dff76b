"""What the host has noted comes into the store: all that was there when somebody asked, however much comes meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from carrel.accounts import MOST
from carrel.config import Config
from carrel.host.hostlink import Extract, HostLink
from carrel.server.drain import Drain
from carrel.sessions.journal import Journal
from carrel.sessions.ledger import Ledger
from kept_pools import pools_of, store_in


class BusyHost(HostLink):
    """Its journal grows whenever somebody looks: another execution is over by then."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "nobody.sock")
        self.ledger = Ledger(Journal.open(folder / "journal"))
        self.asked = 0

    def work(self, times: int = 1) -> None:
        for _ in range(times):
            self.ledger.sums("python", "ann").executions += 1
            self.ledger.settle()

    async def journal(self, identity: str, place: int) -> Extract:
        self.asked += 1
        found = Extract(*self.ledger.read(identity, place), self.ledger.end)
        self.work()
        return found


@pytest.mark.parametrize("before", [0, 5, 20_000])
def test_a_busy_host_keeps_nobody_waiting_who_asks_for_usage(tmp_path: Path, before: int) -> None:
    """What was over when usage was asked for is in it; what comes while it is taken is the next one's."""
    (tmp_path / "state").mkdir(mode=0o700)
    config, store, host = Config(tmp_path / "state", tmp_path), store_in(tmp_path), BusyHost(tmp_path)
    drain = Drain(config, store, host, pools_of(config, host, store))
    host.work(before)

    async def drained() -> int:
        async with asyncio.timeout(30):
            await drain.now()
        with store.transaction() as books:
            return sum(each.sums.executions for each in books.usage.list())

    taken = asyncio.run(drained())

    assert before <= taken <= before + host.asked
    assert host.asked < 10
    again = asyncio.run(drained())
    assert taken < again <= before + host.asked
    store.close()


def test_a_sum_that_no_column_holds_stops_nothing(tmp_path: Path) -> None:
    """Whatever a line says: what comes after it is taken."""
    (tmp_path / "state").mkdir(mode=0o700)
    config, store, host = Config(tmp_path / "state", tmp_path), store_in(tmp_path), BusyHost(tmp_path)
    drain = Drain(config, store, host, pools_of(config, host, store))
    for _ in range(3):
        host.ledger.sums("python", "ann").cpu_us = 2**63
        host.work()
        asyncio.run(drain.now())

    with store.transaction() as books:
        (found,) = books.usage.list()
    assert found.sums.cpu_us == MOST
    assert found.sums.executions >= 3
    store.close()
