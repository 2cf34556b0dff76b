"""Cancel, restart and the list of executions over HTTP: safe to repeat, at any moment, and the session goes on."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from endpoint import V24_02, V25_02, V25_10, VERSIONS, Endpoint, error_of
from processes import eventually

pytestmark = pytest.mark.one_level
FOREVER = "import time; print('on', flush=True)\nwhile True: time.sleep(0.05)"


def start(endpoint: Endpoint, code: str = FOREVER, operation: str = "runs", **fields: Any) -> str:
    body = {"code": code, "executionType": "Asynchronous", **fields}
    reply = endpoint.send("POST", "executions", json=body, headers={"operation-id": operation})
    assert reply.status_code == 202, reply.text
    return operation


def status(endpoint: Endpoint, execution: str) -> str:
    return str(endpoint.send("GET", f"executions/{execution}").json()["status"])


def running(endpoint: Endpoint, execution: str) -> bool:
    return eventually(lambda: status(endpoint, execution) == "Running")


def cancel(endpoint: Endpoint, execution: str, version: str = V25_10) -> dict[str, Any]:
    reply = endpoint.send("POST", f"executions/{execution}/cancel", version=version)
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


@pytest.mark.parametrize("version", VERSIONS)
def test_what_runs_is_canceled_and_state_is_kept(endpoint: Endpoint, version: str) -> None:
    """An interrupt suffices here: what it printed is there, and so are the session's variables; repeating changes nothing."""
    endpoint.run("kept = 41")
    running(endpoint, start(endpoint))
    time.sleep(0.2)

    canceled = cancel(endpoint, "runs", version)

    assert (canceled["status"], canceled["result"]["outcome"]) == ("Canceled", "canceled")
    assert canceled["result"]["stdout"] == "on\n"
    assert cancel(endpoint, "runs", version) == canceled
    assert endpoint.result("kept + 1") == 42


def test_a_waiting_caller_of_what_is_canceled_is_answered(endpoint: Endpoint) -> None:
    """In both envelopes, with 200: that it was canceled is a result."""
    endpoint.run("0")
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(endpoint.run, FOREVER, headers={"operation-id": "one"})
        assert eventually(lambda: endpoint.send("GET", "executions/one").status_code == 200)
        second = pool.submit(endpoint.old, FOREVER)
        assert eventually(lambda: len(endpoint.send("GET", "executions").json()["value"]) == 3)
        assert endpoint.send("POST", "session/cancel").json() == {"canceled": 2}

        assert first.result()["status"] == "Canceled"
        assert second.result()["status"] == "Canceled"
    assert endpoint.send("POST", "session/cancel").json() == {"canceled": 0}


def test_what_waits_its_turn_never_runs(endpoint: Endpoint) -> None:
    endpoint.run("ran = []")
    running(endpoint, start(endpoint, "import time; time.sleep(1); ran.append(1)"))
    start(endpoint, "ran.append(2)", "waits")

    assert cancel(endpoint, "waits")["status"] == "Canceled"
    assert status(endpoint, "runs") == "Running"
    assert endpoint.result("ran") == [1]


def test_code_that_will_not_be_interrupted_is_ended_with_its_interpreter(endpoint: Endpoint) -> None:
    """As at a deadline: variables are lost, files are not."""
    endpoint.run("open('/mnt/data/kept', 'w').close()")
    code = "import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass"
    running(endpoint, start(endpoint, code))
    time.sleep(0.2)

    assert cancel(endpoint, "runs")["status"] == "Canceled"
    assert endpoint.result("import os; sorted(os.listdir('/mnt/data'))") == ["kept"]


def test_what_is_over_stays_what_it_was(endpoint: Endpoint) -> None:
    endpoint.run("7", headers={"operation-id": "over"})

    envelope = cancel(endpoint, "over")

    assert (envelope["status"], envelope["result"]["executionResult"]) == ("Succeeded", 7)


def test_cancels_that_race_with_the_end_agree(endpoint: Endpoint) -> None:
    """Ten callers cancel code that ends by itself just then: they all read the same, and nothing is left over."""
    endpoint.run("import time")
    for attempt in range(5):
        identifier = start(endpoint, "time.sleep(0.05)", f"race-{attempt}")
        time.sleep(0.01 * attempt + 0.02)
        with ThreadPoolExecutor(5) as pool:
            statuses = {each["status"] for each in pool.map(lambda _, it=identifier: cancel(endpoint, it), range(5))}
        assert statuses in ({"Canceled"}, {"Succeeded"})
    assert endpoint.result("1 + 1") == 2


@pytest.mark.parametrize("execution", ["nobody-knows-it", "x" * 200, "%00", "a%2Fb"])
def test_canceling_what_is_not_there_is_a_404(shared: Endpoint, execution: str) -> None:
    shared.run("1")
    state, headers, body = shared.raw("POST", shared.target(f"executions/{execution}/cancel"), b"")

    assert (state, headers["x-ms-error-code"]) == (404, "ExecutionNotFound"), body


@pytest.mark.parametrize("route", ["executions/x/cancel", "session/cancel", "session/restart"])
def test_ending_code_makes_no_session(endpoint: Endpoint, route: str) -> None:
    reply = endpoint.send("POST", route)

    assert (reply.status_code, error_of(reply)["code"]) == (404, "NoSessionFoundError")
    assert endpoint.send("GET", "session").status_code == 404
    assert endpoint.send("GET", route if route != "executions/x/cancel" else "session/cancel").status_code == 405


@pytest.mark.parametrize("version", [V24_02, V25_02])
def test_a_restart_loses_variables_and_keeps_the_session(endpoint: Endpoint, version: str) -> None:
    guid = endpoint.send("POST", "executions", json={"code": "x = 1; open('/mnt/data/f', 'w').write('x')"})
    reply = endpoint.send("POST", "session/restart", version=version)

    assert reply.status_code == 200
    assert reply.json()["etag"] == guid.headers["x-ms-session-guid"]
    assert endpoint.result("'x' in globals(), open('/mnt/data/f').read()") == [False, "x"]


def test_a_restart_cancels_what_runs(endpoint: Endpoint) -> None:
    """Several at once are one: everybody finds a fresh interpreter afterwards."""
    endpoint.run("x = 1")
    running(endpoint, start(endpoint))
    start(endpoint, "y = 1", "waits")
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: endpoint.send("POST", "session/restart"), range(4)))

    assert [reply.status_code for reply in replies] == [200] * 4
    assert [status(endpoint, each) for each in ("runs", "waits")] == ["Canceled", "Canceled"]
    assert endpoint.result("[name for name in ('x', 'y') if name in globals()]") == []


def test_the_list_has_every_execution_without_its_output(endpoint: Endpoint) -> None:
    """Oldest first, whatever its state; looking does not consume results."""
    endpoint.run("print('secret'); 1", headers={"operation-id": "a"})
    endpoint.run("1/0", headers={"operation-id": "b"})
    running(endpoint, start(endpoint, operation="c"))
    start(endpoint, "2", "d")
    cancel(endpoint, "d")

    reply = endpoint.send("GET", "executions")

    assert "secret" not in reply.text
    body = reply.json()
    told = [(each["id"], each["status"], each["outcome"], each["executionType"]) for each in body["value"]]
    assert told == [
        ("a", "Succeeded", "ok", "Synchronous"),
        ("b", "Failed", "error", "Synchronous"),
        ("c", "Running", None, "Asynchronous"),
        ("d", "Canceled", "canceled", "Asynchronous"),
    ]
    assert {each["identifier"] for each in body["value"]} == {endpoint.identifier}
    assert body["nextLink"] is None
    page = endpoint.send("GET", "executions", query={"skip": "3"}).json()
    assert [each["id"] for each in page["value"]] == ["d"]
    assert endpoint.send("GET", "executions", query={"skip": "9"}).json() == {"value": [], "nextLink": None}
    for skip in ("-1", "x", "99999999"):
        assert endpoint.send("GET", "executions", query={"skip": skip}).status_code == 400
    cancel(endpoint, "c")


def test_the_client_ends_code(endpoint: Endpoint) -> None:
    from carrel.client import Client

    with Client.from_connection(endpoint.server.state, identifier=endpoint.identifier) as client:
        client.execute("x = 1")
        started = client.start(FOREVER)
        assert client.cancel(started.id).status == "Canceled"
        assert client.cancel_all() == 0
        session = client.restart()
        assert client.session().etag == session.etag
        assert client.execute("'x' in globals()").result is False
        assert [each.status for each in client.executions()] == ["Succeeded", "Canceled", "Succeeded"]
