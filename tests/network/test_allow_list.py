"""Pools with an egress list: what it names is reached through the proxy, and nothing else by any way."""

from __future__ import annotations

import pytest

from listed import Session

pytestmark = pytest.mark.one_level


def test_a_listed_host_is_reached(visitor: Session, site: int) -> None:
    """By name and by address, as a whole http:// address and through a tunnel."""
    assert visitor.value(f"fetch('http://localhost:{site}/a?b=1')") == f"/a?b=1 at localhost:{site}"
    assert visitor.value(f"fetch('http://127.0.0.1:{site}/')") == f"/ at 127.0.0.1:{site}"
    assert visitor.value(f"connect('127.0.0.1:{site}')") == "HTTP/1.1 200 Connection established"


def test_what_is_not_listed_is_refused_in_words(visitor: Session) -> None:
    """The code reads why, in the body and in the reason phrase, which is all that most libraries show of a refused tunnel."""
    told = visitor.value("ask('GET http://elsewhere.example/ HTTP/1.1\\r\\nHost: elsewhere.example\\r\\n\\r\\n')")

    assert told.startswith(
        "HTTP/1.1 403 carrel: elsewhere.example:80 is refused: it is not on the pool's egress list\r\n"
    )
    assert told.count("elsewhere.example:80 is refused") == 2
    assert "403 carrel: elsewhere.example:443 is refused" in visitor.value("connect('elsewhere.example:443')")


def test_there_is_no_way_around_the_proxy(visitor: Session, site: int) -> None:
    """No route, no name service, no UDP; what listens on the host's loopback is not on the sandbox's."""
    assert visitor.value(f"refused(socket.create_connection, ('127.0.0.1', {site}), 5)") == "ECONNREFUSED"
    assert visitor.value("refused(socket.create_connection, ('198.51.100.7', 443), 5)") == "ENETUNREACH"
    assert visitor.value("refused(socket.create_connection, ('2001:db8::7', 443), 5)") in (
        "ENETUNREACH",
        "EADDRNOTAVAIL",
    )
    udp = "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)"
    assert visitor.value(f"refused({udp}.sendto, b'x', ('198.51.100.7', 53))") == "ENETUNREACH"
    assert "gaierror" in visitor.client.execute("socket.getaddrinfo('localhost.example', 80)").stderr
