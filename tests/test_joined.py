"""Replies leave in one piece, and nothing waits longer than the event loop's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from carrel.server.joined import JoinedTransport

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Recorder(asyncio.Transport):
    """A transport that keeps what it is given, piece by piece."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def get_write_buffer_size(self) -> int:
        return 0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def written(script: Callable[[JoinedTransport], None]) -> tuple[list[bytes], list[bytes]]:
    """What was written at once, and what by the end of the turn."""
    recorder = Recorder()
    script(JoinedTransport(recorder, asyncio.get_running_loop()))
    at_once = list(recorder.writes)
    await asyncio.sleep(0)
    return at_once, recorder.writes


async def test_head_and_body_are_one_write() -> None:
    def script(transport: JoinedTransport) -> None:
        transport.write(HEAD)
        transport.write(b"body")

    assert await written(script) == ([HEAD + b"body"], [HEAD + b"body"])


async def test_a_head_alone_goes_out_at_the_end_of_the_turn() -> None:
    assert await written(lambda transport: transport.write(HEAD)) == ([], [HEAD])


async def test_a_large_chunk_does_not_wait_and_takes_what_waits_along() -> None:
    def script(transport: JoinedTransport) -> None:
        transport.write(HEAD)
        transport.write(b"x" * 10_000)
        transport.write(b"y" * 10_000)

    assert await written(script) == ([HEAD + b"x" * 10_000, b"y" * 10_000],) * 2


async def test_an_empty_body_releases_the_head() -> None:
    def script(transport: JoinedTransport) -> None:
        transport.write(HEAD)
        transport.write(b"")

    assert await written(script) == ([HEAD], [HEAD])


async def test_closing_sends_what_waits_first() -> None:
    def script(transport: JoinedTransport) -> None:
        transport.write(HEAD)
        transport.close()

    assert await written(script) == ([HEAD], [HEAD])
