"""Which calls of the client are sent again, and after how long; against servers that refuse, or break off."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from carrel.client import ApiError, Client, TooManySessions, Unavailable, calls
from carrel.client.retrying import Attempts, Executing
from scripted import Script

RESULT = {"id": "i", "identifier": "alice", "status": "Succeeded", "result": {"executionResult": 42, "outcome": "ok"}}
FILE = {"name": "a", "type": "file", "sizeInBytes": 1, "lastModifiedAt": "2026-01-01T00:00:00Z"}
ALLOCATING = {"error": {"code": "SessionAllocationFailed", "message": "no sandbox yet"}}
FULL = {"error": {"code": "SessionsCountExceedsLimit", "message": "full"}}


@pytest.fixture
def pool(script: Script) -> Iterator[Client]:
    with Client(script.url, "token") as client:
        yield client


def test_code_that_was_not_begun_is_sent_again_under_the_same_id(script: Script, pool: Client) -> None:
    """So that the session runs it once, however often it arrives."""
    script.say(429, FULL, Retry_After="0")
    script.say(503, ALLOCATING, Retry_After="0")
    script.say(200, RESULT)

    assert pool.execute("6 * 7").result == 42

    ids = {headers["operation-id"] for _, _, headers, _ in script.asked}
    assert (script.lines, len(ids)) == (["POST /executions"] * 3, 1)
    script.say(200, RESULT)
    pool.execute("6 * 7")
    assert script.asked[-1][2]["operation-id"] not in ids


def test_code_that_may_run_already_is_asked_for_and_waited_for(script: Script, pool: Client) -> None:
    script.say(503, None, Retry_After="0")
    script.say(502, None, Retry_After="0")
    script.say(200, {**RESULT, "status": "Running"})
    script.say(200, RESULT)

    assert pool.execute("6 * 7", operation_id="mine").result == 42
    assert script.lines == ["POST /executions", *["GET /executions/mine"] * 3]


def test_code_that_the_session_does_not_know_is_sent_again(script: Script, pool: Client) -> None:
    """It lives and has no such execution: the request never arrived."""
    script.say(503, None, Retry_After="0")
    script.say(404, {"error": {"code": "ExecutionNotFound"}})
    script.say(200, RESULT)

    assert pool.execute("6 * 7", operation_id="mine").result == 42
    assert script.lines == ["POST /executions", "GET /executions/mine", "POST /executions"]


@pytest.mark.parametrize("code", ["NoSessionFoundError", "SomethingNew", "SessionPoolNotFound"])
def test_code_of_a_session_that_is_gone_is_not_run_in_another(script: Script, pool: Client, code: str) -> None:
    """What it builds on is gone with the session: the first failure stands."""
    script.say(502, {"error": {"code": "HostUnavailable", "message": "the first failure"}}, Retry_After="0")
    script.say(404, {"error": {"code": code}})

    with pytest.raises(Unavailable, match="the first failure"):
        pool.execute("x + 1")
    assert len(script.asked) == 2


def test_code_that_is_said_to_run_for_ever_is_given_up(script: Script, pool: Client) -> None:
    """After its own limit: a server can say anything."""
    look = Executing(
        calls.execute({"timeoutInSeconds": 1}, "alice", "mine"), calls.execution("mine", "alice"), "", 3, 16.0
    )
    with pytest.raises(httpx.ReadError):
        look.lost(httpx.ReadError("lost"))
        for _ in range(100):
            look.answered(httpx.Response(200, json={**RESULT, "status": "Running"}))


def test_code_that_is_only_begun_is_not_waited_for(script: Script, pool: Client) -> None:
    script.say(503, None, Retry_After="0")
    script.say(200, {**RESULT, "status": "Running"})

    assert not pool.start("6 * 7").is_finished


@pytest.mark.parametrize(
    "call",
    [
        lambda pool: pool.rename("a", "b"),
        lambda pool: pool.upload("a", b"x", if_match="tag"),
        lambda pool: pool.delete_file("a", if_match="tag"),
        lambda pool: pool.upload("a", _Pipe(b"x")),
    ],
    ids=["rename", "upload if_match", "delete if_match", "upload from a pipe"],
)
def test_what_may_not_be_repeated_is_not(script: Script, pool: Client, call: Callable[[Client], Any]) -> None:
    script.say(503, None, Retry_After="0")

    with pytest.raises(Unavailable):
        call(pool)
    assert len(script.asked) == 1


class _Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def test_an_upload_is_sent_again_whole(script: Script, pool: Client) -> None:
    script.say(503, None, Retry_After="0")
    script.say(200, FILE)
    told: list[int] = []

    pool.upload("a", io.BytesIO(b"wholly here"), progress=lambda done, _: told.append(done))

    assert [body.count("wholly here") for *_, body in script.asked] == [1, 1]
    assert told == sorted(told[: len(told) // 2]) * 2, "the second try counts from the start"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [({"Retry-After": "1"}, 1), ({"Retry-After": "10"}, 10), ({"Retry-After": "11"}, None), ({}, 0.25)],
)
def test_the_time_that_the_server_asks_for_is_kept(headers: dict[str, str], wait_s: float | None) -> None:
    """Where it is not too long to keep the caller waiting."""
    attempts = Attempts(calls.end("alice"), "https://example.com", 3)

    assert attempts.answered(httpx.Response(429, headers=headers)) == wait_s


def test_a_server_that_asks_for_minutes_is_told_of_at_once(script: Script, pool: Client) -> None:
    """The caller knows better whether to wait that long; `retry_after` says how long."""
    script.say(429, FULL, Retry_After="60")

    with pytest.raises(TooManySessions) as caught:
        pool.execute("1")
    assert (caught.value.retry_after, len(script.asked)) == (60, 1)


def test_it_is_given_up_after_as_many_tries_as_were_asked_for(script: Script) -> None:
    for _ in range(9):
        script.say(503, ALLOCATING, Retry_After="0")
    for retries in (0, 2):
        asked = len(script.asked)
        with Client(script.url, "token", retries=retries) as pool, pytest.raises(Unavailable):
            pool.execute("1")
        assert len(script.asked) - asked == retries + 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 500])
def test_other_answers_stand(script: Script, pool: Client, status: int) -> None:
    """500 among them: a session that is lost has lost what the code built on."""
    script.say(status, {"error": {"code": "SessionLost", "message": "gone"}})

    with pytest.raises(ApiError):
        pool.execute("1")
    assert len(script.asked) == 1


def serve(listener: socket.socket, replies: list[bytes], asked: list[bytes]) -> None:
    """A reply to each connection, which then ends."""
    for reply in replies:
        connection, _ = listener.accept()
        with connection:
            asked.append(connection.recv(65536).split(b"?")[0])
            connection.sendall(reply)


@pytest.fixture
def breaking() -> Iterator[Callable[..., tuple[Client, list[bytes]]]]:
    """Starts a server that answers each connection with some bytes, which may be none."""
    threads: list[threading.Thread] = []
    clients: list[Client] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def start(*replies: bytes) -> tuple[Client, list[bytes]]:
        asked: list[bytes] = []
        threads.append(threading.Thread(target=serve, args=(listener, list(replies), asked), daemon=True))
        threads[-1].start()
        clients.append(Client(f"http://127.0.0.1:{listener.getsockname()[1]}/p", "token"))
        return clients[-1], asked

    yield start
    for client in clients:
        client.close()
    for thread in threads:
        thread.join(10)
    listener.close()


GONE = b'HTTP/1.1 404 Not Found\r\nContent-Length: 45\r\n\r\n{"error":{"code":"NoSessionFoundError"}}     '


def test_a_lost_answer_to_a_delete_is_no_error(breaking: Callable[..., tuple[Client, list[bytes]]]) -> None:
    """The first try may have deleted it; that it is gone is what was wanted."""
    client, asked = breaking(b"", GONE)
    client.end()
    assert asked == [b"DELETE /p/session"] * 2


def test_a_missing_session_is_an_error_all_the_same(breaking: Callable[..., tuple[Client, list[bytes]]]) -> None:
    client, _ = breaking(GONE)
    with pytest.raises(ApiError):
        client.end()


def test_a_download_that_breaks_off_begins_anew(
    breaking: Callable[..., tuple[Client, list[bytes]]], tmp_path: Any
) -> None:
    """What arrived of the first try is no part of the file."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 6\r\n\r\n"
    client, _ = breaking(head + b"bad", head + b"entire")

    assert client.save("a", tmp_path / "a").read_bytes() == b"entire"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_a_server_that_is_away_from_this_machine_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}/p", "token") as client, pytest.raises(httpx.ConnectError):
        client.execute("1")


@pytest.mark.parametrize("error", [httpx.UnsupportedProtocol("no scheme"), httpx.LocalProtocolError("no header")])
def test_what_can_never_be_sent_is_tried_once(error: httpx.TransportError) -> None:
    """An address without a scheme, a token with a line's end."""
    attempts = Attempts(calls.session("conv-42"), "https://pool.example/p", 3)

    with pytest.raises(type(error)):
        attempts.lost(error)


def test_what_lasts_too_long_is_not_begun_again() -> None:
    """It would last as long once more."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Client(f"http://127.0.0.1:{listener.getsockname()[1]}/p", "token", timeout=0.2) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.session()
