"""What a collector may do, or not do: it costs spans, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import certifi
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from carrel.config import ConfigError, load
from carrel.otlp_headers import VARIABLE
from carrel.server.telemetry.exporter import Exporter, Patience
from carrel.tracing import Outbox, Span
from collector import Answer, body, collecting, no_http, nothing, silence, status, without_end
from conftest import SlimServer
from processes import eventually

HASTY = Patience(answer_s=0.5, pauses_s=(0.01, 0.02, 0.03), longest_s=0.05)


def _rarely(*values: Any) -> list[Any]:
    """Parameters that `make check` leaves out: each test makes a client, which takes its time."""
    marks = [pytest.mark.thorough]
    return [pytest.param(*(each if isinstance(each, tuple) else (each,)), marks=marks) for each in values]


def span(number: int = 1) -> Span:
    return Span("call", "1" * 32, f"{number:016x}", "", time.time_ns(), time.time_ns())


def export(url: str, count: int, until: Callable[[Exporter], bool], most: int = 100) -> tuple[Exporter, Outbox]:
    """Give an exporter so many spans and run it until something holds."""
    outbox = Outbox(most)
    exporter = Exporter(url, {}, Path(certifi.where()), outbox, "test", HASTY)

    async def work() -> None:
        running = asyncio.ensure_future(exporter.run())
        for number in range(1, count + 1):
            outbox.put(span(number))
        await _eventually(lambda: until(exporter))
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(work())
    return exporter, outbox


async def _eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what it holds of has no event
            await asyncio.sleep(0.01)


def over(count: int) -> Callable[[Exporter], bool]:
    return lambda exporter: exporter.counts.sent + exporter.counts.lost == count


def test_what_may_be_repeated_is_repeated() -> None:
    with collecting() as collector:
        collector.answers += [status(503), status(429, retry_after="1"), nothing]

        exporter, _ = export(collector.url, 3, over(3))

        assert (exporter.counts.sent, exporter.counts.lost) == (3, 0)
        assert len(collector.requests) == 4
        assert len({content for _, content in collector.requests}) == 1
        assert len(collector.taken) == 3


@pytest.mark.parametrize("refusal", [400, *_rarely(401, 404, 413, 500, 501)])
def test_what_is_refused_is_not_sent_again(refusal: int) -> None:
    with collecting() as collector:
        collector.answers += [status(refusal)]

        exporter, _ = export(collector.url, 2, over(2))

        assert (exporter.counts.sent, exporter.counts.lost, len(collector.requests)) == (0, 2, 1)


def test_a_redirect_is_not_followed() -> None:
    """The collector's key goes to nobody but the collector."""
    with collecting() as collector, collecting() as other:
        collector.answers += [status(307, location=f"{other.url}/v1/traces")]

        exporter, _ = export(collector.url, 1, over(1))

        assert (exporter.counts.lost, other.requests) == (1, [])


@pytest.mark.thorough
@pytest.mark.parametrize("answer", [nothing, no_http, silence], ids=lambda answer: str(answer.__name__))
def test_one_that_does_not_answer_is_given_up(answer: Answer) -> None:
    with collecting() as collector:
        collector.answers += [answer] * 4

        exporter, _ = export(collector.url, 2, over(2))

        assert (exporter.counts.sent, exporter.counts.lost) == (0, 2)


@pytest.mark.parametrize(
    "answer", [without_end, *_rarely(body(b"\xff" * 1000), body(b"{}"))], ids=["endless", "bytes", "json"]
)
def test_of_what_a_collector_says_only_a_little_is_read_and_none_of_it_believed(answer: Answer) -> None:
    with collecting() as collector:
        collector.answers += [answer]

        exporter, _ = export(collector.url, 2, over(2))

        assert (exporter.counts.sent, exporter.counts.lost) == (2, 0)


@pytest.mark.parametrize(("said", "lost"), [(2**62, 3), *_rarely((1, 1), (-(2**62), 0))])
def test_spans_that_a_collector_rejects_are_counted(said: int, lost: int) -> None:
    """Within what it was sent, whatever it says."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = said
    with collecting() as collector:
        collector.answers += [body(answer.SerializeToString())]

        exporter, _ = export(collector.url, 3, over(3))

        assert (exporter.counts.sent, exporter.counts.lost) == (3 - lost, lost)


def test_a_full_queue_drops_what_comes_and_tells_how_much() -> None:
    outbox = Outbox(10)
    for number in range(1, 26):
        outbox.put(span(number))

    assert (len(outbox), outbox.dropped) == (10, 15)
    assert [int(each.id, 16) for each in outbox.take(100)] == list(range(1, 11))


@pytest.mark.thorough
def test_one_that_comes_back_gets_what_is_new() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    outbox = Outbox(100)
    exporter = Exporter(f"http://127.0.0.1:{port}", {}, Path(certifi.where()), outbox, "test", HASTY)

    async def work() -> None:
        running = asyncio.ensure_future(exporter.run())
        outbox.put(span(1))
        await _eventually(lambda: exporter.counts.lost == 1)
        with collecting(port) as collector:
            outbox.put(span(2))
            await _eventually(lambda: exporter.counts.sent == 1)
            assert [each.id for each in collector.taken] == [f"{2:016x}"]
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(work())


def test_what_waits_when_the_gateway_ends_is_sent() -> None:
    with collecting() as collector:
        looks = itertools.count()
        export(collector.url, 5, lambda _exporter: next(looks) > 2)

        assert len(collector.taken) == 5


@pytest.mark.parametrize(
    "value",
    ["", "collector", "ftp://a", "http://", "http://user:topsecret@host", "http://a?b=c", "http://a#b", "http://a b"],
)
def test_an_address_that_is_none_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"otlp-endpoint": value or " "}, {})
    assert "topsecret" not in str(caught.value)


@pytest.mark.parametrize("value", ["-0.1", "1.1", "nan", "inf", "x", "1/2"])
def test_a_part_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError):
        load({"trace-sample": value}, {})


@pytest.mark.thorough
@pytest.mark.one_level
def test_calls_go_on_and_the_server_ends_while_a_collector_is_silent(slim_server: SlimServer) -> None:
    """And the health of the server tells of it."""
    with collecting() as collector, slim_server("--otlp-endpoint", collector.url) as server:
        collector.answers += [silence] * 1000
        with server.client() as client:
            assert [client.execute(f"{number} + 1").result for number in range(20)] == list(range(1, 21))
        assert eventually(lambda: bool(collector.requests))
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0


@pytest.mark.thorough
@pytest.mark.one_level
def test_a_key_from_the_environment_goes_to_the_collector_and_to_no_other_process(
    slim_server: SlimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "authorization=Bearer%20topsecret")
    with collecting() as collector, slim_server("--otlp-endpoint", collector.url) as server, server.client() as client:
        client.execute("1")
        assert eventually(lambda: bool(collector.requests))

        assert collector.requests[0][0]["authorization"] == "Bearer topsecret"
        others = [pid for name, pid in server.pids.items() if name != "supervisor"]
        assert not any(b"topsecret" in Path(f"/proc/{pid}/environ").read_bytes() for pid in others)


@pytest.mark.thorough
@pytest.mark.one_level
def test_the_next_gateway_goes_on_where_one_was_killed(slim_server: SlimServer) -> None:
    with collecting() as collector, slim_server("--otlp-endpoint", collector.url) as server, server.client() as client:
        client.execute("1")
        assert eventually(lambda: any(each.name == "execute" for each in collector.taken))
        gateway = server.pids["gateway"]
        os.kill(gateway, signal.SIGKILL)
        assert eventually(lambda: server.pids["gateway"] != gateway)
        collector.taken.clear()

        client.execute("2")

        assert eventually(lambda: {"queue", "execute"} <= {each.name for each in collector.taken})
