"""What is refused, and how: bodies, routes, versions, identifiers, tokens. Every error has a code, a message, a trace and no insides."""

from __future__ import annotations

import base64
import json
import time
from urllib.parse import urlsplit

import jwt
import pytest

from carrel.storage import State
from conftest import Server
from endpoint import Endpoint, error_of

pytestmark = pytest.mark.one_level

AUDIENCES = ("https://dynamicsessions.io", "https://acasessions.io")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"5",
        b'"x"',
        b"null",
        b'{"code": NaN',
        b"\xff\xfe{}",
        b'{"code": "\xff"}',
        b'{"code": 1' + b"0" * 5000 + b"}",
        b'{"a":' * 100_000,
        b"[" * 200_000,
        b'{"a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"properties": "' + b"\\u00" * 10 + b'"}',
    ],
    ids=range(14),
)
@pytest.mark.parametrize("path", ["executions", "code/execute"])
def test_a_bad_body_is_a_clean_400(shared: Endpoint, path: str, body: bytes) -> None:
    """Broken, of the wrong kind, or nested without end."""
    reply = shared.send("POST", path, content=body, headers={"Content-Type": "application/json"})

    assert reply.status_code == 400
    assert error_of(reply)["code"] == "SessionRequestValidationFailed"


def test_a_huge_body_is_a_413(shared: Endpoint) -> None:
    """By its declared length alone, and while it comes."""
    reply = shared.send("POST", "executions", content=b'{"code": "' + b"#" * (17 << 20) + b'"}')
    assert (reply.status_code, error_of(reply)["code"]) == (413, "ContentTooLarge")
    with shared.connect() as caller:
        caller.sendall(shared.head("POST", shared.target("executions"), Content_Length=10**12))
        caller.settimeout(5)
        assert caller.recv(65536).startswith(b"HTTP/1.1 413 ")
    reply = shared.send("POST", "executions", content=(b" " * 65536 for _ in range(300)))
    assert reply.status_code == 413


def test_large_code_runs(shared: Endpoint) -> None:
    """Eight mebibytes of program are fine, more are a 413."""
    filler = "#" * ((8 << 20) - 10)

    assert shared.result(f"{filler}\n6 * 7", timeoutInSeconds=60) == 42
    reply = shared.send("POST", "executions", json={"code": filler + "x" * 100})
    assert (reply.status_code, error_of(reply)["code"]) == (413, "ContentTooLarge")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nothing/here", 404, "RouteNotFound"),
        ("GET", "", 404, "RouteNotFound"),
        ("POST", "mcpp", 404, "RouteNotFound"),
        ("PUT", "executions", 405, "MethodNotAllowed"),
        ("GET", "executions/x/cancel", 405, "MethodNotAllowed"),
        ("POST", ".management/nothing", 404, "RouteNotFound"),
        ("PUT", "files/a.txt", 405, "MethodNotAllowed"),
        ("PATCH", "session", 405, "MethodNotAllowed"),
        ("DELETE", "executions/x", 405, "MethodNotAllowed"),
        ("PROPFIND", "session", 405, "MethodNotAllowed"),
    ],
)
def test_unknown_routes_and_methods(shared: Endpoint, method: str, path: str, status: int, code: str) -> None:
    """405 names the methods that are there."""
    reply = shared.send(method, path)

    assert (reply.status_code, error_of(reply)["code"]) == (status, code)
    assert (status == 405) == ("allow" in reply.headers)


@pytest.mark.parametrize("version", ["", "2023-01-01", "latest", "2025-10-02", "x" * 5000])
def test_an_unknown_api_version_is_a_400_that_lists_the_known(shared: Endpoint, version: str) -> None:
    reply = shared.send("POST", "executions", version=version, json={"code": "1"})

    assert (reply.status_code, error_of(reply)["code"]) == (400, "InvalidApiVersion")
    assert "2025-10-02-preview" in error_of(reply)["message"]


def test_an_api_version_is_required(shared: Endpoint) -> None:
    target = f"{urlsplit(shared.url).path}/executions?identifier={shared.identifier}"
    status, headers, _ = shared.raw("POST", target, b'{"code": "1"}')

    assert (status, headers["x-ms-error-code"]) == (400, "InvalidApiVersion")


@pytest.mark.parametrize(
    ("identifier", "code"),
    [
        ("", "InvalidLengthOfSessionIdentifier"),
        ("abc", "InvalidLengthOfSessionIdentifier"),
        ("x" * 129, "InvalidLengthOfSessionIdentifier"),
        ("tab\tinside", "SessionRequestValidationFailed"),
        ("null\0inside", "SessionRequestValidationFailed"),
        ("grüße", "SessionRequestValidationFailed"),
    ],
)
def test_an_identifier_out_of_bounds_is_a_400(shared: Endpoint, identifier: str, code: str) -> None:
    reply = shared.send("POST", "executions", query={"identifier": identifier}, json={"code": "1"})

    assert (reply.status_code, error_of(reply)["code"]) == (400, code)


def test_an_identifier_is_required_and_said_once(shared: Endpoint) -> None:
    base = f"{urlsplit(shared.url).path}/executions?api-version=2025-10-02-preview"
    for target in (base, f"{base}&identifier=one-session&identifier=another-one"):
        assert shared.raw("POST", target, b'{"code": "1"}')[0] == 400


@pytest.mark.parametrize(
    ("part", "replaced"), [("python", "pythom"), ("default", "other"), ("0000-0000-0000", "0000-0000-0001")]
)
def test_another_pool_group_or_subscription_is_not_found(shared: Endpoint, part: str, replaced: str) -> None:
    """A pool of another group is another pool."""
    target = shared.target("executions").replace(part, replaced, 1)
    status, headers, body = shared.raw("POST", target, b'{"code": "1"}')

    assert (status, headers["x-ms-error-code"]) == (404, "SessionPoolNotFound"), body


@pytest.mark.parametrize("target", ["/", "/etc/passwd", "/../../etc/passwd", "//", "/%2e%2e/x", "*"])
def test_other_paths_are_nothing(shared: Endpoint, target: str) -> None:
    status, _, body = shared.raw("GET", target)

    assert status in (400, 404)
    assert b"root:" not in body


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"GET\r\n\r\n", b"G" * 100_000, b"GET / HTTP/9.9\r\n\r\n"]
)
def test_garbage_is_answered_or_dropped(shared: Endpoint, garbage: bytes) -> None:
    """What is not HTTP gets a 400 or a closed connection, and the server goes on."""
    with shared.connect() as caller:
        caller.settimeout(5)
        caller.sendall(garbage)
        answer = caller.recv(65536)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
    assert shared.result("1 + 1") == 2


def test_headers_have_a_limit(shared: Endpoint) -> None:
    with shared.connect() as caller:
        caller.settimeout(5)
        try:
            for _ in range(64):
                caller.sendall(b"GET / HTTP/1.1\r\n" + b"X-Filler: " + b"x" * 8192 + b"\r\n")
            answer = caller.recv(65536)
        except ConnectionError:
            answer = b""

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


def test_trailers_have_a_limit(shared: Endpoint) -> None:
    """Headers behind a body, which need no token to send: kept, they were twenty times their size."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    with shared.connect() as caller, pytest.raises(ConnectionError):
        caller.settimeout(5)
        caller.sendall(head)
        for _ in range(16):  # megabytes: more than the sockets between hold
            caller.sendall(b"a: b\r\n" * 175_000)


# ---- who may ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer(server: Server) -> State:
    """The server's own keys: the tests run as a user who may read them."""
    return State(server.state)


def status_with(endpoint: Endpoint, authorization: str | None) -> tuple[int, dict[str, str]]:
    headers = {} if authorization is None else {"Authorization": authorization}
    reply = endpoint.http.post(
        f"{endpoint.url}/executions", params=endpoint.query(), headers=headers, json={"code": "1"}
    )
    if not reply.is_success:
        error_of(reply)
    return reply.status_code, dict(reply.headers)


@pytest.mark.parametrize("audience", [*AUDIENCES, AUDIENCES[0] + "/"])
def test_tokens_for_either_audience_are_good(shared: Endpoint, issuer: State, audience: str) -> None:
    assert status_with(shared, f"Bearer {issuer.issue_token(audience)}")[0] == 200


def test_no_token_is_a_401_that_says_what_to_send(shared: Endpoint) -> None:
    status, headers = status_with(shared, None)

    assert (status, headers["x-ms-error-code"]) == (401, "Unauthorized")
    assert headers["www-authenticate"].startswith("Bearer")


def test_tokens_that_are_not_ours_are_401s(shared: Endpoint, issuer: State) -> None:
    """Garbage, another scheme, another audience, expired, not signed, signed by another key, or with another algorithm."""
    good = issuer.issue_token()
    head, claims, signature = good.split(".")
    decoded = jwt.decode(good, options={"verify_signature": False})

    def part(fields: dict[str, str]) -> str:
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=").decode()

    public = issuer.public_key.public_numbers().n.to_bytes(256, "big")
    bad = {
        "empty": "Bearer",
        "garbage": "Bearer x.y.z",
        "another scheme": f"Basic {good}",
        "no scheme": good,
        "another audience": f"Bearer {issuer.issue_token('https://management.azure.com')}",
        "expired": f"Bearer {issuer.issue_token(now=time.time() - 7200, ttl_s=3600)}",
        "not yet": f"Bearer {issuer.issue_token(now=time.time() + 7200)}",
        "not signed": f"Bearer {part({'alg': 'none', 'typ': 'JWT'})}.{claims}.",
        "signature cut": f"Bearer {head}.{claims}.",
        "signature changed": f"Bearer {head}.{claims}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "claims changed": f"Bearer {head}.{part({**decoded, 'sub': 'root'})}.{signature}",
        "public key as secret": f"Bearer {jwt.encode(decoded, public, algorithm='HS256')}",
        "too long": f"Bearer {'x' * 20_000}",
    }

    for name, authorization in bad.items():
        status, headers = status_with(shared, authorization)
        assert (status, "www-authenticate" in headers) == (401, True), name


def test_a_token_without_the_role_is_a_403(shared: Endpoint, issuer: State) -> None:
    """No role, another role, or the role for another pool."""
    for token in (
        issuer.issue_token(roles=()),
        issuer.issue_token(roles=("Reader",)),
        issuer.issue_token(pools=("other",)),
    ):
        status, headers = status_with(shared, f"Bearer {token}")
        assert (status, headers["x-ms-error-code"]) == (403, "Forbidden")
    assert status_with(shared, f"Bearer {issuer.issue_token(pools=('PYTHON',))}")[0] == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "code/execute"),
        ("GET", "executions/x"),
        ("GET", "files"),
        ("POST", "files"),
        ("GET", "files/a.txt/content"),
        ("DELETE", "files/a.txt"),
        ("GET", "session"),
        ("DELETE", "session"),
        ("GET", "listSessions"),
        ("GET", "metadata"),
        ("GET", "nothing/here"),
    ],
)
def test_every_route_asks_for_a_token(shared: Endpoint, method: str, path: str) -> None:
    """401 before anything else, also where there is nothing."""
    reply = shared.http.request(method, f"{shared.url}/{path}", params=shared.query())

    assert (reply.status_code, error_of(reply)["code"]) == (401, "Unauthorized")


def test_the_managed_identity_endpoint_wants_its_header(shared: Endpoint) -> None:
    """A token for whoever knows IDENTITY_HEADER, on this machine, not through a proxy."""
    connection = shared.server.connection
    url, secret = connection["identity_endpoint"], connection["identity_header"]
    query = {"resource": AUDIENCES[0], "api-version": "2019-08-01"}
    given = {"X-IDENTITY-HEADER": secret}

    reply = shared.http.get(url, params=query, headers=given)
    assert status_with(shared, f"Bearer {reply.json()['access_token']}")[0] == 200
    assert shared.http.get(url, params=query).status_code == 401
    assert shared.http.get(url, params=query, headers={"X-IDENTITY-HEADER": secret[:-1]}).status_code == 401
    assert shared.http.get(url, params=query, headers={**given, "X-Forwarded-For": "10.0.0.1"}).status_code == 403
    assert shared.http.get(url, params={"resource": "https://vault.azure.net"}, headers=given).status_code == 400


def test_health_needs_no_token(shared: Endpoint) -> None:
    reply = shared.http.get(f"{shared.server.connection['http']}/health")

    assert (reply.status_code, reply.json()) == (200, {"message": "healthy"})


def test_errors_are_found_by_their_trace(shared: Endpoint) -> None:
    """Each has an id of its own, in body and header."""
    replies = [shared.send("GET", "files/missing.txt") for _ in range(2)]

    traces = [error_of(reply)["traceId"] for reply in replies]
    assert traces[0] != traces[1]
    assert [reply.headers["x-ms-request-id"] for reply in replies] == traces
