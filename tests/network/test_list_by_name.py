"""Egress lists by name, on a host of a made internet with name servers (world.py): what was checked is what is connected to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from conftest import Server, SlimServer
from listed import POOL, Session
from world import HOST, HOST_PORT, PUBLIC, World

pytestmark = pytest.mark.one_level

ALLOW = [
    "public.test",
    "*.deep.test",
    "inside.test",
    "metadata.test",
    "mixed.test",
    "flip.test",
    "silent.test",
    "host.test:*",
]


@pytest.fixture(scope="module")
def named(world: World, slim_server: SlimServer) -> Iterator[Server]:
    with slim_server(config=POOL.format(allow=ALLOW)) as server:
        yield server


@pytest.fixture
def asking(named: Server) -> Iterator[Session]:
    with named.client() as client:
        yield Session(client)
        client.end()


def test_a_listed_name_is_reached(asking: Session) -> None:
    """From the host's own address, by a name that the session itself could not resolve."""
    assert asking.value("fetch('http://public.test/')") in (
        f"{PUBLIC[0]} asked by {HOST}",
        f"{PUBLIC[1]} asked by 2606:f00::2",
    )
    assert asking.value("fetch('http://a.b.deep.test/')").startswith(PUBLIC[0])
    assert "403" in asking.value("fetch('http://deep.test/')")
    assert "gaierror" in asking.client.execute("socket.getaddrinfo('public.test', 80)").stderr


@pytest.mark.parametrize(
    ("name", "reason"), [("inside", "10.20.0.5 is a private range"), ("metadata", "169.254.169.254 is")]
)
def test_a_listed_name_of_a_private_place_is_refused(asking: Session, name: str, reason: str) -> None:
    """The list's owner trusts the name, not whoever answers for it."""
    assert reason in asking.value(f"fetch('http://{name}.test/')")


def test_a_name_that_answers_differently_the_second_time_gains_nothing(asking: Session) -> None:
    """Rebinding: the connection goes to the address that was checked. The next request is checked again, and refused."""
    assert asking.value("fetch('http://flip.test/')").startswith(PUBLIC[0])
    second = asking.value("fetch('http://flip.test/')")
    assert second.startswith("403 ")
    assert "10.20.0.5 is a private range" in second


def test_of_a_names_addresses_only_public_ones_are_used(asking: Session) -> None:
    assert asking.value("fetch('http://mixed.test/')").startswith(PUBLIC[0])


def test_a_name_of_the_host_is_refused(asking: Session) -> None:
    """Its public-looking address is the machine's own all the same."""
    assert f"{HOST} is this machine itself" in asking.value(f"fetch('http://host.test:{HOST_PORT}/')")


def test_what_cannot_be_resolved_is_told_as_that(asking: Session) -> None:
    """502 and the name: an error of the way, not of the list."""
    told = asking.value("connect('no-such.deep.test:443')")
    assert told.startswith("HTTP/1.1 502 carrel: no-such.deep.test could not be resolved")


def test_names_that_are_never_answered_keep_nobody_else_waiting(named: Server, asking: Session) -> None:
    """A session has few lookups under way at once, so that whoever asks for slow names waits for itself only."""
    ask = "threading.Thread(target=connect, args=('silent.test:443',)).start()"
    asking.value(f"for _ in range(100):\n    {ask}\ntime.sleep(1)")

    with named.client() as other:
        answer = Session(other).value(
            "began = time.monotonic(); found = fetch('http://public.test/'); [found[:4], time.monotonic() - began]"
        )
        other.end()

    assert answer[0] in (PUBLIC[0][:4], PUBLIC[1][:4])
    assert answer[1] < 5
