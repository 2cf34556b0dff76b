"""Pools with an egress list: what it names is reached through the proxy, and nothing else by any way."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from carrel.client import Client
from conftest import Server, SlimServer

pytestmark = pytest.mark.one_level

# There in every session here. `ask` says what the proxy answers to a raw request; `fetch` goes through it as libraries do.
TOOLS = """
import errno, os, socket, ssl, urllib.error, urllib.request
PROXY = ("127.0.0.1", 3128)
del os.environ["NO_PROXY"], os.environ["no_proxy"]  # they name the sandbox's own loopback; the tests' sites are on the host's
def ask(head, timeout=20):
    with socket.create_connection(PROXY, timeout) as sock:
        sock.sendall(head if isinstance(head, bytes) else head.encode())
        answer = b""
        while data := sock.recv(65536):
            answer += data
        return answer.decode("latin-1")
def connect(target):
    with socket.create_connection(PROXY, 20) as sock:
        sock.sendall(f"CONNECT {target} HTTP/1.1\\r\\nHost: {target}\\r\\n\\r\\n".encode())
        return sock.recv(65536).decode("latin-1").splitlines()[0]
def fetch(url):
    try:
        return urllib.request.urlopen(url, timeout=20).read().decode()
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.reason}"
def refused(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""
"""


class _Pages(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", f"http://{self.path.removeprefix('/to/')}/")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"{self.path} at {self.headers['Host']}".encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"got " + body)

    def log_message(self, *_parts: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def site() -> Iterator[int]:
    """A web site on the host's loopback, which sessions may reach only by an operator's carve-out; its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def listed(slim_server: SlimServer, site: int) -> Iterator[Server]:
    config = f"""
        egress-allow-private = ["127.0.0.1"]
        [pools.python]
        scaleConfiguration = {{maxConcurrentSessions = 10, readySessionInstances = 1}}
        sessionNetworkConfiguration.status = "EgressEnabled"
        [pools.python.carrel]
        image = "python-slim"
        memory = "256MiB"
        disk = "64MiB"
        tmp = "16MiB"
        egress.allow = ["localhost:{site}", "127.0.0.1:{site}", "0.0.0.0/0", "::/0"]
    """
    with slim_server(config=config) as server:
        yield server


@pytest.fixture
def session(listed: Server) -> Iterator[Client]:
    with listed.client() as client:
        assert client.execute(TOOLS).is_ok
        yield client
        client.end()


def value(session: Client, expression: str) -> Any:
    answer = session.execute(expression)
    assert answer.is_ok, answer.stderr
    return answer.result


def test_a_listed_host_is_reached(session: Client, site: int) -> None:
    """By name and by address, as a whole http:// address and through a tunnel."""
    assert value(session, f"fetch('http://localhost:{site}/a?b=1')") == f"/a?b=1 at localhost:{site}"
    assert value(session, f"fetch('http://127.0.0.1:{site}/')") == f"/ at 127.0.0.1:{site}"
    assert value(session, f"connect('127.0.0.1:{site}')") == "HTTP/1.1 200 Connection established"


def test_what_is_not_listed_is_refused_in_words(session: Client) -> None:
    """The code reads why, in the body and in the reason phrase, which is all that most libraries show of a refused tunnel."""
    told = value(session, "ask('GET http://elsewhere.example/ HTTP/1.1\\r\\nHost: elsewhere.example\\r\\n\\r\\n')")

    assert told.startswith(
        "HTTP/1.1 403 carrel: elsewhere.example:80 is refused: it is not on the pool's egress list\r\n"
    )
    assert told.count("elsewhere.example:80 is refused") == 2
    assert "403 carrel: elsewhere.example:443 is refused" in value(session, "connect('elsewhere.example:443')")


def test_there_is_no_way_around_the_proxy(session: Client, site: int) -> None:
    """No route, no name service, no UDP; what listens on the host's loopback is not on the sandbox's."""
    assert value(session, f"refused(socket.create_connection, ('127.0.0.1', {site}), 5)") == "ECONNREFUSED"
    assert value(session, "refused(socket.create_connection, ('198.51.100.7', 443), 5)") == "ENETUNREACH"
    assert value(session, "refused(socket.create_connection, ('2001:db8::7', 443), 5)") in (
        "ENETUNREACH",
        "EADDRNOTAVAIL",
    )
    udp = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    assert value(session, f"refused({udp}.sendto, b'x', ('198.51.100.7', 53))") == "ENETUNREACH"
    assert "gaierror" in session.execute("socket.getaddrinfo('localhost.example', 80)").stderr
