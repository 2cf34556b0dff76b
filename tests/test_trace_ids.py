"""One id for one call, wherever it is told: reply, error, log lines of gateway and host."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from carrel import tracing
from conftest import fresh_identifier
from processes import eventually
from traced import Traced

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


# ---- what callers send -----------------------------------------------------------------------------------------------


def test_a_parent_is_taken_as_the_standard_has_it() -> None:
    found = tracing.parse(f"00-{TRACE}-{SPAN}-01", "vendor=value,other=1")

    assert found == tracing.Context(TRACE, SPAN, 1, "vendor=value,other=1")
    assert found is not None
    assert found.parent_header == f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-01\r\nx: y",
        "0" * 100_000,
        chr(0x660) * 2 + f"-{TRACE}-{SPAN}-01",
    ],
)
def test_what_is_no_parent_is_none(header: str | None) -> None:
    assert tracing.parse(header, "a=b") is None


def test_a_parent_of_a_later_version_may_say_more() -> None:
    found = tracing.parse(f"01-{TRACE}-{SPAN}-03-what-comes", None)

    assert found == tracing.Context(TRACE, SPAN, 1)


@pytest.mark.parametrize("state", ["a" * 513, "a=\x00", "naïve=1", ""])
def test_a_state_that_does_not_hold_is_dropped_and_the_parent_kept(state: str) -> None:
    found = tracing.parse(f"00-{TRACE}-{SPAN}-00", state)

    assert found == tracing.Context(TRACE, SPAN)


@pytest.mark.parametrize("state", ["", "a=b c,d=e "])
def test_a_context_goes_over_hostlink_and_comes_out_as_it_was(state: str) -> None:
    outbox = tracing.Outbox(1)
    for context in (
        tracing.Context(TRACE),
        tracing.Context(TRACE, SPAN, 1, state),
        tracing.Context(TRACE, SPAN, 0, state, outbox),
    ):
        taken = tracing.Context.taken(context.carried(), outbox)
        assert taken == context
        assert taken is not None
        assert (taken.outbox is outbox) is (context.outbox is outbox)


# ---- one id everywhere -----------------------------------------------------------------------------------------------


@pytest.mark.one_level
def test_the_callers_trace_is_in_the_reply_and_in_the_lines_of_both_processes(traced: Traced) -> None:
    """A session that is begun by the call: the gateway logs the request, the host the allocation."""
    trace = secrets.token_hex(16)

    reply = traced.execute(traceparent=f"00-{trace}-{SPAN}-00")

    assert reply.headers["x-ms-request-id"] == trace
    assert eventually(lambda: len(traced.lines(trace)) == 2)
    told = {line["part"]: line for line in traced.lines(trace)}
    assert (told["host"]["event"], told["gateway"]["event"]) == ("session allocated", "request")
    assert (told["gateway"]["route"], told["gateway"]["status"]) == ("executions", 200)


@pytest.mark.one_level
def test_a_call_without_a_trace_gets_one_and_no_two_the_same(traced: Traced) -> None:
    replies = [traced.execute(identifier="the-same") for _ in range(2)]

    ids = [reply.headers["x-ms-request-id"] for reply in replies]
    assert ids[0] != ids[1]
    assert eventually(lambda: all(traced.lines(each) for each in ids))


@pytest.mark.one_level
@pytest.mark.parametrize("header", ["nonsense", f"00-{'0' * 32}-{SPAN}-01"])
def test_nonsense_is_no_error_and_is_repeated_nowhere(traced: Traced, header: str) -> None:
    reply = traced.execute(traceparent=header, tracestate="=" * 600)

    assert (reply.status_code, len(reply.headers["x-ms-request-id"])) == (200, 32)
    assert reply.headers["x-ms-request-id"] != "0" * 32


@pytest.mark.one_level
def test_an_error_tells_the_callers_trace(traced: Traced) -> None:
    trace = secrets.token_hex(16)

    reply = traced.execute(identifier="no", traceparent=f"00-{trace}-{SPAN}-01")

    body: dict[str, Any] = reply.json()
    assert reply.status_code == 400
    assert body["error"]["traceId"] == trace
    assert eventually(lambda: bool(traced.lines(trace)))


@pytest.mark.one_level
def test_a_later_end_of_a_session_is_not_laid_to_the_call_that_began_it(traced: Traced) -> None:
    """What is done because of a call has its trace; a sandbox that is made in its place has none."""
    trace, identifier = secrets.token_hex(16), fresh_identifier()
    traced.execute(identifier=identifier, traceparent=f"00-{trace}-{SPAN}-00")
    with traced.server.client(identifier) as client:
        client.end()

    def ended() -> bool:
        sessions = {line["session"] for line in traced.lines(trace) if line["event"] == "session allocated"}
        ends = [line for line in traced.lines() if line["event"] == "session ended" and line["session"] in sessions]
        return bool(ends) and all(line["trace"] != trace for line in ends)

    assert eventually(ended)


@pytest.mark.one_level
def test_no_line_holds_an_identifier_or_code(traced: Traced) -> None:
    identifier, code = f"secret-{secrets.token_hex(8)}", f"token = '{secrets.token_hex(8)}'"

    reply = traced.execute(code, identifier)

    assert eventually(lambda: bool(traced.lines(reply.headers["x-ms-request-id"])))
    text = traced.log.read_text()
    assert identifier not in text
    assert code not in text
