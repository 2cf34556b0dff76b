"""An operator looks at a pool's list, asks what it does and changes it while sessions live."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest

from carrel.client import ApiError, Client
from conftest import Server, SlimServer
from listed import Session, carrel

pytestmark = pytest.mark.one_level

Operator = Callable[[], Client]


@pytest.fixture(autouse=True)
def list_is_put_back(request: pytest.FixtureRequest) -> Iterator[None]:
    with request.getfixturevalue("operator")() as client:
        before = client.egress().allow
        yield
        client.set_egress(before or [])


def egress(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    """`carrel sessionpool egress …`."""
    return carrel(server, "sessionpool", "egress", *words)


def test_a_change_holds_for_live_sessions_at_once(visitor: Session, operator: Operator, site: int) -> None:
    """What was allowed is refused and what was refused is allowed, with the variables of the session kept."""
    assert visitor.value(f"kept = 1; connect('127.0.0.1:{site}')") == "HTTP/1.1 200 Connection established"

    with operator() as client:
        assert client.set_egress(["elsewhere.example"]).allow == ["elsewhere.example"]
        assert "403" in visitor.value(f"connect('127.0.0.1:{site}')")
        client.set_egress([f"127.0.0.1:{site}"])
        assert "200" in visitor.value(f"connect('127.0.0.1:{site}')")
        client.set_egress([])
        assert "403" in visitor.value(f"connect('127.0.0.1:{site}')"), "an empty list allows nothing"
    assert visitor.value("kept") == 1


def test_a_change_ends_connections_that_it_no_longer_allows(visitor: Session, operator: Operator, site: int) -> None:
    """A tunnel that stands is held to the list like a new one; one that is still allowed goes on."""
    visitor.value(f"(cut, _), (kept, _) = tunnel('127.0.0.1:{site}'), tunnel('localhost:{site}'); cut.settimeout(10)")

    with operator() as client:
        client.set_egress([f"localhost:{site}"])

    closed = "try:\n    end = cut.recv(1)\nexcept ConnectionResetError:\n    end = b''\nend == b''"
    assert visitor.value(closed) is True
    assert visitor.value("kept.sendall(b'GET /kept HTTP/1.0\\r\\n\\r\\n'); '/kept' in read_all(kept)") is True


def test_a_list_that_is_none_changes_nothing(operator: Operator) -> None:
    """Refused with the rule and the reason; the list that there was stays in force."""
    with operator() as client:
        before = client.egress().allow
        with pytest.raises(ApiError, match=r"'bad host' is not a rule: not a host name"):
            client.set_egress(["pypi.org", "bad host"])
        assert client.egress().allow == before


def test_whoever_may_run_code_may_not_change_the_list(listed: Server) -> None:
    """The role of those who use sessions does not open what sessions may reach, nor show it."""
    with Client.from_connection(listed.state) as client:
        for call in (client.egress, lambda: client.set_egress(["*"]), lambda: client.test_egress("localhost")):
            with pytest.raises(ApiError) as refused:
                call()
            assert (refused.value.status, refused.value.code) == (403, "Forbidden")


def test_refusals_and_connections_are_counted(visitor: Session, operator: Operator, site: int) -> None:
    with operator() as client:
        before = client.egress()
        visitor.value(f"connect('127.0.0.1:{site}'), connect('elsewhere.example:443'), connect('10.0.0.1:443')")
        after = client.egress()

    assert (after.connections - before.connections, after.refusals - before.refusals) == (1, 2)


@pytest.mark.thorough
def test_the_command_line_shows_tests_and_sets(listed: Server, visitor: Session, site: int) -> None:
    """`carrel sessionpool egress show|set|test`: with the exit status for scripts."""
    shown = egress(listed, "show", "python", "-o", "json")
    assert f"localhost:{site}" in json.loads(shown.stdout)["allow"]

    allowed = egress(listed, "test", "python", f"127.0.0.1:{site}")
    assert (allowed.returncode, allowed.stdout.splitlines()[0]) == (
        0,
        f"127.0.0.1:{site} is allowed: rule 127.0.0.1:{site}",
    )
    unlisted = egress(listed, "test", "python", "pypi.org")
    assert unlisted.returncode == 1
    assert unlisted.stdout == "pypi.org:443 is refused: no rule names it; it is not on the pool's egress list\n"
    private = egress(listed, "test", "python", "10.1.2.3:80")
    assert (private.returncode, private.stdout.splitlines()[1]) == (1, "  10.1.2.3  a private range")

    assert egress(listed, "set", "python", "elsewhere.example:443").returncode == 0
    assert "403" in visitor.value(f"connect('127.0.0.1:{site}')")
    wrong = egress(listed, "set", "python", "http://pypi.org/")
    assert wrong.returncode == 1
    assert "'http://pypi.org/' is not a rule" in wrong.stderr
    assert egress(listed, "show", "nowhere").returncode == 1


@pytest.mark.thorough
def test_a_pool_without_a_list_says_so(slim_server: SlimServer) -> None:
    """Its sessions reach nothing, which the route tells; a list cannot be given to sandboxes that have no proxy."""
    with slim_server() as server:
        assert "EgressDisabled" in egress(server, "show", "python").stdout
        refused = egress(server, "set", "python", "pypi.org")
        assert (refused.returncode, "has no egress list" in refused.stderr) == (1, True)
        tried = egress(server, "test", "python", "pypi.org")
        assert (tried.returncode, "reach nothing" in tried.stdout) == (1, True)
