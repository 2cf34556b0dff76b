"""A server that has no more than Azure: a relay in front of a real Carrel that knows Azure's routes of an api-version and nothing beyond.

What Azure passes over is taken out of requests (events, conditions, variables), what it does not tell out of replies. `beyond` has what a
client sent that Azure does not know.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from conftest import Server

OLD, NEW = "2024-10-02-preview", "2025-10-02-preview"
VERSIONS = (OLD, "2025-02-02-preview", NEW)
# The endpoint matrix of Azure's specifications: what each api-version has.
_ALWAYS = r"POST (executions|files)|GET (executions/[^/]+|files|files/[^/]+|files/[^/]+/content)|DELETE files/[^/]+"
_SINCE_2025 = rf"{_ALWAYS}|GET (session|listSessions|metadata)|DELETE session"
_ROUTES = {version: re.compile(_ALWAYS if version == OLD else _SINCE_2025) for version in VERSIONS}
_QUERY = {"api-version", "identifier", "path", "recursive", "skip"}
_BODY = {
    "codeInputType",
    "executionType",
    "code",
    "timeoutInSeconds",
    "outputStreamsMaxLength",
    "shellCommand",
    "execCommandAndArgs",
    "shellType",
}
_TOLD = {"stdout", "stderr", "executionResult", "executionTimeInMilliseconds"}  # of a result
_HOP = {"connection", "content-length", "host", "transfer-encoding", "etag"}
_PASSED_OVER = {"accept", "if-match", "if-none-match", "last-event-id"}


@dataclass
class Azure:
    """`endpoint` is the pool's, by way of the relay."""

    endpoint: str
    token: str
    beyond: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def azure(server: Server) -> Iterator[Azure]:
    told = urlsplit(server.endpoint)
    origin = f"{told.scheme}://{told.netloc}"

    class Relay(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            where, query = self.path.partition("?")[0], parse_qs(self.path.partition("?")[2])
            version = query.get("api-version", [""])[0]
            line = f"{self.command} {where.removeprefix(told.path + '/')}"
            if version not in _ROUTES or not _ROUTES[version].fullmatch(line):
                return self.answer(404, {}, b"")
            met.beyond += [f"query {name}" for name in query.keys() - _QUERY]
            headers = {name: text for name, text in self.headers.items() if name.lower() not in _HOP | _PASSED_OVER}
            reply = httpx.request(
                self.command,
                f"{origin}{self.path}",
                headers=headers,
                content=self.known(body),
                timeout=60,
                trust_env=False,
            )
            content = reply.content
            if "json" in reply.headers.get("Content-Type", ""):
                content = json.dumps(without(reply.json())).encode()
            return self.answer(reply.status_code, dict(reply.headers.items()), content)

        def known(self, body: bytes) -> bytes:
            if "json" not in self.headers.get("Content-Type", ""):
                return body
            fields = json.loads(body)
            met.beyond += [f"field {name}" for name in fields.keys() - _BODY]
            return json.dumps({name: value for name, value in fields.items() if name in _BODY}).encode()

        def answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, text in headers.items():
                if name.lower() not in _HOP:
                    self.send_header(name, text)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_DELETE = relay

        def log_message(self, *_: Any) -> None:
            pass

    relay = ThreadingHTTPServer(("127.0.0.1", 0), Relay)
    met = Azure(f"http://127.0.0.1:{relay.server_port}{told.path}", str(server.connection["token"]))
    thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield met
    relay.shutdown()
    relay.server_close()
    thread.join()


def without(body: Any) -> Any:
    """A reply without what Azure does not tell."""
    if isinstance(body, dict):
        body.pop("carrel", None)
        if isinstance(result := body.get("result"), dict) and "executionTimeInMilliseconds" in result:
            body["result"] = {name: value for name, value in result.items() if name in _TOLD}
    return body
