"""The client's reading of events, and what it does when connections break: pure parts."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrel.client import Client, calls
from carrel.client.errors import ApiError
from carrel.client.events import Decoder, Event
from carrel.client.results import ShellResult, parse_result
from carrel.client.streaming import Telling

RESULT = {
    "id": "i",
    "identifier": "alice",
    "executionType": "Synchronous",
    "status": "Succeeded",
    "result": {"stdout": "x"},
}
STARTED = b'event: started\ndata: {"id":"i","identifier":"alice"}\n\n'


def event(kind: str, number: int, data: Any) -> bytes:
    return f"event: {kind}\nid: {number}\ndata: {json.dumps(data)}\n\n".encode()


STREAM = (
    STARTED
    + b": still here\n\n"
    + event("stdout", 1, {"text": "a\n\u2028b"})
    + b"event: a kind of tomorrow\nid: 2\ndata: {}\n\n"
    + event("display", 3, {"data": {"text/plain": "1"}, "metadata": {}})
    + event("result", 4, RESULT)
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=40), st.booleans())
def test_events_arrive_however_the_bytes_are_cut(cuts: list[int], has_carriage_returns: bool) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[first:last] for first, last in itertools.pairwise(places)]
    if has_carriage_returns:
        pieces = [piece.replace(b"\n", b"\r\n") for piece in pieces]
    decoder = Decoder()

    found = [each for piece in pieces for each in decoder.feed(piece)]

    assert [(each.kind, each.number) for each in found] == [
        ("started", 0),
        ("stdout", 1),
        ("display", 3),
        ("result", 4),
    ]
    assert (found[0].id, found[1].text) == ("i", "a\n\u2028b")
    assert found[2].output is not None
    assert found[2].output.data == {"text/plain": "1"}
    assert found[3].result is not None
    assert (found[3].result.stdout, decoder.last) == ("x", 4)


def test_several_data_lines_are_one_text() -> None:
    """Ours never writes them; the standard has them."""
    found = list(Decoder().feed(b'event: stdout\ndata: {"text":\ndata: "x"}\n\n'))

    assert found == [Event("stdout", text="x")]


def test_an_error_event_is_the_apis_error() -> None:
    body = {"error": {"code": "SessionLost", "message": "gone", "target": None, "traceId": "t"}}
    with pytest.raises(ApiError) as caught:
        list(Decoder().feed(event("error", 1, body)))
    assert (caught.value.code, caught.value.trace) == ("SessionLost", "t")


def test_what_never_ends_is_no_event() -> None:
    decoder = Decoder()
    with pytest.raises(ApiError):
        for _ in range(2000):
            list(decoder.feed(b"data: " + b"x" * 65_536))


def test_a_lost_connection_is_taken_up_where_it_was() -> None:
    """Before any answer the request is sent again, under the same id; after it, the execution is followed from the last event."""
    telling = Telling.of_program(calls.code("1", timeout=5), "alice", "mine")
    first = telling.call()
    assert (first.method, first.options["headers"]) == ("POST", {"operation-id": "mine", "Accept": "text/event-stream"})

    assert telling.pause(httpx.ReadError("lost")) > 0
    assert telling.call() == first

    telling.taken()
    list(telling.read(STARTED + event("stdout", 7, {"text": "x"}) + b"event: stdout\nid: 8\nda"))
    telling.pause()
    again = telling.call()
    assert (again.method, again.path) == ("GET", "executions/mine")
    assert again.options["headers"]["Last-Event-ID"] == "7"
    assert [each.number for each in telling.read(event("stdout", 8, {"text": "y"}))] == [8]

    list(telling.read(event("result", 9, RESULT)))
    assert telling.over().stdout == "x"


def test_what_a_server_has_taken_is_not_sent_to_the_next_one() -> None:
    """A server that ends after its headers and before the first event has run the code: its successor's session must not again."""
    asked: list[bytes] = []
    replies = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 48\r\n\r\n"
        b'{"error":{"code":"NoSessionFoundError","message":',
    ]

    def serve(listener: socket.socket) -> None:
        for reply in replies:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(65536).split(b"?")[0])
                connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        with Client(f"http://127.0.0.1:{port}/p", "token") as client, pytest.raises(ApiError) as caught:
            list(client.stream("1", operation_id="mine"))
        thread.join()

    assert asked == [b"POST /p/executions", b"GET /p/executions/mine"]
    assert caught.value.status == 404


def test_a_server_that_is_not_there_is_not_waited_for() -> None:
    with pytest.raises(httpx.ConnectError):
        Telling.of_program(calls.code("1", timeout=5), "alice", None).pause(httpx.ConnectError("refused"))


def test_connections_that_only_break_are_given_up() -> None:
    telling = Telling.of_execution("mine", "alice", 0)
    with pytest.raises(httpx.ReadError):
        for _ in range(100):
            telling.pause(httpx.ReadError("lost"))
    with pytest.raises(ApiError):
        telling.pause()


def test_a_server_without_events_still_gives_the_result() -> None:
    """Azure's own ignores the Accept header."""
    telling = Telling.of_program(calls.code("1", timeout=5), "alice", None)
    told = telling.whole(httpx.Response(200, json=RESULT))

    assert (told.kind, telling.over().stdout) == ("result", "x")


@pytest.mark.parametrize(
    ("status", "code", "is_ok"), [("0", 0, True), ("3", 3, False), ("137", 137, False), ("-1", -1, False)]
)
def test_an_exit_code_makes_a_shell_result(status: str, code: int, is_ok: bool) -> None:
    result = parse_result({**RESULT, "status": status})

    assert isinstance(result, ShellResult)
    assert (result.exit_code, result.is_ok, result.is_finished) == (code, is_ok, True)


def test_a_canceled_command_has_no_exit_code() -> None:
    result = ShellResult.of(parse_result({**RESULT, "status": "Canceled"}))

    assert (result.exit_code, result.is_ok, result.is_finished, result.stdout) == (None, False, True, "x")


def test_a_request_says_only_what_was_asked() -> None:
    """Another server of this API may refuse fields that it does not know."""
    assert calls.code("1", timeout=60) == {
        "codeInputType": "Inline",
        "executionType": "Synchronous",
        "code": "1",
        "timeoutInSeconds": 60,
    }
    assert calls.command("ls", timeout=60, output_limit=None, shell_type="sh", stdin=None) == {
        "shellCommand": "ls",
        "shellType": "sh",
        "timeoutInSeconds": 60,
    }
    assert calls.command(["ls", "-l"], timeout=60, output_limit=9, shell_type="bash", stdin="x") == {
        "execCommandAndArgs": ["ls", "-l"],
        "stdin": "x",
        "timeoutInSeconds": 60,
        "outputStreamsMaxLength": 9,
    }
