"""Usage, as operators and their spreadsheets ask for it: exact to what callers were answered, told to those who may read the pool."""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sql

from carrel.client import Client
from carrel.storage import APPLICATION, ARM_AUDIENCE, State
from carrel.store import PrincipalRecord, Store
from conftest import Server, fresh_identifier
from processes import eventually

pytestmark = pytest.mark.one_level

USAGE = "/.carrel/usage"
FIGURES = ("executions", "failedExecutions", "bytesIn", "sessions", "peakSessions")


@pytest.fixture
def caller_id() -> str:
    """A principal that no other test is."""
    return str(uuid.uuid4())


@pytest.fixture
def own_client(server: Server, caller_id: str) -> Iterator[Client]:
    token = State(server.state).issue_token(subject=caller_id)
    with Client(server.endpoint, token, identifier=fresh_identifier()) as connected:
        yield connected
        if any(each.identifier == connected.identifier for each in connected.sessions()):
            connected.end()


def ask(server: Server, query: str = "", accept: str = "*/*", token: str = "") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or server.connection['arm_token']}", "Accept": accept}
    return httpx.get(f"{server.connection['http']}{USAGE}?{query}", headers=headers, trust_env=False, timeout=30)


def of(server: Server, caller_id: str, query: str = "groupBy=principal") -> dict[str, Any]:
    rows = [each for each in ask(server, query).json()["value"] if each["principal"] == caller_id]
    assert len(rows) == 1
    return dict(rows[0])


def test_usage_is_exact_when_the_caller_is_answered(server: Server, own_client: Client, caller_id: str) -> None:
    """Executions and failures, code, outputs, uploads and downloads: asked for right after the answer, all of it is there."""
    codes = ["print('x' * 1000)", "1 / 0", "import time; time.sleep(0.05); x = sum(range(2_000_000))"]
    results = [own_client.execute(code) for code in codes]
    own_client.upload("numbers.bin", bytes(300_000))
    assert len(own_client.download("numbers.bin")) == 300_000
    found = of(server, caller_id)

    printed = sum(len((each.stdout + each.stderr).encode()) for each in results)
    assert [found[name] for name in FIGURES] == [3, 1, sum(map(len, codes)) + 300_000, 1, 1]
    assert 0 <= found["bytesOut"] - printed - 300_000 < 200  # the values, which are JSON: three times nothing
    assert found["cpuSeconds"] > 0
    own_client.end()
    assert 0.05 <= of(server, caller_id)["sessionSeconds"] < 300


def test_a_row_is_of_a_pool_a_principal_and_a_day(server: Server, own_client: Client, caller_id: str) -> None:
    own_client.execute("1")
    whole = ask(server).json()
    (row,) = [each for each in whole["value"] if each["principal"] == caller_id]

    assert whole["groupBy"] == ["pool", "principal", "day"]
    assert (row["pool"], row["executions"]) == (server.pool, 1)
    assert row["poolId"].endswith(f"/providers/Microsoft.App/sessionPools/{server.pool}")
    assert whole["from"] <= row["day"] <= whole["to"]
    assert all(each["principal"] != "*" for each in whole["value"])


def test_groups_add_up_to_the_same(server: Server, own_client: Client) -> None:
    """Asked for once more where an execution of somebody else's ended in between."""
    own_client.execute("1")

    def totals() -> list[Any]:
        return [ask(server, f"groupBy={by}").json() for by in ("", "pool", "pool,principal,day")]

    def is_same() -> bool:
        told = [each["total"] for each in totals()]
        return all(len({each[name] for each in told}) == 1 for name in ("executions", "sessions", "bytesIn"))

    whole = totals()[0]
    assert whole["value"][0]["executions"] == whole["total"]["executions"] > 0
    assert eventually(is_same, 20)


def test_a_look_at_variables_is_no_execution(server: Server, own_client: Client, caller_id: str) -> None:
    own_client.execute("x = 1")
    own_client.variables("x")

    assert of(server, caller_id)["executions"] == 1


def test_a_table_for_spreadsheets_runs_no_formula(server: Server, own_client: Client, caller_id: str) -> None:
    """A principal may be called anything, by whoever may make one."""
    name = '=HYPERLINK("http://x","y"), "ü"\n'
    state = State(server.state)
    store = Store.open(f"sqlite:///{server.state}/store/carrel.db", state.store_keys())
    with store.transaction() as books:
        books.principals.put(PrincipalRecord(caller_id, "ServicePrincipal", display_name=name))
    store.close()
    own_client.execute("1")
    for reply in (ask(server, "format=csv"), ask(server, accept="text/csv")):
        assert reply.headers["content-type"] == "text/csv; charset=utf-8"
        assert "attachment" in reply.headers["content-disposition"]
        (row,) = [each for each in csv.DictReader(io.StringIO(reply.text)) if each["principal"] == caller_id]
        assert row["principalName"] == f"'{name}"
        assert row["executions"] == "1"
    assert of(server, caller_id)["principalName"] == name


def test_pools_that_the_caller_may_not_read_are_not_told(server: Server, own_client: Client) -> None:
    own_client.execute("1")
    claims = {**APPLICATION, "roles": ["Reader"], "carrel_pools": ["nobodys"]}
    token = State(server.state).issue_token(ARM_AUDIENCE, claims=claims)

    assert ask(server, token=token).json()["value"] == []
    assert "executions" in ask(server, token=token).json()["total"]


@pytest.mark.thorough
def test_years_of_use_are_not_read_into_memory(server: Server) -> None:
    """Whoever might see one pool could have the gateway read everybody's: 200,000 rows took 230 MB and five seconds."""
    state = State(server.state)
    store = Store.open(f"sqlite:///{server.state}/store/carrel.db", state.store_keys())
    group = f"/subscriptions/{server.connection['subscription']}/resourceGroups/{uuid.uuid4().hex}"
    pool = f"{group}/providers/Microsoft.App/sessionPools/gone"
    insert = """INSERT INTO usage WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 199999)
        SELECT :pool || i, :pool, lower(:pool), 'principal ' || (i / 1000), date('2001-01-01', (i % 1000) || ' days'),
            1000000, 1, 1, 1, 0, 1, 1, 1 FROM n"""
    with store.transaction() as books:
        books.connection.execute(sql.text(insert), {"pool": pool})
    health = httpx.get(
        f"{server.connection['http']}/.carrel/health",
        headers={"Authorization": f"Bearer {server.connection['arm_token']}"},
        trust_env=False,
    ).json()
    (gateway,) = [each["pid"] for each in health["processes"] if each["name"] == "gateway"]
    executor = state.issue_token(ARM_AUDIENCE, claims={**APPLICATION, "roles": ["Reader"], "carrel_pools": ["nobodys"]})
    days, before = "from=2001-01-01&to=2004-01-01", memory_kib(gateway)
    try:
        assert ask(server, days, token=executor).json()["value"] == []
        (row,) = ask(server, f"{days}&groupBy=pool").json()["value"]
        assert (row["pool"], row["executions"], row["sessionSeconds"]) == ("gone", 200_000, 200_000)
        assert memory_kib(gateway) - before < 50 * 1024
        assert ask(server, days).status_code == 400
    finally:
        with store.transaction() as books:
            books.connection.execute(sql.text("DELETE FROM usage WHERE pool = :pool"), {"pool": pool})
        store.close()


def memory_kib(pid: int) -> int:
    """The most that a process has had."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(each.split()[1] for each in status if each.startswith("VmHWM:")))


@pytest.mark.parametrize(
    ("query", "target"),
    [
        ("from=yesterday", "from"),
        ("to=2026-02-30", "to"),
        ("from=2026-11-22T00:00", "from"),
        ("from=%D9%A2026-11-22", "from"),
        ("from=2026-11-22&to=2026-11-21", "to"),
        ("from=1900-01-01", "from"),
        ("groupBy=pool,colour", "groupBy"),
        ("format=xls", "format"),
        ("from=2026-11-22&from=2026-11-21", "from"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_name(server: Server, query: str, target: str) -> None:
    reply = ask(server, query)

    assert (reply.status_code, reply.json()["error"]["target"]) == (400, target)


def test_days_without_any_use_are_no_rows(server: Server) -> None:
    told = ask(server, "from=2020-01-01&to=2020-12-31").json()

    assert (told["value"], told["total"]["executions"]) == ([], 0)
