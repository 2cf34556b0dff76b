"""Sessions of the Python client against a real server: `with client.session("conv-42") as session`, and what its calls give."""

from __future__ import annotations

import inspect
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from carrel.client import (
    AsyncClient,
    AsyncSessionClient,
    AuthenticationFailed,
    Client,
    ExecutionFailed,
    FileMissing,
    InvalidRequest,
    Management,
    NotConfigured,
    PermissionDenied,
    PoolNotFound,
    SessionClient,
    SessionNotFound,
)
from conftest import Server, fresh_identifier

pytestmark = pytest.mark.one_level

# A small image, made without any library.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
SHOWN = f"import base64\nfrom IPython.display import Image, display\nimage = Image(base64.b64decode('{PIXEL}'))\n"


@pytest.fixture
def session(client: Client) -> Iterator[SessionClient]:
    with client.session(client.identifier) as session:
        yield session


@pytest.fixture
async def async_session(async_client: AsyncClient) -> AsyncIterator[AsyncSessionClient]:
    async with async_client.session(async_client.identifier) as session:
        yield session


def test_both_kinds_of_session_have_the_same_methods() -> None:
    def methods(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(each).parameters) for name, each in functions if not name.startswith("_")}

    assert methods(SessionClient) == methods(AsyncSessionClient)


def test_a_session_without_an_identifier_is_none() -> None:
    """It would be the client's own, which all conversations that lack a name would share."""
    for kind in (Client, AsyncClient):
        with pytest.raises(ValueError, match="identifier"):
            kind("http://127.0.0.1:9/p", "token").session("")


def test_a_session_lives_as_long_as_its_block(client: Client) -> None:
    """Variables stay from call to call; leaving the block ends it, also when something was raised in it."""
    with pytest.raises(ZeroDivisionError), client.session(fresh_identifier()) as session:
        session.run("x = 41")
        assert session.run("x + 1").result == 42
        assert session.info().identifier == session.identifier
        raise ZeroDivisionError
    with pytest.raises(SessionNotFound):
        session.info()


def test_ending_a_session_that_never_began_is_as_good(client: Client) -> None:
    with client.session(fresh_identifier()) as session:
        pass
    session.end()


def test_everything_a_session_can_do(session: SessionClient) -> None:
    """Code, shell, events, variables, files and its life, all under its own identifier."""
    assert [event.kind for event in session.stream("print('x')")] == ["started", "stdout", "result"]
    assert session.shell("printf 7; exit 3").exit_code == 3
    assert session.run("y = x * 2", variables={"x": 4}, return_variables=["y"]).variables == {"y": 8}
    session.set_variables({"z": [1]})
    assert session.variables("z", "none") == {"z": [1]}
    assert "z" in [each.name for each in session.list_variables()]
    started = session.start("6 * 7", operation_id="mine")
    assert [event.result.result for event in session.follow(started.id) if event.result] == [42]
    assert session.execution("mine").result == 42
    assert "mine" in [each.id for each in session.executions()]
    session.upload("deep/a file", io.BytesIO(b"abc"))
    assert session.rename("deep/a file", "deep/b").path == "deep/b"
    assert (session.stat("deep/b").size, session.download("deep/b")) == (3, b"abc")
    assert session.make_directory("empty").is_directory
    assert sorted(each.path for each in session.list()) == ["deep", "empty"]
    assert len(b"".join(session.archive("deep"))) > 512
    session.delete("deep/b")
    session.cancel()
    session.restart()
    assert session.variables("z") == {}
    assert session.keep_alive().identifier == session.identifier


def test_an_image_is_saved(session: SessionClient, tmp_path: Path) -> None:
    """Those that are displayed, in order, and the one that the value is where nothing was displayed."""
    both = session.run(f"{SHOWN}display(image)\ndisplay(image)")
    value = session.run("image")

    assert [each.mime for each in both.images] == ["image/png"] * 2
    assert len(value.images) == 1
    assert both.images[0].save(tmp_path / "chart.png").read_bytes() == value.images[0].data
    assert value.images[0].data.startswith(b"\x89PNG")


def test_failing_code_is_raised_where_that_is_asked_for(session: SessionClient) -> None:
    failed = session.run("print('before'); 1/0")

    with pytest.raises(ExecutionFailed, match="ZeroDivisionError: division by zero") as caught:
        failed.raise_for_status()
    assert caught.value.result is failed
    assert session.run("1").raise_for_status().result == 1
    with pytest.raises(ExecutionFailed):
        session.shell("exit 3").raise_for_status()


def test_a_result_as_text_is_all_there_is_to_read(session: SessionClient) -> None:
    assert session.run("print('printed')\n{'a': 'ü'}").text == 'printed\n{"a": "ü"}'
    assert session.run("x = 1").text == ""
    assert session.run(f"{SHOWN}image").text == ""


def test_large_files_go_both_ways_and_tell_how_far_they_are(session: SessionClient, tmp_path: Path) -> None:
    """From a file of this machine and to one; the last that is told is all of it, and no half file stays."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(3_000_000))
    told: list[tuple[int, int | None]] = []

    session.upload("big.bin", source, progress=lambda done, total: told.append((done, total)))
    up, told = told, []
    assert session.save("big.bin", target, progress=lambda done, total: told.append((done, total))) == target

    assert target.read_bytes() == source.read_bytes()
    for steps in (up, told):
        assert len(steps) > 3
        assert steps[-1] == (3_000_000, 3_000_000)
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["source", "target"]


def test_a_file_that_is_not_there_leaves_nothing(session: SessionClient, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("as it was")
    with pytest.raises(FileMissing):
        session.save("missing", tmp_path / "kept")

    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("kept", "as it was")]


@pytest.mark.parametrize("is_watched", [False, True])
def test_a_pipe_is_uploaded(session: SessionClient, is_watched: bool) -> None:
    """Nobody knows its length before its end."""
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)

    with os.fdopen(reading, "rb") as pipe:
        session.upload("piped", pipe, progress=(lambda done, total: None) if is_watched else None)

    assert session.download("piped") == b"through a pipe"


@pytest.mark.parametrize("source", ["text or path?", bytearray(b"x"), None])
def test_what_is_no_file_is_not_uploaded(client: Client, source: Any) -> None:
    with pytest.raises(TypeError, match=f"not a {type(source).__name__}"):
        client.upload("a", source)


def test_a_file_is_not_saved_over_a_directory(session: SessionClient, tmp_path: Path) -> None:
    """It is said before anything is fetched."""
    with pytest.raises(IsADirectoryError):
        session.save("missing", tmp_path)


def test_a_file_is_saved_to_one_place_by_several(session: SessionClient, tmp_path: Path) -> None:
    """Each has a part of its own beside it; the last to be whole stays."""
    session.upload("a", b"abc" * 100_000)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: session.save("a", tmp_path / "a"), range(4)))

    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"abc" * 100_000)]


def test_a_directory_is_named_as_lists_show_it(session: SessionClient) -> None:
    """With a slash at its end."""
    session.make_directory("folder/")

    assert session.stat("folder/").is_directory
    session.delete("folder/")
    assert session.list() == []


@pytest.mark.parametrize("name", ["", "/", ".", "folder/.."])
def test_a_name_is_never_another_address(client: Client, name: str) -> None:
    """`files/..` is the pool's own address."""
    for call in (client.stat, client.download, client.delete_file, client.make_directory):
        with pytest.raises(InvalidRequest, match="names none of the files"):
            call(name)


@pytest.mark.parametrize("name", ["", ".."])
def test_no_execution_is_called_so(client: Client, name: str) -> None:
    for call in (client.execution, client.cancel):
        with pytest.raises(InvalidRequest, match="names none of the executions"):
            call(name)


def test_errors_are_classes(client: Client, server: Server) -> None:
    """Named for what is missing or wrong; all of them are ApiError."""
    with pytest.raises(InvalidRequest):
        client.execute("1", identifier="x")
    with pytest.raises(FileMissing):
        client.delete_file("missing")
    with (
        Client(server.endpoint + "-none", client_token(server)) as other,
        pytest.raises((PoolNotFound, PermissionDenied)),
    ):
        other.execute("1")


def client_token(server: Server) -> str:
    return str(server.connection["token"])


def test_a_token_may_end_with_its_file_s_last_line(server: Server) -> None:
    with Client(server.endpoint, client_token(server) + "\n", identifier=fresh_identifier()) as client:
        assert client.metadata()


@pytest.mark.parametrize("token", ["secret\nand-more", "secret-ü"])
def test_a_token_that_cannot_be_sent_is_not_told(token: str) -> None:
    """Exceptions end in logs."""
    with Client("http://127.0.0.1:9/p", token) as client, pytest.raises(AuthenticationFailed) as caught:
        client.session()
    assert "secret" not in repr(caught.value)


def test_lists_show_themselves_as_tables(session: SessionClient) -> None:
    session.upload("<b>.txt", b"x")

    assert "&lt;b&gt;.txt" in session.list()._repr_html_()  # type: ignore[attr-defined]
    assert session.identifier in session.client.sessions()._repr_html_()  # type: ignore[attr-defined]


def test_lists_can_be_pickled(session: SessionClient) -> None:
    """Caches and other processes get them so."""
    session.upload("a", b"x")
    for found in (session.list(), session.client.sessions()):
        assert pickle.loads(pickle.dumps(found)) == found  # noqa: S301  # our own bytes


@pytest.mark.anyio
async def test_the_asynchronous_session_does_the_same(async_session: AsyncSessionClient, tmp_path: Path) -> None:
    await async_session.run("x = 41")
    assert (await async_session.run("x + 1")).result == 42
    assert [event.kind async for event in async_session.stream("print('x')")] == ["started", "stdout", "result"]
    await async_session.upload("a", b"abc")
    assert (await async_session.save("a", tmp_path / "a")).read_bytes() == b"abc"
    assert (await async_session.info()).identifier == async_session.identifier
    with pytest.raises(FileMissing):
        await async_session.download("missing")
    await async_session.cancel()


# ---- from the environment ------------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that says nothing of any server."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "CARREL_", "IDENTITY_", "ACA_", "POOL_")) or name.endswith("_CA_BUNDLE"):
            monkeypatch.delenv(name)
    return monkeypatch


def variables_of(server: Server) -> dict[str, str]:
    command = [sys.executable, "-P", "-m", "carrel.cli", "env", "-o", "json", "--state", str(server.state)]
    found: dict[str, str] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def test_the_environment_of_carrel_env_is_enough(bare: pytest.MonkeyPatch, server: Server) -> None:
    """By a token; without one by the client secret; without that by the managed identity. Without all of them it says what to set."""
    for name, text in variables_of(server).items():
        bare.setenv(name, text)
    for gone in ("", "CARREL_TOKEN", "AZURE_CLIENT_SECRET"):
        bare.delenv(gone, raising=False)
        with Client.from_env(pool=server.pool, identifier=fresh_identifier()) as client:
            assert client.execute("6 * 7").result == 42
            client.end()
    bare.delenv("IDENTITY_HEADER")
    with pytest.raises(NotConfigured, match="CARREL_TOKEN"):
        Client.from_env(pool=server.pool)


def test_pools_are_managed_by_the_environment_as_well(bare: pytest.MonkeyPatch, server: Server, tmp_path: Path) -> None:
    """By the client secret, by tokens, and without any variable as the local server's default identity."""
    variables = variables_of(server)
    for name, text in variables.items():
        bare.setenv(name, text)
    tokens = {"CARREL_TOKEN": server.connection["token"], "CARREL_ARM_TOKEN": server.connection["arm_token"]}
    for gone, more in (((), {}), (("AZURE_CLIENT_SECRET", "IDENTITY_ENDPOINT"), tokens)):
        for name in gone:
            bare.delenv(name)
        for name, text in more.items():
            bare.setenv(name, text)
        with Management.from_env() as management:
            assert server.pool in [each.name for each in management.pools()]
    bare.delenv("AZURE_SUBSCRIPTION_ID")
    with pytest.raises(NotConfigured, match="SUBSCRIPTION"):
        Management.from_env()
    bare.delenv("CARREL_ARM")
    bare.setenv("CARREL_STATE", str(server.state))
    with Management.from_env() as management, management.client(server.pool, identifier=fresh_identifier()) as client:
        assert client.execute("6 * 7").result == 42
        client.end()
    bare.setenv("CARREL_STATE", str(tmp_path))
    with pytest.raises(NotConfigured, match="CARREL_ENDPOINT"):
        Management.from_env()


@pytest.mark.anyio
async def test_without_any_variable_it_is_the_local_server(bare: pytest.MonkeyPatch, server: Server) -> None:
    bare.setenv("CARREL_STATE", str(server.state))
    async with AsyncClient.from_env(pool=server.pool) as client, client.session(fresh_identifier()) as session:
        assert (await session.run("6 * 7")).result == 42
    with pytest.raises(NotConfigured, match="no pool 'none'"):
        Client.from_env(pool="none")


def test_an_environment_that_leads_nowhere_says_so(bare: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bare.setenv("CARREL_STATE", str(tmp_path))
    with pytest.raises(NotConfigured, match="CARREL_POOL_ENDPOINT"):
        Client.from_env()
    bare.setenv("CARREL_TOKEN", "a-token")
    for address in ("http://example.com/pool", "example.com", "https://"):
        bare.setenv("CARREL_POOL_ENDPOINT", address)
        with pytest.raises(NotConfigured, match="CARREL_POOL_ENDPOINT"):
            Client.from_env()


def test_a_secret_goes_to_no_authority_that_is_not_named(bare: pytest.MonkeyPatch) -> None:
    """A pool elsewhere does not get Entra's secret sent to Entra's place or its own, for nobody said whose it is."""
    for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"):
        bare.setenv(f"AZURE_{name}", "x")
    bare.setenv("CARREL_POOL_ENDPOINT", "https://pools.example.com/p")
    with pytest.raises(NotConfigured):
        Client.from_env()
    bare.setenv("AZURE_AUTHORITY_HOST", "http://authority.example.com")
    with pytest.raises(NotConfigured, match="in the clear"):
        Client.from_env()
