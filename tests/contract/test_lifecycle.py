"""Sessions: how they are made, looked at, listed, ended, and what a full pool says."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from conftest import Server, SlimServer
from endpoint import NEW_FILES, V25_02, V25_10, VERSIONS, Endpoint, error_of
from processes import eventually

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

TINY = """
[pools.python]
scaleConfiguration = {maxConcurrentSessions = 2, readySessionInstances = 1}
dynamicPoolConfiguration = {lifecycleConfiguration = {lifecycleType = "Timed", cooldownPeriodInSeconds = 1}}
carrel = {image = "python-slim", memory = "128MiB", disk = "16MiB", tmp = "4MiB"}
"""


@pytest.fixture(scope="module")
def tiny_server(slim_server: SlimServer) -> Iterator[Server]:
    """Room for two sessions, which end after an idle second."""
    with slim_server(config=TINY) as server:
        yield server


@pytest.fixture
def tiny(tiny_server: Server) -> Iterator[Endpoint]:
    with httpx.Client(timeout=60.0, trust_env=False) as http:
        endpoint = Endpoint(tiny_server, "the-first", http)
        yield endpoint
        for identifier in ("the-first", "the-second", "the-third"):
            endpoint.send("DELETE", "session", query={"identifier": identifier})


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.one_level
def test_a_session_is_described_by_five_fields(shared: Endpoint, version: str) -> None:
    """identifier, createdAt, lastAccessedAt, expireAt, etag, on every version."""
    shared.run("1")
    reply = shared.send("GET", "session", version=version)

    body = reply.json()
    assert reply.status_code == 200
    assert set(body) >= {"identifier", "createdAt", "lastAccessedAt", "expireAt", "etag"}
    assert body["identifier"] == shared.identifier
    assert reply.headers["x-ms-session-etag"] == body["etag"]
    assert GUID.search(body["etag"])
    assert moment(body["createdAt"]) <= moment(body["lastAccessedAt"]) < moment(body["expireAt"])
    assert abs(moment(body["lastAccessedAt"]) - datetime.now(UTC).timestamp()) < 30
    assert 299 < moment(body["expireAt"]) - moment(body["lastAccessedAt"]) < 301


def test_looking_neither_makes_nor_keeps_a_session(endpoint: Endpoint) -> None:
    """GET session of an unknown identifier is a 404 and allocates nothing; of a live one it does not count as use."""
    missing = endpoint.send("GET", "session")
    assert (missing.status_code, error_of(missing)["code"]) == (404, "NoSessionFoundError")
    assert error_of(missing)["message"] == f"Could not find session with name '{endpoint.identifier}'."
    assert endpoint.send("GET", "session").status_code == 404

    endpoint.run("1")
    before = endpoint.send("GET", "session").json()
    time.sleep(0.05)
    endpoint.send("GET", "listSessions")
    assert endpoint.send("GET", "session").json() == before


@pytest.mark.parametrize("call", ["execute", "list", "upload"])
@pytest.mark.one_level
def test_every_call_counts_as_use(endpoint: Endpoint, call: str) -> None:
    """Executing, listing and uploading push the end of the session away."""
    endpoint.run("1")
    before = moment(endpoint.send("GET", "session").json()["lastAccessedAt"])
    time.sleep(0.05)
    if call == "execute":
        endpoint.run("1")
    elif call == "list":
        endpoint.send("GET", "files")
    else:
        endpoint.upload("a.txt", b"x")

    assert moment(endpoint.send("GET", "session").json()["lastAccessedAt"]) > before


@pytest.mark.parametrize("version", [V25_02, V25_10])
def test_a_deleted_session_is_gone_and_begins_anew(endpoint: Endpoint, version: str) -> None:
    """204, then 404; the same identifier gets a fresh, empty session with another etag."""
    endpoint.run("x = 1")
    endpoint.upload("old.txt", b"x")
    first = endpoint.send("GET", "session").json()["etag"]

    assert endpoint.send("DELETE", "session", version=version).status_code == 204
    again = endpoint.send("DELETE", "session", version=version)
    assert (again.status_code, error_of(again)["code"]) == (404, "NoSessionFoundError")
    assert endpoint.send("GET", "files").json()["value"] == []
    assert endpoint.result("'x' in globals()") is False
    assert endpoint.send("GET", "session").json()["etag"] != first


def test_deleting_ends_the_call_under_way(endpoint: Endpoint) -> None:
    """Whoever waits for code of a session that is deleted is told, at once."""
    import threading

    endpoint.run("1")
    replies: list[httpx.Response] = []
    body = {"code": "import time; time.sleep(20)"}
    caller = threading.Thread(target=lambda: replies.append(endpoint.send("POST", "executions", json=body)))
    caller.start()
    time.sleep(0.3)
    assert endpoint.send("DELETE", "session").status_code == 204
    caller.join(5)

    assert (replies[0].status_code, error_of(replies[0])["code"]) == (409, "SessionEnded")


@pytest.mark.parametrize("version", [V25_02, V25_10])
@pytest.mark.one_level
def test_live_sessions_are_listed(endpoint: Endpoint, version: str) -> None:
    """With the five fields each and no link where there is no next page; `skip` leaves out as many."""
    endpoint.run("1")
    body = endpoint.send("GET", "listSessions", version=version).json()

    own = [each for each in body["sessions"] if each["identifier"] == endpoint.identifier]
    assert own == [endpoint.send("GET", "session").json()]
    assert not body.get("nextLink")
    rest = endpoint.send("GET", "listSessions", version=version, query={"skip": "1000"}).json()
    assert rest["sessions"] == []


@pytest.mark.parametrize("skip", ["-1", "x", "1.5", "9" * 20])
@pytest.mark.one_level
def test_a_skip_that_is_no_number_is_refused(shared: Endpoint, skip: str) -> None:
    assert shared.send("GET", "listSessions", query={"skip": skip}).status_code == 400


@pytest.mark.parametrize("version", NEW_FILES)
@pytest.mark.one_level
@pytest.mark.packages
def test_metadata_tells_what_a_session_brings(shared: Endpoint, version: str) -> None:
    """The five fields of the specification, and it needs no identifier."""
    status, _, _ = shared.raw("GET", shared.target("metadata", version).split("&identifier")[0])
    body = shared.send("GET", "metadata", version=version).json()

    assert status == 200
    assert set(body) >= {"runtimes", "preInstalledPackages", "createdAt", "lastUpdatedAt", "jupyterKernel"}
    assert body["runtimes"][0]["name"] == "python"
    packages = {each["name"]: each["version"] for each in body["preInstalledPackages"]}
    imported = shared.result("import numpy, pandas; [numpy.__version__, pandas.__version__]", timeoutInSeconds=60)
    assert imported == [packages["numpy"], packages["pandas"]]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "metadata"), ("POST", "executions"), ("GET", "files"), ("GET", "files/none"), ("GET", "nowhere")]
)  # fmt: skip
def test_every_answer_names_the_boundary(shared: Endpoint, method: str, path: str) -> None:
    """Errors too; and only to callers who may use the pool."""
    body = {"code": "1"} if method == "POST" else None

    assert shared.send(method, path, json=body).headers["carrel-isolation"] == shared.server.level
    refused = shared.send(method, path, json=body, headers={"Authorization": "Bearer x"})
    assert (refused.status_code, refused.headers.get("carrel-isolation")) == (401, None)


def test_metadata_names_the_boundary_and_what_it_lacks(shared: Endpoint) -> None:
    boundary = shared.send("GET", "metadata").json()["carrel"]

    assert (boundary["isolation"], boundary["error"]) == (shared.server.level, None)
    assert all(isinstance(sentence, str) for sentence in boundary["weaknesses"])


def test_a_full_pool_says_429_and_when_to_come_back(tiny: Endpoint) -> None:
    """Azure's code and words, un-nested too, with Retry-After; a delete makes room at once."""
    for identifier in ("the-first", "the-second"):
        tiny.send("POST", "executions", query={"identifier": identifier}, json={"code": "1"})
    third = {"identifier": "the-third"}
    reply = tiny.send("POST", "executions", query=third, json={"code": "1"})

    error = error_of(reply)
    assert (reply.status_code, error["code"]) == (429, "SessionsCountExceedsLimit")
    assert error["message"].startswith("The request sessions count is '1'. There are already '2' active sessions")
    assert (reply.json()["code"], reply.json()["message"]) == (error["code"], error["message"])
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert tiny.send("POST", "executions", json={"code": "1"}).status_code == 200, "those who have a session keep it"
    assert tiny.send("DELETE", "session").status_code == 204
    assert tiny.send("POST", "executions", query=third, json={"code": "1"}).status_code == 200


def test_an_idle_session_ends_after_its_cooldown(tiny: Endpoint) -> None:
    """And not before: each call begins it anew, and a running execution keeps the session."""
    tiny.run("x = 1")
    for _ in range(3):
        time.sleep(0.5)
        assert tiny.result("x") == 1
    assert tiny.result("import time; time.sleep(1.5); x") == 1
    assert tiny.send("GET", "session").status_code == 200

    assert eventually(lambda: tiny.send("GET", "session").status_code == 404, 4)
    assert tiny.result("'x' in globals()") is False


def test_a_cooldown_frees_a_full_pool(tiny: Endpoint) -> None:
    for identifier in ("the-first", "the-second"):
        tiny.send("POST", "executions", query={"identifier": identifier}, json={"code": "1"})
    third = {"identifier": "the-third"}

    assert tiny.send("GET", "files", query=third).status_code == 429
    assert eventually(lambda: tiny.send("GET", "files", query=third).status_code == 200, 5)
