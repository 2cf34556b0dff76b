"""The client against a server that has no more than Azure, at each api-version that has executions: what Azure has works, and what it has
not is said."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from azures import NEW, OLD, VERSIONS, Azure
from carrel.client import AsyncClient, Client, FileMissing, NotFound, NotSupported, SessionClient, SessionNotFound
from conftest import fresh_identifier

pytestmark = pytest.mark.one_level

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@pytest.fixture(
    params=[OLD, pytest.param(VERSIONS[1], marks=pytest.mark.thorough), NEW]
)  # it differs from the newest in nothing
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def session(azure: Azure, version: str) -> Iterator[SessionClient]:
    with Client(azure.endpoint, azure.token, api_version=version) as client:
        yield client.session(fresh_identifier())


@pytest.fixture
def newest(azure: Azure) -> Iterator[SessionClient]:
    with Client(azure.endpoint, azure.token) as client, client.session(fresh_identifier()) as session:
        yield session


@pytest.fixture
async def asynchronous(azure: Azure) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(azure.endpoint, azure.token, identifier=fresh_identifier()) as client:
        yield client
        await client.end()


def test_code_and_files_work(session: SessionClient, version: str, azure: Azure, tmp_path: Path) -> None:
    """With nothing in a request that Azure does not know."""
    azure.beyond.clear()
    session.run("x = 41").raise_for_status()
    result = session.run("print('so far')\nx + 1")
    # At the oldest, scalars are texts: so Azure's own .NET client reads them.
    assert (result.stdout, result.result, result.is_ok) == ("so far\n", "42" if version == OLD else 42, True)
    assert not session.run("1 / 0").is_ok
    image = session.run(f"import base64; from IPython.display import Image; Image(base64.b64decode('{PIXEL}'))")
    assert [each.mime for each in image.images] == ["image/png"]
    session.upload("deep/a file.bin", b"abc")
    assert [(each.path, each.size) for each in session.list("deep")] == [("deep/a file.bin", 3)]
    assert session.stat("deep/a file.bin").size == 3
    assert session.download("deep/a file.bin") == b"abc"
    assert session.save("deep/a file.bin", tmp_path / "b").read_bytes() == b"abc"
    session.delete("deep/a file.bin")
    with pytest.raises(FileMissing):
        session.stat("deep/a file.bin")
    session.end()
    assert azure.beyond == []


def test_code_that_is_only_begun_is_asked_for(session: SessionClient) -> None:
    started = session.start("6 * 7")
    looks = (session.execution(started.id) for _ in itertools.count())
    assert str(next(each for each in looks if each.is_finished).result) == "42"
    session.end()


def test_events_are_the_result_alone(newest: SessionClient) -> None:
    """So a program that streams works there as well, and hears all at the end."""
    (event,) = newest.stream("print('x')\n6 * 7")
    told: list[str] = []

    assert event.result is not None
    assert (event.kind, event.result.result) == ("result", 42)
    assert newest.run("print('x')", on_output=lambda each: told.append(each.kind)).stdout == "x\n"
    assert told == ["result"]


def test_sessions_are_told_of(newest: SessionClient) -> None:
    newest.run("1")
    assert newest.info().identifier == newest.identifier
    assert newest.identifier in [each.identifier for each in newest.client.sessions()]
    assert newest.client.metadata().isolation is None
    newest.end()
    with pytest.raises(SessionNotFound):
        newest.info()


def test_what_an_older_version_has_not_is_not_found(azure: Azure) -> None:
    """Ending is the exception: it is what a block does on leaving."""
    with Client(azure.endpoint, azure.token, api_version=OLD) as client, client.session(fresh_identifier()) as session:
        session.run("1")
        with pytest.raises(NotFound):
            session.info()
    with Client(azure.endpoint, azure.token, api_version=NEW) as client:
        client.end(identifier=session.identifier)


BEYOND: dict[str, Callable[[SessionClient], Any]] = {
    "cancel one": lambda session: session.cancel("an-id"),
    "cancel": lambda session: session.cancel(),
    "restart": lambda session: session.restart(),
    "variables": lambda session: session.variables("x"),
    "list_variables": lambda session: session.list_variables(),
    "set_variables": lambda session: session.set_variables({"x": 1}),
    "variables of code": lambda session: session.run("x", variables={"x": 1}),
    "return_variables": lambda session: session.run("x = 1", return_variables=["x"]),
    "executions": lambda session: session.executions(),
    "make_directory": lambda session: session.make_directory("a"),
    "rename": lambda session: session.rename("a", "b"),
    "archive": lambda session: list(session.archive()),
    "watch": lambda session: list(session.watch()),
    "open": lambda session: session.open(),
    "keep_alive": lambda session: session.keep_alive(),
    "events": lambda session: list(session.events()),
    "image": lambda session: session.client.image(),
    "egress": lambda session: session.client.egress(),
    "status": lambda session: session.client.status(),
    "table": lambda session: session.client.table(),
}


@pytest.fixture(scope="module")
def shared(azure: Azure) -> Iterator[SessionClient]:
    """For what leaves no trace in it."""
    with Client(azure.endpoint, azure.token) as client, client.session(fresh_identifier()) as session:
        yield session


@pytest.mark.parametrize("name", BEYOND)
def test_what_is_beyond_azure_is_said(shared: SessionClient, name: str) -> None:
    """By its name, and not as something else that went wrong."""
    with pytest.raises(NotSupported, match="beyond Azure"):
        BEYOND[name](shared)


@pytest.mark.anyio
async def test_the_asynchronous_client_says_the_same(asynchronous: AsyncClient) -> None:
    assert (await asynchronous.execute("6 * 7")).result == 42
    with pytest.raises(NotSupported):
        await asynchronous.restart()
    with pytest.raises(NotSupported):
        async for _ in asynchronous.archive():
            pass
