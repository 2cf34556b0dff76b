"""A host holds so many sandboxes of all pools together, and no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from carrel.client import ApiError, Client
from conftest import Server, SlimServer, fresh_identifier

THREE = """
maximum-sandboxes = 3

[pools.python]
scaleConfiguration = {maxConcurrentSessions = 10, readySessionInstances = 1}
carrel = {image = "python-slim", memory = "128MiB", disk = "16MiB", tmp = "4MiB"}

[pools.other]
scaleConfiguration = {maxConcurrentSessions = 10, readySessionInstances = 2}
carrel = {image = "python-slim", memory = "128MiB", disk = "16MiB", tmp = "4MiB"}
"""


@pytest.fixture(scope="module")
def full_house(slim_server: SlimServer) -> Iterator[Server]:
    with slim_server(config=THREE) as server:
        yield server


def test_sessions_take_the_places_of_ready_sandboxes_and_then_there_are_none(full_house: Server) -> None:
    """Three sessions of one pool, though another one keeps ready ones; the fourth is refused, whichever pool it asks, until one ends."""
    clients = [full_house.client() for _ in range(3)]
    for client in clients:
        assert client.execute("1 + 1").result == 2
    for pool in ("python", "other"):
        with (
            Client.from_connection(full_house.state, pool=pool, identifier=fresh_identifier()) as late,
            pytest.raises(ApiError, match="maximum-sandboxes") as caught,
        ):
            late.execute("1")
        assert (caught.value.status, caught.value.code) == (429, "SessionsCountExceedsLimit")

    clients.pop().end()
    with Client.from_connection(full_house.state, pool="other", identifier=fresh_identifier()) as other:
        assert other.execute("1 + 1").result == 2
        other.end()
    for client in clients:
        assert client.execute("1 + 1").result == 2, "those that live are left alone"
        client.end()
