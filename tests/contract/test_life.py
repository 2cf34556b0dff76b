"""A session's life beyond Azure: opened with an environment, kept alive, told of, and never lost in silence."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import httpx
import pytest

from endpoint import VERSIONS, Endpoint, error_of

EVENTS = {"Accept": "text/event-stream"}


@contextlib.contextmanager
def events(endpoint: Endpoint, **more: str) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    headers = {"Authorization": f"Bearer {endpoint.token}", **EVENTS, **more}
    url = f"{endpoint.url}/session/events"
    with endpoint.http.stream("GET", url, params=endpoint.query(), headers=headers, timeout=20) as reply:
        assert reply.status_code == 200, reply.read()
        yield told(reply)


def told(reply: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    kind = ""
    for line in reply.iter_lines():
        if line.startswith("event: "):
            kind = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield kind, json.loads(line.removeprefix("data: "))


def code_of(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, str(error_of(reply)["code"])


# ---- when it ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.one_level
def test_every_reply_of_a_session_says_when_it_expires(endpoint: Endpoint, version: str) -> None:
    """In a header, so that no shape of Azure's changes: the time that the session itself names."""
    endpoint.upload("a", b"x", version=version)
    replies = [
        endpoint.send("POST", "executions", version=version, json={"code": "1", "identifier": endpoint.identifier}),
        endpoint.send("POST", "code/execute", version=version, json={"properties": {"code": "1"}}),
        endpoint.send("GET", "files", version=version),
        endpoint.send("GET", "files/a", version=version),
        endpoint.send("GET", "files/a/content", version=version),
        endpoint.send("POST", "files", version=version, files={"file": ("b", b"x")}),
        endpoint.send("DELETE", "files/b", version=version),
        endpoint.send("GET", "session", version=version),
    ]

    for reply in replies:
        assert reply.is_success, reply.text
        at = datetime.fromisoformat(reply.headers["carrel-expire-at"])
        assert 290 < at.timestamp() - time.time() < 301
    assert replies[-1].json()["expireAt"] == replies[-1].headers["carrel-expire-at"]


def test_an_execution_asked_for_says_it_too(endpoint: Endpoint) -> None:
    reply = endpoint.send("POST", "executions", json={"code": "1", "executionType": "Asynchronous"})
    found = endpoint.send("GET", f"executions/{reply.json()['id']}")
    assert found.headers["carrel-expire-at"] >= reply.headers["carrel-expire-at"]


def test_a_session_is_kept_alive_but_none_is_made(endpoint: Endpoint) -> None:
    """A caller that keeps a session alive wants that one: an empty new one would hide that it is gone."""
    assert code_of(endpoint.send("POST", "session/keepAlive")) == (404, "NoSessionFoundError")
    endpoint.result("x = 41")
    before = endpoint.send("GET", "session").json()["expireAt"]
    time.sleep(0.05)

    kept = endpoint.send("POST", "session/keepAlive")

    assert (kept.status_code, kept.json()["identifier"]) == (200, endpoint.identifier)
    assert kept.json()["expireAt"] > before
    assert kept.headers["carrel-expire-at"] == kept.json()["expireAt"]
    assert endpoint.result("x + 1") == 42


def test_a_session_tells_of_its_restart_and_of_its_end(endpoint: Endpoint) -> None:
    """From how it is to its end, with the reason; then the stream is over, and there is nothing to be told any more."""
    assert code_of(endpoint.send("GET", "session/events", headers=EVENTS)) == (404, "NoSessionFoundError")
    endpoint.result("1")

    with events(endpoint) as happening:
        kind, session = next(happening)
        assert (kind, session["identifier"]) == ("session", endpoint.identifier)
        endpoint.run("import os; os._exit(3)")
        kind, notice = next(happening)
        assert (kind, notice["session"]["etag"]) == ("restarted", session["etag"])
        endpoint.send("DELETE", "session")
        kind, notice = next(happening)
        assert (kind, notice["reason"]) == ("ended", "it was deleted")
        assert next(happening, None) is None
    assert code_of(endpoint.send("GET", "session/events", headers=EVENTS)) == (404, "NoSessionFoundError")


def test_who_lost_the_connection_is_told_what_happened_meanwhile(endpoint: Endpoint) -> None:
    """By the number of the last event that they saw."""
    endpoint.result("1")
    with events(endpoint) as happening:
        next(happening)
        endpoint.run("import os; os._exit(3)")
        assert next(happening)[0] == "restarted"

    with events(endpoint, **{"Last-Event-ID": "1"}) as happening:
        kinds = (kind for kind, _ in happening if kind != "allocated")
        assert [next(kinds), next(kinds)] == ["session", "restarted"]
    with events(endpoint, **{"Last-Event-ID": str(2**53)}) as happening:
        next(happening)
        endpoint.send("DELETE", "session")
        assert next(happening)[0] == "ended"
    bad = endpoint.send("GET", "session/events", headers={"Last-Event-ID": "x"})
    assert code_of(bad) == (400, "SessionRequestValidationFailed")


def test_to_be_told_is_no_use(endpoint: Endpoint) -> None:
    """Else whoever watches would keep the session from the end that they want to be told of."""
    endpoint.result("1")
    before = endpoint.send("GET", "session").json()["expireAt"]

    with events(endpoint) as happening:
        next(happening)
        time.sleep(0.1)
    assert endpoint.send("GET", "session").json()["expireAt"] == before


# ---- the environment -------------------------------------------------------------------------------------------------------------


def test_a_session_has_the_environment_that_it_was_opened_with(endpoint: Endpoint) -> None:
    """In its code and in the programs that this starts, also after a restart; nothing shows it from outside."""
    values = {"CARREL_TEST": "grüße = 'x' \n \"y\" $HOME", "EMPTY": "", "LD_LIBRARY_PATH": "/nowhere"}

    opened = endpoint.send("PUT", "session", json={"environment": values})

    assert (opened.status_code, opened.json()["identifier"]) == (201, endpoint.identifier)
    shown = "import os, subprocess, sys; {name: os.environ.get(name) for name in %r}" % (list(values),)  # noqa: UP031
    assert endpoint.result(shown) == values
    child = "subprocess.run([sys.executable, '-c', 'import os; print(os.environ[\"CARREL_TEST\"])'], text=True, capture_output=True).stdout"
    assert endpoint.result(child) == values["CARREL_TEST"] + "\n"
    endpoint.run("import os; os._exit(3)")
    assert endpoint.result(shown) == values
    for path in ("session", "listSessions", "metadata"):
        assert "grüße" not in json.dumps(endpoint.send("GET", path).json(), ensure_ascii=False)


def test_a_repeat_does_no_harm_and_another_environment_is_refused(endpoint: Endpoint) -> None:
    """It is given at the beginning and never changed: whoever opens a session knows what is in it."""
    one, other = {"environment": {"A": "1", "B": "2"}}, {"environment": {"A": "2"}}

    assert endpoint.send("PUT", "session", json=one).status_code == 201
    assert endpoint.send("PUT", "session", json={"environment": {"B": "2", "A": "1"}}).status_code == 200
    for refused in (endpoint.send("PUT", "session", json=other), endpoint.send("PUT", "session")):
        assert refused.status_code == 409
        assert error_of(refused)["code"] == "SessionExists"
    assert endpoint.result("import os; os.environ['A']") == "1"


def test_a_session_that_is_there_gets_none(endpoint: Endpoint) -> None:
    endpoint.result("1")

    assert endpoint.send("PUT", "session", json={"environment": {"A": "1"}}).status_code == 409
    assert endpoint.send("PUT", "session").status_code == 200


def test_of_many_who_open_it_at_once_one_does(endpoint: Endpoint) -> None:
    """The others with the same environment find it; those with another are told."""
    bodies = [{"environment": {"WHO": str(number % 2)}} for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda body: endpoint.send("PUT", "session", json=body), bodies))

    winner = endpoint.result("import os; os.environ['WHO']")
    assert sorted(reply.status_code for reply in replies) == [200, 200, 200, 201, 409, 409, 409, 409]
    assert all((reply.status_code != 409) == (str(n % 2) == winner) for n, reply in enumerate(replies))


@pytest.mark.parametrize("environment", [[], {"A=B": "x"}, {"A": 5}, {"A": "x\0"}, {"A": {"secretRef": "none"}}])
@pytest.mark.one_level
def test_an_environment_that_is_none_opens_nothing(endpoint: Endpoint, environment: Any) -> None:
    refused = endpoint.send("PUT", "session", json={"environment": environment})

    assert code_of(refused) == (400, "SessionRequestValidationFailed")
    assert endpoint.send("GET", "session").status_code == 404
