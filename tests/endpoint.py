"""A pool's endpoint as a client sees it that is not ours: plain HTTP, every spelling of the wire at hand.

`endpoint` has a session of its own per test; `shared` one per module, for what leaves no trace in it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
import pytest

from conftest import Server, fresh_identifier

ROOT = Path(__file__).parent.parent
V24_02, V24_08, V24_10 = "2024-02-02-preview", "2024-08-02-preview", "2024-10-02-preview"
V25_02, V25_10 = "2025-02-02-preview", "2025-10-02-preview"
VERSIONS = (V24_02, V24_08, V24_10, V25_02, V25_10)
OLD_FILES, NEW_FILES = (V24_02, V24_08), (V24_10, V25_02, V25_10)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`url` is the pool's; `identifier` the session that calls name unless told otherwise."""

    server: Server
    identifier: str
    http: httpx.Client
    pool: str = ""  # the server's own by default
    url: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", self.server.endpoint_of(self.pool or self.server.pool))

    @property
    def token(self) -> str:
        return str(self.server.connection["token"])

    def query(self, version: str = V25_10, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"api-version": version, "identifier": self.identifier, **(more or {})}

    def send(self, method: str, path: str, *, version: str = V25_10, **options: Any) -> httpx.Response:
        """One request below the endpoint. `query` adds to the usual parameters; the rest are httpx's."""
        query = self.query(version, options.pop("query", None))
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self.http.request(method, f"{self.url}/{path}", params=query, headers=headers, **options)

    def run(self, code: str, **fields: Any) -> dict[str, Any]:
        """`POST executions` of `code`; the reply's body. `headers` and `version` are not part of the request's body.

        Where the server under test has another runtime's pool, it is Python all the same, by a process beside the guest.
        """
        if self.server.pool != "python":
            return self._run_beside(code, int(fields.pop("timeoutInSeconds", 60)))
        headers, version = fields.pop("headers", {}), fields.pop("version", V25_10)
        reply = self.send("POST", "executions", version=version, headers=headers, json={"code": code, **fields})
        assert reply.is_success, reply.text
        return dict(reply.json())

    def _run_beside(self, code: str, timeout: int) -> dict[str, Any]:
        with self.server.client(self.identifier) as client:
            told = client.execute(code, timeout=timeout)
        result = {"stdout": told.stdout, "stderr": told.stderr, "executionResult": told.result}
        return {"status": told.status, "result": result}

    def result(self, code: str, **fields: Any) -> Any:
        """The value of code that has to succeed."""
        body = self.run(code, **fields)
        assert body["status"] == "Succeeded", body["result"]["stderr"]
        return body["result"]["executionResult"]

    def old(self, code: str, **fields: Any) -> dict[str, Any]:
        """`POST code/execute`; the reply's `properties`."""
        reply = self.send("POST", "code/execute", version=V24_02, json={"properties": {"code": code, **fields}})
        assert reply.status_code == 200, reply.text
        return dict(reply.json()["properties"])

    def upload(self, name: str, content: bytes, *, version: str = V25_10, path: str | None = None) -> httpx.Response:
        where = "files" if version in NEW_FILES else "files/upload"
        query = {} if path is None else {"path": path}
        return self.send("POST", where, version=version, query=query, files={"file": (name, content)})

    def raw(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """A request whose target goes out as it is, with no header but Host, the token and those given."""
        address = urlsplit(self.url)
        connection = HTTPConnection(address.hostname or "", address.port, timeout=30)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in {"Authorization": f"Bearer {self.token}", **(headers or {})}.items():
                connection.putheader(name, value)
            if body is not None and "Transfer-Encoding" not in (headers or {}):
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            reply = connection.getresponse()
            return reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
        finally:
            connection.close()

    def target(self, path: str, version: str = V25_10, more: Mapping[str, str] | None = None) -> str:
        """For `raw`: the path below the endpoint and the usual query."""
        return f"{urlsplit(self.url).path}/{path}?{urlencode(self.query(version, more))}"

    def connect(self) -> socket.socket:
        """A plain connection, for requests that are broken on purpose."""
        address = urlsplit(self.url)
        return socket.create_connection((address.hostname or "", address.port or 80), 30)

    def head(self, method: str, target: str, **headers: object) -> bytes:
        """A request's head for `connect`; underscores in header names are hyphens."""
        lines = [
            f"{method} {target} HTTP/1.1",
            f"Host: {urlsplit(self.url).netloc}",
            f"Authorization: Bearer {self.token}",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()

    def end(self) -> None:
        assert self.send("DELETE", "session").status_code in (204, 404)


def _endpoint(server: Server) -> Iterator[Endpoint]:
    with httpx.Client(timeout=60.0, trust_env=False) as http:
        endpoint = Endpoint(server, fresh_identifier(), http)
        yield endpoint
        endpoint.end()


@pytest.fixture
def endpoint(server: Server) -> Iterator[Endpoint]:
    """With a session of this test's own."""
    yield from _endpoint(server)


@pytest.fixture(scope="module")
def shared(server: Server) -> Iterator[Endpoint]:
    """With one session for all tests of a module, which leave its variables and files alone."""
    yield from _endpoint(server)


def error_of(reply: httpx.Response) -> dict[str, Any]:
    """The body of an error, which every error has: a code that the header repeats, a message, a trace, and nothing of our insides."""
    body = reply.json()
    error = body["error"]
    assert reply.headers["x-ms-error-code"] == error["code"]
    assert error["message"]
    assert error["traceId"]
    for inside in ("Traceback", str(ROOT), "site-packages", "carrel/", 'File \\"'):
        assert inside not in reply.text
    return dict(error)
