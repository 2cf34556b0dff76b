"""What the tests of egress lists share: a web site on the host, a server whose pool may reach it, sessions with tools."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from carrel.client import Client
from carrel.storage import POOL_CONTRIBUTOR
from conftest import Server, SlimServer
from fortress import REFUSED

# There in every session here. `ask` says what the proxy answers to a raw request, `connect` the first line of what it answers to CONNECT;
# `fetch` goes through it as libraries do.
TOOLS = (
    REFUSED
    + """
import errno, os, socket, threading, time, urllib.error, urllib.request
PROXY = ("127.0.0.1", 3128)
del os.environ["NO_PROXY"], os.environ["no_proxy"]  # they name the sandbox's own loopback; the tests' sites are on the host's
def read_all(sock):
    answer = b""
    while data := sock.recv(65536):
        answer += data
    return answer.decode("latin-1")
def ask(head, timeout=20):
    with socket.create_connection(PROXY, timeout) as sock:
        sock.sendall(head.encode("latin-1"))
        return read_all(sock)
def tunnel(target):
    sock = socket.create_connection(PROXY, 20)
    sock.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
    return sock, sock.recv(65536).decode("latin-1").splitlines()[0]
def connect(target):
    sock, answer = tunnel(target)
    sock.close()
    return answer
def fetch(url, data=None):
    try:
        return urllib.request.urlopen(url, data, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.reason}"
"""
)

POOL = """
    [pools.python]
    scaleConfiguration = {{maxConcurrentSessions = 10, readySessionInstances = 1}}
    sessionNetworkConfiguration.status = "EgressEnabled"
    [pools.python.carrel]
    image = "python-slim"
    memory = "256MiB"
    disk = "64MiB"
    tmp = "16MiB"
    egress.allow = {allow}
"""


class _Pages(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self._answer(302, b"", {"Location": f"http://{self.path.removeprefix('/to/')}/"})
        else:
            self._answer(200, f"{self.path} at {self.headers['Host']}".encode())

    def do_POST(self) -> None:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(200, b"got %d: %s" % (len(body), body[:20]))

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_parts: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="session")
def site() -> Iterator[int]:
    """A web site on the host's loopback, which sessions may reach only by an operator's carve-out; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="session")
def listed(slim_server: SlimServer, site: int) -> Iterator[Server]:
    """Its sessions may ask for the site, for every address there is, and for nothing by name but localhost."""
    allow = [f"localhost:{site}", f"127.0.0.1:{site}", "0.0.0.0/0:*", "[::/0]:*"]
    config = 'egress-allow-private = ["127.0.0.1"]\n' + POOL.format(allow=allow)
    with slim_server(config=config) as server:
        yield server


class Session:
    """A session of `listed` with TOOLS in it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.value(TOOLS)

    def value(self, code: str, timeout: int = 60) -> Any:
        answer = self.client.execute(code, timeout=timeout)
        assert answer.is_ok, answer.stderr
        return answer.result


@pytest.fixture
def visitor(listed: Server) -> Iterator[Session]:
    with listed.client() as client:
        yield Session(client)
        client.end()


@pytest.fixture
def operator(listed: Server) -> Callable[[], Client]:
    """A client that may change the pool."""
    token = carrel(listed, "token", "--role", POOL_CONTRIBUTOR).stdout.strip()
    return lambda: Client(listed.endpoint, token)


def carrel(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of ours by the user that runs the server, whose state folder nobody else may read."""
    owner = server.state.stat()
    command = [sys.executable, "-P", "-m", "carrel.cli", *words, "--state", str(server.state)]
    account: dict[str, Any] = {}
    if owner.st_uid != os.geteuid():
        account = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    return subprocess.run(command, capture_output=True, text=True, check=False, **account)
