"""How long a caller may take for the body of a request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from carrel.errors import RequestTimedOut
from carrel.server import exchange
from carrel.server.exchange import Exchange

pytestmark = pytest.mark.anyio
SCOPE: dict[str, Any] = {"type": "http", "method": "POST", "headers": [(b"transfer-encoding", b"chunked")]}


async def read(pieces: int, size: int, pause: float) -> int:
    """Take a body that comes in pieces, each after a pause; its size."""
    left = pieces

    async def receive() -> dict[str, Any]:
        nonlocal left
        left -= 1
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"x" * size, "more_body": left > 0}

    async def send(_message: Any) -> None:
        raise AssertionError("nothing is sent")

    return len(await Exchange(SCOPE, receive, send).body(1_000_000))


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of a second instead of a minute."""
    monkeypatch.setattr(exchange, "BODY_IDLE_S", 0.1)


async def test_a_trickle_is_cut_off() -> None:
    """Never idle for long, and yet it would take for ever."""
    with pytest.raises(RequestTimedOut, match="too slowly"):
        await asyncio.wait_for(read(pieces=10_000, size=1, pause=0.02), 5)


async def test_silence_is_cut_off() -> None:
    with pytest.raises(RequestTimedOut):
        await asyncio.wait_for(read(pieces=2, size=1000, pause=3), 2)


async def test_a_steady_pace_is_enough() -> None:
    """Three times the patience in all."""
    assert await read(pieces=30, size=1000, pause=0.01) == 30_000
