"""Server-sent events as the gateway writes them, and as the client reads them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.errors import RequestInvalid
from carrel.wire import events


@given(st.text())
def test_no_output_can_end_a_line(text: str) -> None:
    """Whatever a program prints, line separators of every kind and halves of surrogate pairs included: one event of three lines."""
    event = events.encode_event("stdout", {"text": text}, 3)

    lines = event.decode("ascii").split("\n")
    assert (lines[:2], lines[3:]) == (["event: stdout", "id: 3"], ["", ""])
    assert "\r" not in lines[2]
    assert json.loads(lines[2].removeprefix("data: ")) == {"text": text}


def test_an_event_without_a_number_leaves_the_last_one_valid() -> None:
    assert events.encode_event("started", b"{}") == b"event: started\ndata: {}\n\n"


@pytest.mark.parametrize(
    ("accept", "is_wanted"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
        ("text/event-stream", True),
        ("TEXT/Event-Stream ; charset=utf-8", True),
        ("text/event-stream, */*", True),
        ("*/*;q=0.1, text/event-stream;q=0.2", True),
        ("application/json, text/event-stream", False),
        ("text/event-stream, application/json", True),
        ("application/json;q=0.5, text/event-stream", True),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=0, application/json;q=0", False),
        ("text/event-streams", False),
        (",;,;q=,text/event-stream;q=x", True),
    ],
)
def test_only_who_names_events_gets_them(accept: str | None, is_wanted: bool) -> None:
    assert events.wants_events(accept) is is_wanted


@given(st.text())
def test_no_accept_header_breaks_the_choice(accept: str) -> None:
    assert events.wants_events(accept) in (True, False)


def test_a_last_event_id_is_a_number() -> None:
    assert [events.decode_last_event_id(text) for text in (None, "", "0", "17")] == [0, 0, 0, 17]
    for text in ("x", "-1", "1.5", " 1", "٣", "9" * 16, "9" * 5000):
        with pytest.raises(RequestInvalid) as caught:
            events.decode_last_event_id(text)
        assert caught.value.target == "Last-Event-ID"
