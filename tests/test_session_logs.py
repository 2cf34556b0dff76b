"""Session logs: off until a pool asks for them, then whole to the last answered call, and never a way into a terminal."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from carrel.cli import cli
from carrel.client import AsyncClient, Client
from carrel.storage import State
from conftest import Server, fresh_identifier
from managing import managing, put, state_of
from processes import eventually

pytestmark = [pytest.mark.one_level, pytest.mark.anyio]

POOL = "with-logs"


@pytest.fixture(scope="module")
def logging_server(managed_server: Server) -> Iterator[Server]:
    """With a pool that keeps everything."""
    with managing(managed_server) as managed:
        put(managed, POOL, image="python-slim", logs={"records": "full", "retention": "1h"})
        assert eventually(lambda: state_of(managed, POOL) == "Succeeded", 60)
        yield managed_server
        managed.ask("DELETE", managed.pool(POOL), (200, 202, 204))
        assert eventually(lambda: state_of(managed, POOL) is None, 30)


@pytest.fixture
def logged(logging_server: Server) -> Iterator[Client]:
    endpoint = f"{logging_server.endpoint.rpartition('/')[0]}/{POOL}"
    with Client(endpoint, logging_server.connection["token"], identifier=fresh_identifier()) as connected:
        yield connected
        if any(each.identifier == connected.identifier for each in connected.sessions()):
            connected.end()


def set_records(server: Server, records: str) -> None:
    with managing(server) as managed:
        body = {"properties": {"carrel": {"logs": {"records": records}}}}
        managed.ask("PATCH", managed.pool(POOL), (200, 202), json=body)
        assert eventually(lambda: state_of(managed, POOL) == "Succeeded", 60)


def records_of(client: Client, **wanted: Any) -> list[Any]:
    return list(client.logs(identifier=client.identifier, **wanted))


def carrel(server: Server, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "--state", str(server.state)])


def test_an_execution_is_there_when_its_caller_is_answered(logged: Client) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); 6 * 7"
    result = logged.execute(code)
    (record,) = records_of(logged)

    assert (record.identifier, record.status, record.outcome) == (logged.identifier, "Succeeded", "ok")
    assert (record.code, record.stdout, record.stderr, record.result) == (code, "out\n", "err\n", "42")
    assert record.code_sha256 == hashlib.sha256(code.encode()).hexdigest()
    assert (record.id, record.kind, record.cut) == (result.id, "code", ())
    assert record.bytes_in == len(code)
    assert len(record.resource["trace"]) == 32
    assert abs(record.at - datetime.now(UTC)) < timedelta(minutes=5)


def test_failures_commands_and_hostile_texts_are_kept_as_they_were(logged: Client) -> None:
    texts = ["print('a\\0b')  # \u2028 \U0001f600 \x1b[31m", "1 / 0", "raise SystemExit(3)"]
    for text in texts:
        logged.execute(text)
    logged.shell("echo 'ü'; exit 4")
    found = records_of(logged)[::-1]

    assert [each.code for each in found] == [*texts, "echo 'ü'; exit 4"]
    assert [each.status for each in found] == ["Succeeded", "Failed", "Failed", "Failed"]
    assert found[0].stdout == "a\0b\n"
    assert (found[3].kind, found[3].stdout, found[3].resource["exitCode"]) == ("shell", "ü\n", 4)
    assert [each.code for each in records_of(logged, status="Failed")] == [each.code for each in found[:0:-1]]


def test_long_texts_are_cut_and_say_so(logged: Client) -> None:
    logged.execute("x = '" + "é" * 100_000 + "'; print('y' * 100_000)", output_limit=200_000)
    (record,) = records_of(logged)

    assert set(record.cut) == {"code", "stdout"}
    assert len(record.code.encode()) <= 65_540
    assert record.stdout == "y" * 16_384
    assert record.bytes_out > 100_000


def test_pages_hold_still_while_more_comes(logging_server: Server, logged: Client) -> None:
    for number in range(60):
        logged.execute(str(number))
    pages = logged.logs(identifier=logged.identifier)
    first = next(pages)
    for _ in range(5):
        logged.execute("'later'")
    rest = list(pages)

    assert [each.code for each in (first, *rest)] == [str(number) for number in reversed(range(60))]


async def test_times_choose_and_asyncio_is_the_same(logging_server: Server, logged: Client) -> None:
    logged.execute("'before'")
    (before,) = records_of(logged)
    logged.execute("'after'")
    since = before.at + timedelta(microseconds=1)

    assert [each.code for each in records_of(logged, since=since)] == ["'after'"]
    assert [each.code for each in records_of(logged, until=since)] == ["'before'"]
    async with AsyncClient(logged.endpoint, logging_server.connection["token"]) as client:
        assert [each.code async for each in client.logs(identifier=logged.identifier)] == ["'after'", "'before'"]


def test_what_is_kept_follows_the_definition_at_once(logging_server: Server, logged: Client) -> None:
    """Also for sessions that live already; `off` keeps nothing."""
    for records in ("off", "metadata", "code"):
        set_records(logging_server, records)
        logged.execute(f"print('{records}')")
    set_records(logging_server, "full")
    code, metadata = records_of(logged)

    assert (code.code, code.stdout, code.result) == ("print('code')", None, None)
    assert (metadata.code, metadata.stdout) == (None, None)
    assert metadata.code_sha256 == hashlib.sha256(b"print('metadata')").hexdigest()


def test_nothing_is_kept_of_a_pool_that_does_not_ask(server: Server, client: Client) -> None:
    client.execute("'unkept-" + uuid.uuid4().hex + "'")

    assert list(client.logs()) == []
    database = b"".join(file.read_bytes() for file in (server.state / "store").iterdir())
    journal = b"".join(file.read_bytes() for file in (server.state / "journal").iterdir())
    assert b"unkept-" not in database + journal


def test_who_may_not_see_the_pool_reads_nothing(logging_server: Server, logged: Client) -> None:
    logged.execute("1")
    state = State(logging_server.state)
    for roles, pools in ((["No such role"], ["*"]), (["Reader"], ["python"])):
        with Client(logged.endpoint, state.issue_token(roles=roles, pools=pools)) as stranger:
            with pytest.raises(Exception, match="gives no right") as refused:
                list(stranger.logs())
            assert getattr(refused.value, "status", None) == 403


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("status=Running", "status"),
        ("status=failed", "status"),
        ("identifier=x", "identifier"),
        ("from=yesterday", "from"),
        ("to=2026-13-01", "to"),
        ("skip=-1", "skip"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_name(
    logged: Client, logging_server: Server, query: str, target: str
) -> None:
    headers = {"Authorization": f"Bearer {logging_server.connection['token']}"}
    url = f"{logged.endpoint}/.carrel/logs?api-version=2025-10-02-preview&{query}"
    reply = httpx.get(url, headers=headers, trust_env=False, timeout=30)

    assert (reply.status_code, reply.json()["error"]["target"]) == (400, target)


def test_the_command_shows_them_and_what_it_shows_is_harmless(logging_server: Server, logged: Client) -> None:
    logged.execute("'\x1b]0;evil\x07' #  two\n#\tlines")
    shown = carrel(logging_server, "logs", POOL, "--identifier", logged.identifier)
    told = carrel(logging_server, "logs", POOL, "--identifier", logged.identifier, "-o", "json")

    assert (shown.exit_code, told.exit_code) == (0, 0)
    assert "Succeeded" in shown.stdout
    assert "# two # lines" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert [each["identifier"] for each in json.loads(told.stdout)] == [logged.identifier]


def test_the_command_says_where_no_log_is_kept(logging_server: Server) -> None:
    """Beside the result, which is an empty list."""
    shown = carrel(logging_server, "logs", "python", "-o", "json")

    assert (shown.exit_code, json.loads(shown.stdout)) == (0, [])
    assert "Pool python keeps no log" in shown.stderr


def test_the_command_follows_until_it_is_told_to_stop(logging_server: Server, logged: Client) -> None:
    """A line for each execution as it ends; Ctrl-C is no failure."""
    logged.execute("'first'")
    words = ["logs", POOL, "-f", "-o", "json", "--identifier", logged.identifier, "--state", str(logging_server.state)]
    command = [sys.executable, "-m", "carrel.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        told = [json.loads(following.stdout.readline())]
        for code in ("'second'", "'third'"):
            logged.execute(code)
            told.append(json.loads(following.stdout.readline()))
        following.send_signal(signal.SIGINT)
        rest = following.stdout.read()

    assert [each["code"] for each in told] == ["'first'", "'second'", "'third'"]
    assert (rest, following.returncode) == ("", 0)


def test_usage_is_a_command(logging_server: Server, logged: Client) -> None:
    logged.execute("1")
    shown = carrel(logging_server, "usage", "--by", "pool")
    told = json.loads(carrel(logging_server, "usage", "--by", "pool", "-o", "json").stdout)
    table = carrel(logging_server, "usage", "--csv", "--by", "pool,day")
    wrong = carrel(logging_server, "usage", "--by", "colour")

    assert [each["pool"] for each in told["value"] if each["pool"] == POOL] == [POOL]
    assert POOL in shown.stdout
    assert table.stdout.startswith("pool,poolId,day,sessionSeconds,")
    assert wrong.exit_code == 2


def test_a_pool_that_is_gone_leaves_its_usage_and_takes_its_log(managed_server: Server) -> None:
    name = f"gone-{uuid.uuid4().hex[:6]}"
    with managing(managed_server) as managed:
        for _ in range(2):
            put(managed, name, image="python-slim", logs={"records": "code"})
            assert eventually(lambda: state_of(managed, name) == "Succeeded", 60)
            endpoint = f"{managed_server.endpoint.rpartition('/')[0]}/{name}"
            with Client(endpoint, managed_server.connection["token"], identifier=fresh_identifier()) as client:
                assert list(client.logs()) == []
                client.execute("1")
                assert len(list(client.logs())) == 1
            managed.ask("DELETE", managed.pool(name), (200, 202, 204))
            assert eventually(lambda: state_of(managed, name) is None, 30)
        told = json.loads(carrel(managed_server, "usage", "--by", "pool", "-o", "json").stdout)

    (row,) = [each for each in told["value"] if each["pool"] == name]
    assert (row["executions"], row["sessions"], row["peakSessions"]) == (2, 2, 1)
