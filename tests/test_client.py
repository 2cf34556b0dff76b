"""The Python client against a real server."""

from __future__ import annotations

import inspect
import io

import pytest

from carrel.client import ApiError, AsyncClient, Client


def test_both_clients_have_the_same_methods() -> None:
    """What one can do the other can, with the same arguments."""

    def methods(kind: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(each).parameters) for name, each in functions if not name.startswith("_")}

    plain = methods(Client)
    plain["aclose"] = plain.pop("close")  # httpx's name for it, which asyncio's users know
    assert plain == methods(AsyncClient)


def test_a_second_call_sees_the_first_calls_variables(client: Client) -> None:
    """State lives as long as the session does."""
    client.execute("x = 41")

    assert client.execute("x + 1").result == 42


def test_failing_code_is_a_result(client: Client) -> None:
    result = client.execute("print('before'); 1/0")

    assert (result.status, result.is_ok, result.stdout) == ("Failed", False, "before\n")
    assert "ZeroDivisionError" in result.stderr


@pytest.mark.parametrize("value", ['{"type": "image"}', '{"type": "image", "base64_data": "x"}'])
def test_a_dictionary_that_looks_like_an_image_is_none(client: Client, value: str) -> None:
    assert client.execute(value).image is None


def test_files_go_both_ways(client: Client) -> None:
    """What is uploaded is listed, read by code and downloaded unchanged, in directories and with spaces."""
    client.upload("deep/er/a file.bin", io.BytesIO(b"\0\1\2"))

    assert [file.path for file in client.list_files("deep/er")] == ["deep/er/a file.bin"]
    assert client.stat("deep/er/a file.bin").size == 3
    assert client.execute("list(open('deep/er/a file.bin', 'rb').read())").result == [0, 1, 2]
    assert client.download("deep/er/a file.bin") == b"\0\1\2"
    client.delete_file("deep/er/a file.bin")
    assert client.list_files("deep/er") == []


def test_an_error_has_code_and_message(client: Client) -> None:
    with pytest.raises(ApiError) as caught:
        client.download("missing.txt")

    assert (caught.value.status, caught.value.code) == (404, "FileNotFound")


def test_an_ended_session_begins_anew(client: Client) -> None:
    client.execute("x = 1")
    first = client.session()
    client.end()

    assert client.execute("'x' in globals()").result is False
    assert client.session().etag != first.etag


@pytest.mark.anyio
async def test_the_asynchronous_client_does_the_same(async_client: AsyncClient) -> None:
    started = await async_client.start("6 * 7")
    while not (result := await async_client.execution(started.id)).is_finished:
        pass

    assert result.result == 42
