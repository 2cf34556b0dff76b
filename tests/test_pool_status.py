"""How a pool is and what its sessions use, as operators ask for it."""

from __future__ import annotations

import uuid

import pytest

from carrel.client import ApiError, AsyncClient, Client
from conftest import Server

pytestmark = [pytest.mark.one_level, pytest.mark.anyio]


def test_a_status_counts_what_was_run_since(server: Server, client: Client) -> None:
    """Executions and failures, sessions and bytes, in the totals and in the newest minutes."""
    before = client.status()

    client.execute("print('x' * 1000)")
    client.execute("1 / 0")

    after = client.status()
    assert after.name == server.pool
    assert (after.runtime, after.isolation, after.error) == ("PythonLTS", "namespace", None)
    assert after.totals.executions - before.totals.executions == 2
    assert after.totals.failures - before.totals.failures == 1
    assert after.totals.sessions - before.totals.sessions == 1
    assert after.totals.bytes_in - before.totals.bytes_in == len("print('x' * 1000)") + len("1 / 0")
    assert after.totals.bytes_out - before.totals.bytes_out > 1000
    assert after.live >= 1
    assert sum(each.executions for each in after.minutes) >= 2
    assert any(each.first_call and each.execution for each in after.minutes)
    assert len(after.minutes) <= 60
    assert [each.at for each in after.minutes] == sorted(each.at for each in after.minutes)


def test_uploads_and_downloads_count_as_bytes(client: Client) -> None:
    before = client.status().totals
    client.upload("numbers.bin", bytes(300_000))
    client.download("numbers.bin")
    after = client.status().totals

    assert (after.bytes_in - before.bytes_in, after.bytes_out - before.bytes_out) == (300_000, 300_000)
    assert after.executions == before.executions


def test_a_look_at_variables_is_no_execution(client: Client) -> None:
    client.execute("x = 1")
    before = client.status().totals.executions
    client.variables("x")

    assert client.status().totals.executions == before


def test_the_table_says_what_a_session_has_used(client: Client) -> None:
    client.execute("sum(range(3_000_000))")
    client.execute("1 / 0")
    row = next(each for each in client.table() if each.identifier == client.identifier)

    assert (row.state, row.executions, row.last_status) == ("Idle", 2, "Failed")
    assert row.cpu_ms is not None
    assert row.cpu_ms > 1
    assert row.memory_bytes is None or row.memory_bytes > 0
    assert row.created_at <= row.last_used_at < row.expires_at


def test_the_table_says_what_files_take(client: Client) -> None:
    """Of uploads and of what code writes, at once."""

    def taken() -> int:
        found = next(each.disk_bytes for each in client.table() if each.identifier == client.identifier)
        assert found is not None
        return found

    client.upload("a.bin", bytes(1_000_000))
    uploaded = taken()
    client.execute("open('b.bin', 'wb').write(bytes(2_000_000)); None")

    assert 1_000_000 <= uploaded < 1_100_000
    assert 3_000_000 <= taken() < 3_200_000


def test_looking_is_no_use_and_begins_nothing(client: Client) -> None:
    client.execute("1")
    seen = client.session().last_accessed_at
    client.table()
    client.status()

    assert client.session().last_accessed_at == seen


async def test_the_async_client_has_both(async_client: AsyncClient) -> None:
    await async_client.execute("1")

    assert (await async_client.status()).totals.executions >= 1
    assert async_client.identifier in [each.identifier for each in await async_client.table()]


def test_a_page_begins_where_the_caller_says(client: Client) -> None:
    """A `skip` beyond the end is an empty page, one that is no number is refused."""
    client.execute("1")
    page = client._http.get(f"{client.endpoint}/.carrel/sessions", params=_query(skip="9999"))
    refused = client._http.get(f"{client.endpoint}/.carrel/sessions", params=_query(skip="many"))

    assert page.json() == {"value": [], "nextLink": None}
    assert refused.status_code == 400


def test_who_may_only_run_code_sees_neither(client: Client) -> None:
    """Both take the right to see the pool, and a token for one session opens neither."""
    token = client._http.post(
        f"{client.endpoint}/.carrel/token", params=_query(), json={"identifier": f"one-{uuid.uuid4().hex}"}
    ).json()["token"]
    with Client(client.endpoint, token) as bound:
        for ask in (bound.status, bound.table):
            with pytest.raises(ApiError) as caught:
                ask()
            assert caught.value.status == 403


def _query(**more: str) -> dict[str, str]:
    return {"api-version": "2025-10-02-preview", **more}
