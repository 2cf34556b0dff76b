"""Executions told while they run, over HTTP: what comes when, and readers that stall, vanish and flood."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from carrel.client import AsyncClient, Client
from conftest import fresh_identifier
from endpoint import V24_02, V24_10, V25_10, Endpoint, error_of
from processes import eventually

pytestmark = pytest.mark.one_level
EVENTS = {"Accept": "text/event-stream"}
Told = tuple[str, dict[str, Any], float]  # kind, data, seconds since the request


@contextlib.contextmanager
def telling(endpoint: Endpoint, code: str, **options: Any) -> Iterator[httpx.Response]:
    """The reply as it comes to an execution of `code`."""
    headers = {"Authorization": f"Bearer {endpoint.token}", **EVENTS, **options.pop("headers", {})}
    query = endpoint.query(options.pop("version", V25_10))
    body = {"code": code, **options}
    with endpoint.http.stream("POST", f"{endpoint.url}/executions", params=query, headers=headers, json=body) as reply:
        yield reply


def events(reply: httpx.Response) -> Iterator[Told]:
    """By the standard's rules for lines, as another's client would read them."""
    began, kind = time.monotonic(), "message"
    for line in reply.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: ")), time.monotonic() - began


def told(endpoint: Endpoint, code: str, **options: Any) -> list[Told]:
    with telling(endpoint, code, **options) as reply:
        assert reply.status_code == 200, reply.read()
        return list(events(reply))


def printed(found: list[Told], stream: str = "stdout") -> str:
    return "".join(data["text"] for kind, data, _ in found if kind == stream)


def test_output_comes_before_the_code_ends(endpoint: Endpoint) -> None:
    """Each line when it is written, both streams, and then the envelope that a call without events gives."""
    code = (
        "import sys, time\nfor n in range(3): print(n, flush=True); time.sleep(0.4)\nprint('e', file=sys.stderr); 6 * 7"
    )
    endpoint.run("0")
    with telling(endpoint, code) as reply:
        assert reply.headers["content-type"].startswith("text/event-stream")
        assert {"operation-id", "x-ms-session-guid", "carrel-isolation"} <= set(reply.headers)
        found = list(events(reply))

    assert found[0][:2] == ("started", {"id": reply.headers["operation-id"], "identifier": endpoint.identifier})
    before_end = [found[-1][2] - at for kind, _, at in found if kind == "stdout"]
    assert len(before_end) == 3
    assert all(left > least for left, least in zip(before_end, [0.9, 0.5, 0.1], strict=True)), before_end
    assert printed(found, "stderr") == "e\n"
    kind, envelope, at = found[-1]
    assert (kind, envelope["status"], envelope["result"]["executionResult"]) == ("result", "Succeeded", 42)
    assert (envelope["result"]["stdout"], at > 1.1) == ("0\n1\n2\n", True)
    again = endpoint.send("GET", f"executions/{found[0][1]['id']}").json()
    assert {**again, "executionType": envelope["executionType"]} == envelope


def test_displays_come_as_they_are_shown(endpoint: Endpoint) -> None:
    code = (
        "from IPython.display import display, HTML\ndisplay(HTML('<b>1</b>')); import time; time.sleep(0.5); print('x')"
    )
    found = told(endpoint, code)

    kinds = [kind for kind, _, _ in found]
    assert kinds.index("display") < len(kinds) - 1 - kinds[::-1].index("stdout")
    shown = next(data for kind, data, _ in found if kind == "display")
    assert shown["data"]["text/html"] == "<b>1</b>"
    assert found[-1][1]["result"]["outputs"] == [shown]


def test_failing_code_is_a_result_in_events_too(shared: Endpoint) -> None:
    found = told(shared, "print('before'); 1/0")

    assert [found[0][0], found[-1][0]] == ["started", "result"]
    assert (found[-1][1]["status"], found[-1][1]["result"]["outcome"]) == ("Failed", "error")
    assert "ZeroDivisionError" in printed(found, "stderr")


def test_a_deadline_is_a_result_in_events_too(shared: Endpoint) -> None:
    found = told(shared, "print('before', flush=True)\nwhile True: pass", timeoutInSeconds=1)

    assert printed(found) == "before\n"
    assert (found[-1][0], found[-1][1]["result"]["outcome"]) == ("result", "timeout")


def test_output_that_looks_like_an_event_is_output(shared: Endpoint) -> None:
    text = 'x\n\nevent: result\ndata: {"status": "Succeeded"}\n\n\r\n\u2028\x85id: 999\r\rretry: 1\n'

    found = told(shared, f"print({text!r}, end='')")

    assert printed(found) == text
    assert [kind for kind, _, _ in found].count("result") == 1


def test_characters_are_whole(shared: Endpoint) -> None:
    """However the bytes of one are spread over pieces: none is broken, and bytes that are no character do no harm."""
    code = (
        "import os, time\n"
        "for byte in '☕é'.encode(): os.write(1, bytes([byte])); time.sleep(0.03)\n"
        "os.write(1, b'\\xff.'); print('ü' * 300_000)"
    )
    found = told(shared, code)

    text = printed(found)
    assert text.startswith("☕é")
    assert text[3:4] == "."
    assert text.count("ü") == 300_000
    assert text == found[-1][1]["result"]["stdout"]


def test_a_watcher_sees_more_than_the_default_of_a_result(shared: Endpoint) -> None:
    """Azure's 4096 characters are for replies that a model reads whole; a limit in the request holds here too."""
    code = "for n in range(2000): print('x' * 99)"

    assert len(printed(told(shared, code))) == 200_000
    assert len(printed(told(shared, code, outputStreamsMaxLength=5000))) == 5000


def test_only_who_asks_for_events_gets_them(shared: Endpoint) -> None:
    """Clients that accept anything, as most do, are answered as ever."""
    for accept in ("*/*", "application/json", "application/json, text/event-stream", "text/*", ""):
        reply = shared.send("POST", "executions", headers={"Accept": accept}, json={"code": "1"})
        assert reply.headers["content-type"].startswith("application/json"), accept
        assert reply.json()["status"] == "Succeeded"
    old = shared.send("POST", "code/execute", version=V24_02, headers=EVENTS, json={"properties": {"code": "1"}})
    assert old.json()["properties"]["status"] == "Success"


def test_http_1_0_is_answered_with_json(shared: Endpoint) -> None:
    """It has no way to send a reply of unknown length piece by piece."""
    body = b'{"code": "7"}'
    head = shared.head(
        "POST", shared.target("executions"), Content_Length=len(body), Accept="text/event-stream"
    ).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
    with shared.connect() as caller:
        caller.sendall(head + body)
        reply = b"".join(iter(lambda: caller.recv(65536), b""))

    assert b"chunked" not in reply
    assert json.loads(reply.partition(b"\r\n\r\n")[2])["result"]["executionResult"] == 7


def test_an_error_before_the_code_runs_is_an_ordinary_error(endpoint: Endpoint) -> None:
    for fields, code in (({"code": 3}, "SessionRequestValidationFailed"), ({}, "SessionPropertiesMissing")):
        reply = endpoint.send("POST", "executions", headers=EVENTS, json=fields)
        assert (reply.status_code, error_of(reply)["code"]) == (400, code)
    reply = endpoint.send("GET", "executions/nothing", headers=EVENTS)
    assert (reply.status_code, error_of(reply)["code"]) == (404, "NoSessionFoundError")


def test_an_error_later_is_an_event(endpoint: Endpoint) -> None:
    """The session is ended under the code: the reply comes to its end, with what happened."""
    with telling(endpoint, "import time; print('on', flush=True); time.sleep(30)") as reply:
        found = events(reply)
        assert [next(found)[0], next(found)[0]] == ["started", "stdout"]
        endpoint.end()
        rest = list(found)

    assert [kind for kind, _, _ in rest] == ["error"]
    assert rest[0][1]["error"]["code"] == "SessionEnded"
    assert len(rest[0][1]["error"]["traceId"]) == 32


@pytest.mark.parametrize("version", [V24_02, V24_10, V25_10])
def test_a_follower_gets_all_of_it_or_the_rest(endpoint: Endpoint, version: str) -> None:
    """From the first event, or after the last one it saw; while it runs and when it is over."""
    body = {
        "code": "import time\nfor n in range(4): print(n, flush=True); time.sleep(0.2)",
        "executionType": "Asynchronous",
    }
    started = endpoint.send("POST", "executions", version=version, json=body)
    where = f"executions/{started.json()['id']}"

    def follow(last: str | None = None) -> tuple[str, str, str]:
        headers = EVENTS if last is None else {**EVENTS, "Last-Event-ID": last}
        text = endpoint.send("GET", where, version=version, headers=headers).text
        lines = [json.loads(line[6:]) for line in text.splitlines() if line.startswith('data: {"text"')]
        identities = [line[4:] for line in text.splitlines() if line.startswith("id: ")]
        return "".join(line["text"] for line in lines), identities[0], identities[-1]

    while_it_runs, first, last = follow()
    assert while_it_runs == "0\n1\n2\n3\n"
    afterwards = follow()  # in larger pieces, perhaps, that end where the others did
    assert (afterwards[0], afterwards[2]) == (while_it_runs, last)
    assert follow(first)[0] == while_it_runs[2:]
    assert follow(last)[0] == ""
    assert (
        endpoint.send("HEAD", where, version=version, headers=EVENTS).headers["content-type"].startswith("text/event")
    )
    reply = endpoint.send("GET", where, version=version, headers={**EVENTS, "Last-Event-ID": "x"})
    assert (reply.status_code, error_of(reply)["target"]) == (400, "Last-Event-ID")


def test_many_readers_of_one_execution_get_the_same(endpoint: Endpoint) -> None:
    code = "import time\nfor n in range(50): print(n, flush=True); time.sleep(0.01)"
    started = endpoint.send("POST", "executions", json={"code": code, "executionType": "Asynchronous"}).json()["id"]

    def follow(_: int) -> str:
        with Client.from_connection(endpoint.server.state, identifier=endpoint.identifier) as client:
            return "".join(event.text for event in client.follow(started))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(follow, range(8))) == {"".join(f"{n}\n" for n in range(50))}


def test_a_reader_that_vanishes_stops_nothing(endpoint: Endpoint) -> None:
    """The code goes on, and whoever follows it later gets all of it."""
    endpoint.run("0")
    with telling(endpoint, "import time\nfor n in range(4): print(n, flush=True); time.sleep(0.3)\n'end'") as reply:
        found = events(reply)
        identifier = next(found)[1]["id"]
        next(found)

    with Client.from_connection(endpoint.server.state, identifier=endpoint.identifier) as client:
        seen = list(client.follow(identifier))
    assert "".join(event.text for event in seen) == "0\n1\n2\n3\n"
    assert seen[-1].result is not None
    assert seen[-1].result.result == "end"


def test_a_reader_that_stalls_does_not_slow_the_code(endpoint: Endpoint) -> None:
    """A caller takes one event and no more of megabytes: the code ends in its time, and neighbours are answered."""
    endpoint.run("0")
    body = json.dumps(
        {"code": "for _ in range(20_000): print('x' * 500)\n'written'", "outputStreamsMaxLength": 10**7}
    ).encode()
    head = endpoint.head(
        "POST",
        endpoint.target("executions"),
        Content_Length=len(body),
        Accept="text/event-stream",
        operation_id="stalled",
    )
    with endpoint.connect() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.sendall(head + body)
        assert b"200 OK" in caller.recv(1000)

        def state() -> bool:
            return bool(endpoint.send("GET", "executions/stalled").json()["status"] == "Succeeded")

        assert eventually(state, 15)
        began = time.monotonic()
        assert endpoint.result("1 + 1") == 2
        assert time.monotonic() - began < 5


def test_ten_stalled_readers_of_a_flood_cost_no_memory(endpoint: Endpoint) -> None:
    """What they do not take is not kept for each of them."""
    endpoint.run("0")
    before = {name: resident(endpoint.server.pids[name]) for name in ("gateway", "host")}
    body = {
        "code": "for _ in range(60_000): print('y' * 1000)",
        "executionType": "Asynchronous",
        "outputStreamsMaxLength": 10**7,
    }
    started = endpoint.send("POST", "executions", json=body).json()["id"]
    callers = [endpoint.connect() for _ in range(10)]
    try:
        for caller in callers:
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            caller.sendall(endpoint.head("GET", endpoint.target(f"executions/{started}"), Accept="text/event-stream"))
        assert eventually(lambda: endpoint.send("GET", f"executions/{started}").json()["status"] == "Succeeded", 30)
        grown = {name: resident(endpoint.server.pids[name]) - before[name] for name in before}
    finally:
        for caller in callers:
            caller.close()
    assert max(grown.values()) < 64 * 1024 * 1024, grown


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


@pytest.mark.thorough
def test_silence_is_filled_with_comments(endpoint: Endpoint) -> None:
    """Connections that idle are cut on the way by proxies: after fifteen seconds a line comes that readers skip."""
    with telling(endpoint, "import time; time.sleep(16)") as reply:
        lines = list(reply.iter_lines())

    assert len([line for line in lines if line.startswith(":")]) == 1


def test_a_repeated_call_is_told_the_same_execution(endpoint: Endpoint) -> None:
    """The same operation-id runs once, also where each of the callers wants events."""
    code = "n = globals().get('n', 0) + 1; print(n)"
    first, second = (told(endpoint, code, headers={"operation-id": "twice"}) for _ in range(2))

    assert (printed(first), printed(second)) == ("1\n", "1\n")
    assert endpoint.result("n") == 1


def test_code_that_waits_its_turn_has_started(endpoint: Endpoint) -> None:
    """A caller knows the id of what is queued, and can cancel it."""
    endpoint.send("POST", "executions", json={"code": "import time; time.sleep(3)", "executionType": "Asynchronous"})
    with telling(endpoint, "n = 1") as reply:
        found = events(reply)
        kind, data, at = next(found)
        assert (kind, at < 1) == ("started", True)
        endpoint.send("POST", f"executions/{data['id']}/cancel")
        *_, (kind, data, at) = found

    assert (kind, data["status"], at < 2) == ("result", "Canceled", True)


def test_waiting_for_an_execution(endpoint: Endpoint) -> None:
    """A poll may wait for the end: it answers then, or when its time is up."""
    body = {"code": "import time; time.sleep(1.5); 7", "executionType": "Asynchronous"}
    where = f"executions/{endpoint.send('POST', 'executions', json=body).json()['id']}"
    began = time.monotonic()

    assert endpoint.send("GET", where, query={"wait": "0"}).json()["status"] == "Running"
    over = endpoint.send("GET", where, query={"wait": "20"}).json()

    assert (over["status"], over["result"]["executionResult"]) == ("Succeeded", 7)
    assert 1 < time.monotonic() - began < 5
    for wait in ("31", "-1", "x", "1.5"):
        assert endpoint.send("GET", where, query={"wait": wait}).status_code == 400


def test_the_client_streams(client: Client) -> None:
    seen = list(client.stream("import time; print('a', flush=True); time.sleep(0.2); print('b'); 5"))

    assert [event.kind for event in seen] == ["started", "stdout", "stdout", "result"]
    assert seen[-1].result is not None
    assert (seen[-1].result.result, [event.number for event in seen] == sorted(event.number for event in seen)) == (
        5,
        True,
    )
    shown: list[str] = []
    assert client.execute("print('x'); 1", on_output=lambda event: shown.append(event.text)).result == 1
    assert "".join(shown) == "x\n"


@pytest.mark.anyio
async def test_the_asynchronous_client_streams(async_client: AsyncClient) -> None:
    seen = [event async for event in async_client.stream("print('a'); 5")]

    assert [event.kind for event in seen] == ["started", "stdout", "result"]
    followed = [event async for event in async_client.follow(seen[0].id)]
    assert followed == seen


def test_a_burst_of_streams_ends_well(endpoint: Endpoint) -> None:
    """Twelve callers of three sessions at once: each sees its own output and no other's."""
    identifiers = [fresh_identifier() for _ in range(3)]
    barrier = threading.Barrier(12)

    def call(number: int) -> str:
        barrier.wait()
        with Client.from_connection(endpoint.server.state, identifier=identifiers[number % 3]) as client:
            return "".join(event.text for event in client.stream(f"for _ in range(5): print({number}, flush=True)"))

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(call, range(12))) == [f"{number}\n" * 5 for number in range(12)]
    for identifier in identifiers:
        with Client.from_connection(endpoint.server.state, identifier=identifier) as client:
            client.end()
