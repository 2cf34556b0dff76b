"""Identifier-bound tokens: good for one session, on every route, and for nothing else on any."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest

from carrel.server import routes
from carrel.server.arm import routes as arm_routes
from carrel.server.graph import routes as graph_routes
from carrel.server.issuers import LEEWAY_S
from carrel.storage import APPLICATION, State
from conftest import Server
from endpoint import Endpoint, error_of
from test_role_assignments import EXECUTOR, Arm

pytestmark = pytest.mark.one_level

VERSION = "2025-10-02-preview"
BELOW = {**routes.FIXED, **routes.NAMED}
SERVED = [(route, method) for route in BELOW.values() for method in route.methods]
SERVED += [(routes.MCP, method) for method in routes.MCP_METHODS]


class Bound:
    """Whoever holds a token for one session of the server's pool."""

    def __init__(self, endpoint: Endpoint, token: str) -> None:
        self.url = endpoint.url
        self.http = httpx.Client(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=30)

    def send(self, method: str, route: str, identifier: str | None, base: str = "", **options: Any) -> httpx.Response:
        query = {"api-version": VERSION} | ({} if identifier is None else {"identifier": identifier})
        path = route.replace("{id}", "none").replace("{name}", "none.txt")
        with self.http.stream(method, f"{base or self.url}/{path}", params=query, **options) as reply:
            if reply.headers.get("content-type", "").startswith("text/event-stream"):
                return reply  # it would go on
            reply.read()
            return reply


def bound_token(endpoint: Endpoint, identifier: str, **more: object) -> httpx.Response:
    body = {"identifier": identifier, **more}
    headers = {"Authorization": f"Bearer {endpoint.token}"}
    query = {"api-version": VERSION}
    return endpoint.http.post(f"{endpoint.url}/.carrel/token", params=query, headers=headers, json=body)


@pytest.fixture
def bound(endpoint: Endpoint) -> Bound:
    """Of the session of `endpoint`."""
    reply = bound_token(endpoint, endpoint.identifier)
    assert reply.status_code == 201, reply.text
    return Bound(endpoint, reply.json()["token"])


# A body that each route takes, so that only the token can be what is refused.
BODIES: dict[str, Any] = {
    "code/execute": {"properties": {"code": "1"}},
    "execute": {"code": "1"},
    "python/execute": {"code": "1"},
    "executions": {"code": "1"},
    "session/variables": {"a": 1},
    "files/{name}/rename": {"to": "other.txt"},
    ".carrel/token": {"identifier": "somebody"},
    ".carrel/egress": {"allow": []},
    ".carrel/egress/test": {"host": "x", "port": 1},
    ".carrel/image": {"image": "x"},
    "mcp": {"jsonrpc": "2.0", "id": 1, "method": "ping"},
}
UPLOADS = {"files", "files/upload", "python/uploadFile"}


def options_of(route: routes.Route, method: str) -> dict[str, Any]:
    if method == "POST" and route.pattern in UPLOADS:
        return {"files": {"file": ("none.txt", b"x")}}
    return {"json": BODIES[route.pattern]} if method in ("POST", "PUT") and route.pattern in BODIES else {}


def test_every_route_keeps_to_the_one_session(bound: Bound, endpoint: Endpoint) -> None:
    """All routes there are, by all ways to name a session: the own one is served, any other is refused before it can be made."""
    other = f"{endpoint.identifier}-other"
    for route, method in SERVED:
        where, options = f"{method} {route.pattern}", options_of(route, method)
        if not route.is_bound:
            for identifier in (None, endpoint.identifier, other):
                assert bound.send(method, route.pattern, identifier, **options).status_code == 403, where
            continue
        own = bound.send(method, route.pattern, endpoint.identifier, **options)
        assert own.status_code not in (401, 403, 500, 503), (where, own.status_code)
        if route is routes.MCP:
            continue
        refused = [
            bound.send(method, route.pattern, other, **options),
            bound.send(method, f"identifier/{other}/{route.pattern}", None, **options),
            bound.send(method, f"identifier/{other}/{route.pattern}", other, **options),
            bound.send(method, route.pattern, endpoint.identifier.upper(), **options),
        ]
        assert [reply.status_code for reply in refused] == [403] * 4, where
        mixed = bound.send(method, f"identifier/{other}/{route.pattern}", endpoint.identifier, **options)
        assert mixed.status_code == 400, where
        assert bound.send(method, route.pattern, None, **options).status_code in (400, 403), where

    assert other not in endpoint.send("GET", "listSessions").text


def test_the_identifier_in_a_body_is_looked_at_too(bound: Bound, endpoint: Endpoint) -> None:
    own = {"properties": {"identifier": endpoint.identifier, "code": "40 + 2"}}
    other = {"properties": {"identifier": f"{endpoint.identifier}-other", "code": "1"}}

    assert bound.send("POST", "python/execute", None, json=own).json()["properties"]["result"] == 42
    refused = bound.send("POST", "python/execute", None, json=other)
    assert (refused.status_code, error_of(refused)["code"]) == (403, "Forbidden")
    assert bound.send("POST", "executions", endpoint.identifier, json=other).status_code == 400


def test_mcp_has_one_environment(bound: Bound, endpoint: Endpoint) -> None:
    """Launching gives its name; a tool of any other is an error that says so, in an MCP session or without."""

    def call(name: str, **arguments: Any) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        return dict(bound.send("POST", "mcp", None, json=message).json()["result"])

    run = "runPythonCodeInRemoteEnvironment"
    launched = call("launchShell")["structuredContent"]["environmentId"]
    assert launched == endpoint.identifier
    assert call(run, environmentId=launched, pythonCode="6 * 7")["structuredContent"]["executionResult"] == 42
    for name in (
        run,
        "runShellCommandInRemoteEnvironment",
        "listFiles",
        "uploadFile",
        "downloadFile",
        "stopEnvironment",
    ):
        refused = call(name, environmentId="another", pythonCode="1", shellCommand="ls", path="a", content="b")
        assert refused["isError"], name
        assert "another environment" in refused["content"][0]["text"], name


def test_one_bearer_cannot_take_all_of_a_pools_mcp_sessions(bound: Bound, endpoint: Endpoint) -> None:
    """Sixteen are open to it; then it is told to wait, and whoever else comes begins one."""
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
    accept = {"Accept": "application/json, text/event-stream"}

    def begin(headers: dict[str, str]) -> httpx.Response:
        return endpoint.http.post(f"{endpoint.url}/mcp", headers={**accept, **headers}, json=message)

    mine = {"Authorization": bound.http.headers["Authorization"]}
    begun = [begin(mine) for _ in range(17)]
    assert [each.status_code for each in begun] == [200] * 16 + [503]
    ended = {**mine, "Mcp-Session-Id": begun[0].headers["mcp-session-id"]}
    assert begin({"Authorization": f"Bearer {endpoint.token}"}).status_code == 200
    assert endpoint.http.delete(f"{endpoint.url}/mcp", headers=ended).status_code == 200
    assert begin(mine).status_code == 200


def test_the_other_planes_do_not_know_it(bound: Bound, server: Server) -> None:
    base = server.connection["http"]
    served = [(each.pattern.text, method) for each in arm_routes.ROUTES for method in each.methods]
    served += [(each.pattern.text, method) for each in graph_routes.ROUTES for method in each.methods]
    assert len(served) > 20
    for text, method in served:
        path = text.replace("{scope}", f"/subscriptions/{server.connection['subscription']}")
        for name in ("subscription", "group", "name", "namespace"):
            path = path.replace(f"{{{name}}}", server.connection["subscription"])
        reply = bound.http.request(
            method, base + path.replace("{", "").replace("}", ""), params={"api-version": "2022-04-01"}
        )
        assert reply.status_code == 401, (method, text)


def test_the_pools_secrets_are_not_its_to_open(bound: Bound, endpoint: Endpoint) -> None:
    """It may open its session, with words of its own."""
    secret = {"environment": {"A": {"secretRef": "anything"}}}
    assert bound.send("PUT", "session", endpoint.identifier, json=secret).status_code == 400
    assert bound.send("PUT", "session", endpoint.identifier, json={"environment": {"A": "b"}}).status_code == 201


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"identifier": "a" * 129}, "InvalidLengthOfSessionIdentifier"),
        ({"identifier": "é" * 5}, "SessionRequestValidationFailed"),
        ({"identifier": 5}, "SessionRequestValidationFailed"),
        ({}, "SessionRequestValidationFailed"),
        ([], "SessionRequestValidationFailed"),
        ({"identifier": "alice", "ttlInSeconds": 0}, "SessionRequestValidationFailed"),
        ({"identifier": "alice", "ttlInSeconds": 86_401}, "SessionRequestValidationFailed"),
        ({"identifier": "alice", "ttlInSeconds": "9"}, "SessionRequestValidationFailed"),
        ({"identifier": "alice", "roles": ["Owner"]}, "SessionRequestValidationFailed"),
    ],
)
def test_a_bad_request_for_one_is_a_clean_400(endpoint: Endpoint, body: Any, code: str) -> None:
    headers = {"Authorization": f"Bearer {endpoint.token}"}
    query = {"api-version": VERSION}
    reply = endpoint.http.post(f"{endpoint.url}/.carrel/token", params=query, headers=headers, json=body)

    assert (reply.status_code, error_of(reply)["code"]) == (400, code)


def test_it_does_not_outlive_the_token_it_was_asked_for_with(endpoint: Endpoint) -> None:
    state = State(endpoint.server.state)
    for ttl_s, asked, expected in ((600, 60, 60), (120, 3600, 120)):
        own = state.issue_token(ttl_s=ttl_s, claims=APPLICATION)
        reply = httpx.post(
            f"{endpoint.url}/.carrel/token?api-version={VERSION}",
            headers={"Authorization": f"Bearer {own}"},
            json={"identifier": "alice", "ttlInSeconds": asked},
        )
        claims = jwt.decode(reply.json()["token"], options={"verify_signature": False})
        assert claims["exp"] - claims["iat"] <= expected
        assert claims["exp"] > time.time() + expected - 10


@pytest.fixture
def admin(server: Server) -> Iterator[Arm]:
    yield Arm(server)


def test_it_loses_what_its_maker_loses(server: Server, admin: Arm, endpoint: Endpoint) -> None:
    maker = Arm(server, str(uuid.uuid4()))
    made = admin.assign(admin.group, EXECUTOR, maker.oid).json()["id"]
    headers = {"Authorization": f"Bearer {maker.tokens['https://dynamicsessions.io']}"}
    reply = maker.http.post(
        f"{endpoint.url}/.carrel/token?api-version={VERSION}", headers=headers, json={"identifier": endpoint.identifier}
    )
    bound = Bound(endpoint, reply.json()["token"])

    assert bound.send("POST", "executions", endpoint.identifier, json={"code": "1"}).status_code == 200
    assert admin.send("DELETE", made).status_code == 200
    assert bound.send("POST", "executions", endpoint.identifier, json={"code": "1"}).status_code == 403


def test_it_is_of_one_pool(endpoint: Endpoint) -> None:
    """One that the state folder's owner made, for a pool that is not this one."""
    state = State(endpoint.server.state)
    claims = {"roles": [EXECUTOR], "carrel_identifier": endpoint.identifier}
    for pools, status in ((["python"], 200), (["other"], 403), ([], 403)):
        token = state.issue_token(claims={**claims, "carrel_pools": pools})
        assert Bound(endpoint, token).send("GET", "files", endpoint.identifier).status_code == status
    elsewhere = {"carrel_scope": "/subscriptions/x/resourceGroups/y/providers/Microsoft.App/sessionPools/python"}
    for more in (elsewhere, {}):
        token = state.issue_token(claims={"carrel_identifier": endpoint.identifier, **APPLICATION, **more})
        assert Bound(endpoint, token).send("GET", "files", endpoint.identifier).status_code == 403


def test_a_stream_ends_with_the_right_to_it(server: Server, admin: Arm, endpoint: Endpoint) -> None:
    """Within a second, told as an error: a stream that goes on is no way around a role that was taken away, or a token that has ended."""
    caller = Arm(server, str(uuid.uuid4()))
    made = admin.assign(admin.group, EXECUTOR, caller.oid).json()["id"]
    endpoint.run("1")

    def short() -> str:
        """Bound to the session, and at its end in a second or two."""
        claims = {"roles": [EXECUTOR], "carrel_pools": ["*"], "carrel_identifier": endpoint.identifier}
        return State(server.state).issue_token(ttl_s=2, now=time.time() - LEEWAY_S, claims=claims)

    def known() -> str:
        return caller.tokens["https://dynamicsessions.io"]

    for made_token, code in ((known, "Forbidden"), (short, "Unauthorized")):
        query = {"api-version": VERSION, "identifier": endpoint.identifier}
        headers = {"Authorization": f"Bearer {made_token()}"}
        with caller.http.stream("GET", f"{endpoint.url}/session/events", params=query, headers=headers) as stream:
            assert stream.status_code == 200
            lines = stream.iter_lines()
            assert next(lines) == "event: session"
            assert admin.send("DELETE", made).status_code in (200, 204)
            began = time.monotonic()
            rest = "\n".join(lines)
            assert time.monotonic() - began < 3
            assert "event: error" in rest
            assert f'"code":"{code}"' in rest.replace(" ", "")


def test_an_mcp_stream_ends_with_the_right_to_it_too(server: Server, admin: Arm, endpoint: Endpoint) -> None:
    """It tells what the code prints as it goes, or waits for news; the package that writes it knows nothing of rights."""
    caller = Arm(server, str(uuid.uuid4()))
    made = admin.assign(admin.group, EXECUTOR, caller.oid).json()["id"]
    headers = {
        "Authorization": f"Bearer {caller.tokens['https://dynamicsessions.io']}",
        "Accept": "application/json, text/event-stream",
    }
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
    begun = caller.http.post(f"{endpoint.url}/mcp", headers=headers, json=message)
    headers["Mcp-Session-Id"] = begun.headers["mcp-session-id"]
    arguments = {
        "environmentId": endpoint.identifier,
        "pythonCode": "import time\nfor _ in range(40):\n    print('x', flush=True)\n    time.sleep(0.25)",
    }
    call = {"name": "runPythonCodeInRemoteEnvironment", "arguments": arguments, "_meta": {"progressToken": 1}}
    message = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call}

    with (
        caller.http.stream("GET", f"{endpoint.url}/mcp", headers=headers) as news,
        caller.http.stream("POST", f"{endpoint.url}/mcp", headers=headers, json=message) as told,
    ):
        assert (news.status_code, told.status_code) == (200, 200)
        lines = told.iter_lines()
        assert any("notifications/progress" in line for line in lines)
        assert admin.send("DELETE", made).status_code == 200
        began = time.monotonic()
        assert not any('"result"' in line for line in lines), "the code went on for ten seconds"
        assert not any(line.startswith("data: {") for line in news.iter_lines())
        assert time.monotonic() - began < 3
