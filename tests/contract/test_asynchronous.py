"""Executions that nobody waits for, repeats, order within a session, callers that vanish."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from conftest import SlimServer, fresh_identifier
from endpoint import NEW_FILES, V25_10, Endpoint, error_of
from processes import eventually


def start(endpoint: Endpoint, code: str, operation: str | None = None, **fields: Any) -> httpx.Response:
    headers = {"operation-id": operation} if operation else {}
    body = {"code": code, "executionType": "Asynchronous", **fields}
    return endpoint.send("POST", "executions", json=body, headers=headers)


def poll(endpoint: Endpoint, execution: str, timeout: float = 10) -> dict[str, Any]:
    """The execution once it is over."""
    deadline = time.monotonic() + timeout
    while True:
        reply = endpoint.send("GET", f"executions/{execution}")
        assert reply.status_code == 200, reply.text
        body: dict[str, Any] = reply.json()
        if body["status"] not in ("NotStarted", "Running"):
            return body
        assert "result" not in body
        assert int(reply.headers["retry-after"]) >= 1
        assert time.monotonic() < deadline, "the execution does not end"
        time.sleep(0.05)


def test_an_asynchronous_execution_is_polled(endpoint: Endpoint) -> None:
    """202 at once with the caller's id and where to ask; the result is there when it is over."""
    began = time.monotonic()
    reply = start(endpoint, "import time; time.sleep(1.5); print('done'); 42", "my-operation")

    assert time.monotonic() - began < 1.4
    assert reply.status_code == 202
    body = reply.json()
    assert (body["id"], body["identifier"], body["executionType"]) == (
        "my-operation",
        endpoint.identifier,
        "Asynchronous",
    )
    assert body["status"] in ("Running", "NotStarted")
    assert reply.headers["operation-id"] == "my-operation"
    location = urlsplit(reply.headers["operation-location"])
    assert location.path.endswith("/executions/my-operation")
    assert f"identifier={endpoint.identifier}" in location.query
    over = poll(endpoint, "my-operation")
    assert (over["status"], over["result"]["stdout"], over["result"]["executionResult"]) == ("Succeeded", "done\n", 42)


@pytest.mark.one_level
def test_operation_location_can_be_followed_as_it_is(shared: Endpoint) -> None:
    """An absolute URL with the version and the session in it."""
    location = start(shared, "'followed'").headers["operation-location"]
    headers = {"Authorization": f"Bearer {shared.token}"}

    assert eventually(lambda: shared.http.get(location, headers=headers).json()["status"] == "Succeeded")


def test_an_asynchronous_failure_is_found_by_its_id(shared: Endpoint) -> None:
    over = poll(shared, start(shared, "1/0").json()["id"])

    assert over["status"] == "Failed"
    assert "ZeroDivisionError" in over["result"]["stderr"]


def test_a_synchronous_execution_is_found_by_its_id_too(shared: Endpoint) -> None:
    body = shared.run("6 * 7")

    assert poll(shared, body["id"])["result"]["executionResult"] == 42


@pytest.mark.one_level
def test_a_repeat_returns_the_stored_execution(endpoint: Endpoint) -> None:
    """The same operation-id with the same request runs once, however often and by whomever it is sent."""
    operation = {"headers": {"operation-id": "twice"}}
    code = "n = globals().get('n', 0) + 1; n"
    answers = [endpoint.run(code, **operation) for _ in range(3)]

    assert [answer["result"]["executionResult"] for answer in answers] == [1, 1, 1]
    assert endpoint.result("n") == 1


@pytest.mark.one_level
def test_a_repeat_of_what_runs_waits_for_it(endpoint: Endpoint) -> None:
    operation = {"headers": {"operation-id": "slowly"}}
    code = "import time; time.sleep(0.8); n = globals().get('n', 0) + 1; n"
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda _: endpoint.run(code, **operation), range(3)))

    assert [answer["result"]["executionResult"] for answer in answers] == [1, 1, 1]


@pytest.mark.one_level
def test_an_operation_id_for_another_request_is_a_conflict(shared: Endpoint) -> None:
    """409, and the first one's result stays."""
    shared.run("'first'", headers={"operation-id": "contested"})
    reply = shared.send("POST", "executions", json={"code": "'second'"}, headers={"operation-id": "contested"})

    assert (reply.status_code, error_of(reply)["code"]) == (409, "ExecutionConflict")
    assert poll(shared, "contested")["result"]["executionResult"] == "first"


@pytest.mark.parametrize("version", NEW_FILES)
@pytest.mark.parametrize("execution", ["nobody-knows-it", "x" * 200, "%00", str(uuid.uuid4())])
@pytest.mark.one_level
def test_an_unknown_execution_is_a_404(shared: Endpoint, version: str, execution: str) -> None:
    shared.run("1")
    status, headers, body = shared.raw("GET", shared.target(f"executions/{execution}", version))

    assert (status, headers["x-ms-error-code"]) == (404, "ExecutionNotFound"), body


@pytest.mark.one_level
def test_asking_about_an_execution_makes_no_session(endpoint: Endpoint) -> None:
    reply = endpoint.send("GET", "executions/anything")

    assert reply.status_code == 404
    assert endpoint.send("GET", "session").status_code == 404


@pytest.mark.parametrize("operation", ["", "a b", "ü", "x" * 129, "a/b"])
@pytest.mark.one_level
def test_an_operation_id_that_fits_no_path_is_refused(shared: Endpoint, operation: str) -> None:
    headers = {b"operation-id": operation.encode("latin-1")}
    reply = shared.http.post(
        f"{shared.url}/executions",
        params=shared.query(V25_10),
        headers={b"Authorization": f"Bearer {shared.token}".encode(), **headers},
        json={"code": "1"},
    )

    assert (reply.status_code, error_of(reply)["target"]) == (400, "operation-id")


def test_calls_of_one_session_run_in_their_order(endpoint: Endpoint) -> None:
    """What is sent while code runs waits its turn: first come, first served, never two at once."""
    endpoint.run("order = []")
    started = [
        start(endpoint, f"import time; order.append(('in', {n})); time.sleep(0.1); order.append(('out', {n}))")
        for n in range(5)
    ]
    for reply in started:
        poll(endpoint, reply.json()["id"])

    assert endpoint.result("order") == [[word, n] for n in range(5) for word in ("in", "out")]


def test_files_do_not_wait_for_code(endpoint: Endpoint) -> None:
    """Upload, list, download and delete answer while a program runs, and the program sees them."""
    started = start(
        endpoint,
        "import os, time\nwhile not os.path.exists('go.txt'): time.sleep(0.02)\nopen('go.txt').read()",
        "waits",
    )
    assert started.status_code == 202
    began = time.monotonic()

    assert endpoint.upload("other.txt", b"x").status_code == 200
    assert endpoint.send("GET", "files").json()["value"][0]["name"] == "other.txt"
    assert endpoint.send("GET", "files/other.txt/content").content == b"x"
    assert endpoint.send("DELETE", "files/other.txt").status_code == 204
    assert time.monotonic() - began < 10
    assert endpoint.send("GET", "executions/waits").json()["status"] == "Running"
    endpoint.upload("go.txt", b"now")
    assert poll(endpoint, "waits")["result"]["executionResult"] == "now"


def test_a_caller_that_disconnects_stops_nothing(endpoint: Endpoint) -> None:
    """The execution goes on to its end, and whoever asks by its id gets the result."""
    endpoint.run("0")
    body = b'{"code": "import time; time.sleep(1); n = 7; n"}'
    with endpoint.connect() as caller:
        caller.sendall(
            endpoint.head("POST", endpoint.target("executions"), Content_Length=len(body), operation_id="left") + body
        )
        assert eventually(lambda: endpoint.send("GET", "executions/left").status_code == 200)

    assert poll(endpoint, "left")["result"]["executionResult"] == 7
    assert endpoint.result("n") == 7


@pytest.mark.one_level
def test_a_repeat_after_a_lost_answer_gets_the_answer(endpoint: Endpoint) -> None:
    """What a client does after a broken connection: send the same again."""
    endpoint.run("0")
    body = b'{"code": "n = globals().get(\'n\', 0) + 1; import time; time.sleep(0.5); n"}'
    head = endpoint.head(
        "POST",
        endpoint.target("executions"),
        Content_Length=len(body),
        operation_id="again",
        Content_Type="application/json",
    )
    with endpoint.connect() as caller:
        caller.sendall(head + body)
        assert eventually(lambda: endpoint.send("GET", "executions/again").status_code == 200)

    again = endpoint.send("POST", "executions", content=body, headers={"operation-id": "again"})
    assert again.json()["result"]["executionResult"] == 1


@pytest.mark.one_level
def test_more_callers_than_may_wait_are_told_to_come_back(endpoint: Endpoint) -> None:
    """The queue of one session is bounded: 429 with Retry-After, and what waits still runs."""
    start(endpoint, "import time; time.sleep(2)")
    replies = [start(endpoint, "1") for _ in range(70)]

    statuses = {reply.status_code for reply in replies}
    assert statuses == {202, 429}
    refused = next(reply for reply in replies if reply.status_code == 429)
    assert error_of(refused)["code"] == "TooManyRequests"
    assert int(refused.headers["retry-after"]) >= 1
    waiting = [reply.json()["id"] for reply in replies if reply.status_code == 202]
    assert poll(endpoint, waiting[-1])["status"] == "Succeeded"


def test_first_calls_that_come_together_make_one_session(endpoint: Endpoint) -> None:
    """However many arrive together for a new identifier, they share one sandbox."""
    barrier = threading.Barrier(20)

    def first(_: int) -> tuple[str, str]:
        barrier.wait()
        with httpx.Client(timeout=60, trust_env=False) as http:
            own = Endpoint(endpoint.server, endpoint.identifier, http)
            reply = own.send("POST", "executions", json={"code": "n = globals().get('n', 0) + 1"})
            return reply.headers["x-ms-session-guid"], reply.headers["x-ms-new-allocation"]

    with ThreadPoolExecutor(20) as pool:
        seen = list(pool.map(first, range(20)))

    assert len({guid for guid, _ in seen}) == 1
    assert [is_new for _, is_new in seen].count("true") == 1
    assert endpoint.result("n") == 20


LONG = """
[pools.python]
dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds = 1
[pools.python.carrel]
image = "python-slim"
memory = "128MiB"
disk = "16MiB"
tmp = "4MiB"
execution = 1
maximumAsynchronousExecutionInSeconds = 86400
"""


@pytest.mark.one_level
@pytest.mark.thorough
def test_what_nobody_waits_for_may_take_a_day_where_the_pool_allows_it(slim_server: SlimServer) -> None:
    """Longer than any call that somebody waits for, and its session lives as long, though nobody asks; the result is there afterwards."""
    with slim_server(config=LONG) as server, httpx.Client(timeout=30, trust_env=False) as http:
        endpoint = Endpoint(server, fresh_identifier(), http)
        refused = endpoint.send("POST", "executions", json={"code": "1", "timeoutInSeconds": 2})
        assert (refused.status_code, error_of(refused)["target"]) == (400, "timeoutInSeconds")
        assert start(endpoint, "1", timeoutInSeconds=86_401).status_code == 400
        assert start(endpoint, "import time; time.sleep(2.5); 7", "long", timeoutInSeconds=86_400).status_code == 202

        time.sleep(3)
        assert endpoint.send("GET", "executions/long").json()["result"]["executionResult"] == 7
        assert start(endpoint, "while True: pass", "looping", timeoutInSeconds=1).status_code == 202
        assert poll(endpoint, "looping")["result"]["outcome"] == "timeout"
        endpoint.end()
