"""A pool of small sandboxes (fake_sandboxes.py) in this process: for sessions without server, and for their clocks in a hurry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from carrel.models import MIB, ExecutionSpec, Level, PoolSpec
from carrel.sessions import link, link_files, runner
from carrel.sessions.executions import Record
from carrel.sessions.keeper import Keeper
from carrel.sessions.session import Session
from fake_sandboxes import FakeBackend


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ladder's steps in a fraction of their seconds."""
    monkeypatch.setattr(runner, "GRACE_S", 0.4)
    monkeypatch.setattr(link, "ANSWER_S", 1.0)
    monkeypatch.setattr(link_files, "FILE_S", 1.0)


@pytest.fixture
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture
async def keeper(backend: FakeBackend) -> AsyncIterator[Keeper]:
    async with pool_of(backend) as keeper:
        yield keeper
    assert not backend.alive, "nothing is left"


@asynccontextmanager
async def pool_of(
    backend: FakeBackend, ready: int = 2, maximum: int = 10, cooldown: int = 300
) -> AsyncIterator[Keeper]:
    async with Keeper({Level.NAMESPACE: backend}) as keeper:
        await keeper.apply_pool(
            PoolSpec("python", ready=ready, maximum=maximum, cooldown=cooldown, memory_bytes=64 * MIB)
        )
        await keeper.settled("python")
        yield keeper


async def run(
    session: Session, code: str, timeout: float = 5.0, operation_id: str | None = None, limit: int = 4096
) -> Record:
    record = session.submit(ExecutionSpec(code, timeout=timeout, operation_id=operation_id, stream_limit=limit))
    await record.done()
    return record


async def until(condition: Callable[[], object], seconds: float = 3.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in threads and books that tell nobody
            await asyncio.sleep(0.005)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
