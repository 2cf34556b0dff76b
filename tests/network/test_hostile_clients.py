"""Sessions that attack the proxy, or the machine through it: what a broken, slow, huge or forged request gets."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from carrel.client import Client
from conftest import Server
from listed import Session
from processes import command, descendants, eventually

pytestmark = pytest.mark.one_level


def egress_pid(server: Server) -> int:
    return next(pid for pid in descendants(server.process.pid) if "-m carrel.egress" in command(pid))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("127.0.0.2:443", "this machine itself"),
        ("10.0.0.1:443", "a private range"),
        ("169.254.169.254:80", "metadata"),
        ("168.63.129.16:80", "metadata"),
        ("100.64.0.1:443", "carrier"),
        ("0.0.0.0:443", "this machine itself"),
        ("224.0.0.1:443", "multicast"),
        ("[::1]:443", "this machine itself"),
        ("[::ffff:127.0.0.1]:443", "this machine itself"),
        ("[::ffff:10.0.0.1]:443", "IPv6 spelling"),
        ("[64:ff9b::a9fe:a9fe]:80", "IPv6 spelling"),
        ("[2002:7f00:1::]:443", "6to4"),
        ("[fd00:ec2::254]:80", "metadata"),
        ("[fe80::1]:443", "link-local"),
    ],
)
def test_special_addresses_are_refused_in_every_spelling(visitor: Session, target: str, reason: str) -> None:
    """Although this pool's list has a rule for every address there is."""
    answer = visitor.value(f"connect({target!r})")
    assert answer.startswith("HTTP/1.1 403 carrel: ")
    assert reason in answer


def test_addresses_of_this_machine_are_refused(visitor: Session) -> None:
    """Whatever they look like: the host's services trust what comes from the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        own = probe.getsockname()[0]

    assert "this machine itself" in visitor.value(f"connect('{own}:22')")


def test_a_redirect_to_what_is_not_listed_is_refused(visitor: Session, site: int) -> None:
    """A redirect is another request, and held to the list like the first."""
    assert visitor.value(f"fetch('http://localhost:{site}/to/localhost:{site}')") == f"/ at localhost:{site}"
    told = visitor.value(f"fetch('http://localhost:{site}/to/elsewhere.example')")
    assert told.startswith("403 carrel: elsewhere.example:80 is refused")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),  # not to a proxy
        ("GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET ftp://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET http://user:password@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("CONNECT localhost HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("CONNECT 2130706433:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),  # TLS to the proxy itself
        ("GET http://localhost/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET http://localhost/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("GET http://localhost/ HTTP/1.1\r\nHost: a\r\nX: " + "x" * 40_000, 431),
        ("GET http://localhost/" + "x" * 40_000, 431),
        ("GET http://localhost/ HTTP/1.1\r\nHost: a\r\n" + "X: y\r\n" * 10_000, 431),
    ],
)
def test_a_request_that_is_none_is_answered_and_closed(visitor: Session, head: str, status: int) -> None:
    code = f"try:\n    answer = ask({head!r})\nexcept ConnectionResetError:\n    answer = 'reset'\nanswer"
    answer = visitor.value(code)
    assert (answer == "reset" and len(head) > 32_768) or answer.startswith(f"HTTP/1.1 {status} carrel: "), answer[:200]


def test_host_is_what_was_checked_and_nothing_is_smuggled(visitor: Session, site: int) -> None:
    """The server sees the request that the proxy understood: its own Host, no second request behind it, no hop-by-hop header."""
    forged = f"GET http://localhost:{site}/a HTTP/1.1\\r\\nHost: metadata.internal\\r\\n\\r\\n"
    behind = f"GET http://localhost:{site}/behind HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"

    answer = visitor.value(f"ask('{forged}{behind}')")

    assert f"/a at localhost:{site}" in answer
    assert "behind" not in answer
    assert answer.count("HTTP/1.1 ") == 1


def test_bodies_pass_both_ways(visitor: Session, site: int) -> None:
    """With a length, in chunks, with an expectation; megabytes through a tunnel."""
    assert visitor.value(f"fetch('http://localhost:{site}/', b'x' * 3_000_000)") == f"got 3000000: {'x' * 20}"
    head = f"POST http://localhost:{site}/ HTTP/1.1\\r\\nHost: a\\r\\nTransfer-Encoding: chunked\\r\\nExpect: 100-continue\\r\\n\\r\\n"
    answer = visitor.value(f"ask('{head}5\\r\\nhello\\r\\n0\\r\\n\\r\\n')")
    assert answer.startswith("HTTP/1.1 100 ")
    assert answer.endswith("got 5: hello")


@pytest.mark.thorough
def test_a_hundred_connections_at_once(visitor: Session, site: int) -> None:
    """Each gets its own answer; a session's limit is beyond them, and one over the limit is told so."""
    code = f"""
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(100) as pool:
    answers = list(pool.map(lambda n: fetch(f"http://localhost:{site}/{{n}}"), range(100)))
[answer for n, answer in enumerate(answers) if answer != f"/{{n}} at localhost:{site}"]
"""
    assert visitor.value(code) == []
    many = "held = [socket.create_connection(PROXY, 20) for _ in range(256)]; time.sleep(1); ask('')[:80]"
    assert visitor.value(many).startswith("HTTP/1.1 503 carrel: this session has 256 connections open")
    assert (
        visitor.value(f"[each.close() for each in held]; time.sleep(1); fetch('http://localhost:{site}/after')")
        == f"/after at localhost:{site}"
    )


@pytest.mark.slow
@pytest.mark.thorough
def test_a_slow_client_is_ended_and_keeps_nobody_waiting(visitor: Session, site: int, listed: Server) -> None:
    """A head that comes byte by byte has fifteen seconds in all; meanwhile the session's and others' connections are served."""
    code = """
def drip():
    global dripped
    sock = socket.create_connection(PROXY, 60)
    began, data = time.monotonic(), b""
    try:
        for _ in range(60):
            sock.sendall(b"x")
            sock.settimeout(0.5)
            try:
                data = sock.recv(1000)
                break
            except TimeoutError:
                pass
    except OSError:
        pass
    dripped = (data.decode(), time.monotonic() - began)
threads = [threading.Thread(target=drip) for _ in range(20)]
[thread.start() for thread in threads]
None
"""
    visitor.value(code)
    with listed.client() as other:
        assert Session(other).value(f"fetch('http://localhost:{site}/other')") == f"/other at localhost:{site}"
        other.end()
    assert visitor.value(f"fetch('http://localhost:{site}/own')") == f"/own at localhost:{site}"

    said, after = visitor.value("[thread.join() for thread in threads]; list(dripped)")
    assert said.startswith("HTTP/1.1 408 carrel: no whole request came within 15 s")
    assert after < 25


@pytest.fixture
def echo(request: pytest.FixtureRequest) -> Iterator[int]:
    """A server that answers only once it has read to the end, on the site's port's neighbour; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    data = b""
                    while piece := connection.recv(65_536):
                        data += piece
                    connection.sendall(b"all of %d" % len(data))

        threading.Thread(target=serve, daemon=True).start()
        operator: Callable[[], Client] = request.getfixturevalue("operator")
        with operator() as client:
            before = client.egress().allow or []
            client.set_egress([*before, f"127.0.0.1:{listener.getsockname()[1]}"])
            yield listener.getsockname()[1]
            client.set_egress(before)
        listener.shutdown(socket.SHUT_RDWR)


def test_a_half_closed_tunnel_still_answers(visitor: Session, echo: int) -> None:
    """Who has said all it had to say may still be listening."""
    code = f"""
sock, _ = tunnel("127.0.0.1:{echo}")
sock.sendall(bytes(100_000))
sock.shutdown(socket.SHUT_WR)
read_all(sock)
"""
    assert visitor.value(code) == "all of 100000"


def test_ending_a_session_ends_its_connections(listed: Server, echo: int) -> None:
    """Nothing of a session's network is held by the process that served it."""
    pid = egress_pid(listed)
    before = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    with listed.client() as client:
        Session(client).value(f"held = [tunnel('127.0.0.1:{echo}') for _ in range(50)]; len(held)")
        assert len(list(Path(f"/proc/{pid}/fd").iterdir())) >= before + 100
        client.end()

    assert eventually(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) <= before + 2)


@pytest.mark.thorough
def test_the_process_has_no_rights_and_is_replaced_when_it_dies(listed: Server, visitor: Session, site: int) -> None:
    """An id of its own as root, no capability in any set; sessions that lived when it was killed are served by the next one."""
    pid = egress_pid(listed)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    uids = set(status["Uid"].split())
    assert len(uids) == 1
    assert "0" not in uids

    os.kill(pid, signal.SIGKILL)

    assert eventually(lambda: "carrel.egress" not in command(pid), 10)
    time.sleep(3)
    assert visitor.value(f"fetch('http://localhost:{site}/again')") == f"/again at localhost:{site}"
    assert egress_pid(listed) != pid
