"""The store: every record comes back as it was put, ids compare in any case, a failed transaction leaves nothing."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from carrel.accounts import Sums
from carrel.config import Config
from carrel.errors import RequestInvalid
from carrel.store import (
    AssignmentRecord,
    CredentialRecord,
    GrantRecord,
    GroupRecord,
    JournalRecord,
    LogRecord,
    OperationRecord,
    PoolId,
    PoolRecord,
    PrincipalRecord,
    SeedRecord,
    Stamp,
    Store,
    StoreError,
    Transaction,
    UsageFilter,
    UsageRecord,
)

pytestmark = pytest.mark.anyio

KEY = Fernet.generate_key()
STAMP, LATER = Stamp("Zoë 🙂", "User", 1_700_000_000.25), Stamp("b", "Application", 1_700_000_001.0)
POOL = PoolId("00000000-0000-0000-0000-00000000000A", "Grüppe", "Pool-1")
OID = "AAAAAAAA-0000-0000-0000-000000000001"

RECORDS: dict[str, Any] = {
    "groups": GroupRecord("Sub", "Group (x)", "local", {"Ü": "ö"}, STAMP, LATER, 'W/"1"'),
    "pools": PoolRecord(
        POOL,
        "local",
        {"a": "b"},
        {"containerType": "PythonLTS", "carrel": {"cpu": 0.5, "x": [1, None, {"é": True}]}, "nul": "a\0b"},
        STAMP,
        LATER,
        "etag",
        "Failed",
        "it cannot",
        {"NAME": "very secret\0"},
        "mcp secret",
    ),
    "assignments": AssignmentRecord(OID, POOL.resource_id, "role", OID, "User", STAMP, "why"),
    "principals": PrincipalRecord(OID, "User", "APP", "Ann@Example", "Ann", False, 5.5, ("g1", "g2")),
    "credentials": CredentialRecord("Cred", OID, "scrypt$…", "abc", 1.0, None),
    "grants": GrantRecord("digest==", "device", "client", OID, "scope", "pending", 1.0, 2.0, {"user_code": "X"}),
    "operations": OperationRecord("Op", POOL, "put", "InProgress", 3.0, "", None),
    "seeds": SeedRecord("pools/python", "abc"),
    "usage": UsageRecord(POOL, "Ann", "2026-11-22", Sums(1, 2**40, 3, 4, 5, 6, 7, 8)),
    "logs": LogRecord("j:1", POOL, 1.5, "alice", OID, "Failed", 2.0, {"code": "a\0b", "outcome": None}),
    "journals": JournalRecord("j", 2**40),
}
LATER_RECORDS = {"0002": {"usage", "logs", "journals"}}  # by the schema that has them first


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Everything about the store is true of both."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgresql").schema())
    return f"sqlite:///{tmp_path}/store/carrel.db"


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    opened = Store.open(address, [KEY])
    yield opened
    opened.close()


def key(name: str, record: Any) -> tuple[Any, ...]:
    match name:
        case "groups":
            return record.subscription, record.name
        case "grants":
            return (record.digest,)
        case "seeds":
            return (record.name,)
        case "usage":
            return record.pool, record.principal, record.day
    return (record.id,)


def in_capitals(part: Any) -> Any:
    if isinstance(part, PoolId):
        return PoolId(part.subscription.upper(), part.resource_group.upper(), part.name.upper())
    return part.upper()


def fill(transaction: Transaction) -> None:
    for name, record in RECORDS.items():
        getattr(transaction, name).put(record)


def test_records_come_back_as_they_were_put_also_after_a_restart(store: Store, address: str) -> None:
    with store.transaction() as transaction:
        fill(transaction)
    store.close()
    again = Store.open(address, [KEY])
    with again.transaction() as transaction:
        for name, record in RECORDS.items():
            repository = getattr(transaction, name)

            assert repository.get(*key(name, record)) == record
            assert repository.list() == [record]
    again.close()


def test_ids_compare_in_any_case_and_are_kept_as_written(store: Store) -> None:
    with store.transaction() as transaction:
        fill(transaction)
        for name in sorted(RECORDS.keys() - {"grants", "seeds", "credentials", "logs", "journals"}):
            repository, record = getattr(transaction, name), RECORDS[name]
            other = [in_capitals(part) for part in key(name, record)]

            assert repository.get(*other) == record
            assert repository.delete(*other) is True
            assert repository.delete(*other) is False
            assert repository.get(*other) is None


def test_usage_is_added_up_as_it_is_asked_for(store: Store) -> None:
    """By the database, and of the pools that are named alone; the peak is the highest, and of nothing there is no row."""
    other = dataclasses.replace(POOL, name="Other")
    uses = [(POOL, "ann", "01"), (POOL, "ben", "01"), (POOL, "ann", "02"), (other, "ann", "01"), (POOL, "ann", "09")]

    with store.transaction() as books:
        for peak, (pool, principal, day) in enumerate(uses, 1):
            books.usage.put(UsageRecord(pool, principal, f"2026-11-{day}", Sums(2**40, 1, 1, 1, 0, 10, 20, peak)))
        books.usage.put(UsageRecord(POOL, "*", "2026-11-01", Sums(peak=9)))

        def of(pools: list[PoolId] | None, *by: str, most: int = 9) -> list[Any]:
            found = books.usage.summed(UsageFilter("2026-11-01", "2026-11-03", pools, by), most)
            return sorted(
                (each.pool and each.pool.name, each.principal, each.day, each.sums.session_us >> 40, each.sums.peak)
                for each in found
            )

        assert sorted(each.lower for each in books.usage.pools()) == sorted([POOL.lower, other.lower])
        assert books.usage.days() == ("2026-11-01", "2026-11-09")
        assert of(None) == [(None, None, None, 4, 9)]
        assert of([POOL]) == [(None, None, None, 3, 9)]
        assert of([POOL, other], "pool") == [("Other", None, None, 1, 4), ("Pool-1", None, None, 3, 9)]
        assert of([POOL], "principal", "day") == [
            *((None, "ann", "2026-11-01", 1, 1), (None, "ann", "2026-11-02", 1, 3), (None, "ben", "2026-11-01", 1, 2)),
        ]
        assert len(of(None, "pool", "principal", "day", most=2)) == 2
        assert of([]) == of([], "pool") == []


def test_put_replaces(store: Store) -> None:
    with store.transaction() as transaction:
        fill(transaction)
        changed = dataclasses.replace(RECORDS["pools"], state="Succeeded", secrets={}, mcp_key="", tags={})
        transaction.pools.put(changed)

        assert transaction.pools.list() == [changed]


def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    def fail() -> None:
        with store.transaction() as transaction:
            fill(transaction)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    with store.transaction() as transaction:
        assert all(getattr(transaction, name).list() == [] for name in RECORDS)
        assert transaction.generation() == 1


async def test_the_generation_grows_with_every_change_whoever_made_it(store: Store, address: str) -> None:
    other = Store.open(address, [KEY])
    before = await store.generation()
    await other.run(lambda transaction: transaction.seeds.put(RECORDS["seeds"]))
    after = await store.generation()
    await other.run(lambda transaction: transaction.seeds.delete("nobody"))
    other.close()

    assert before < after == await store.generation()


async def test_the_generation_of_a_table_grows_with_its_own_changes_alone(store: Store) -> None:
    """Whoever keeps a copy of rights does not read it again for each refresh token."""
    rights, others = ("assignments", "principals"), ("grants", "pools")
    before = await store.generation(*rights)
    await store.run(lambda transaction: transaction.grants.put(RECORDS["grants"]))
    assert await store.generation(*rights) == before < await store.generation(*others) == await store.generation()

    await store.run(lambda transaction: transaction.principals.put(RECORDS["principals"]))
    after = await store.generation(*rights)
    assert before < after == await store.generation()
    await store.run(lambda transaction: transaction.principals.delete(RECORDS["principals"].id))
    assert await store.generation(*rights) > after


async def test_what_work_raises_reaches_its_caller(store: Store) -> None:
    def work(transaction: Transaction) -> None:
        fill(transaction)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await store.run(work)

    assert await store.run(lambda transaction: transaction.seeds.list()) == []


def test_lists_know_scopes_and_their_ends(store: Store) -> None:
    """A pool `a` is not below a pool `ab`, a wildcard in a name is none, and a group holds what is in it, in any case."""
    names = [("s", "g"), ("S", "G"), ("s", "g1"), ("s", "_"), ("s1", "g")]
    with store.transaction() as transaction:
        for subscription, group in names:
            id = PoolId(subscription, group, "p")
            transaction.pools.put(dataclasses.replace(RECORDS["pools"], id=id))
            transaction.assignments.put(
                dataclasses.replace(RECORDS["assignments"], id=id.lower, scope=f"{id.resource_id}/")
            )
        pools = transaction.pools

        assert len(pools.list()) == 4
        assert [each.id.resource_group for each in pools.list("S")] == ["_", "G", "g1"]
        assert [each.id.subscription for each in pools.list("s", "g")] == ["S"]
        assert [each.id.resource_group for each in pools.list("s", "_")] == ["_"]
        assert pools.list("%") == []
        assert transaction.assignments.delete_below("/subscriptions/S/resourceGroups/G") == 1
        assert len(transaction.assignments.list(PoolId("S", "G1", "P").resource_id)) == 1
        assert transaction.assignments.delete_below("/") == 3


def test_principals_are_found_by_what_they_are_called(store: Store) -> None:
    with store.transaction() as transaction:
        fill(transaction)
        record = RECORDS["principals"]

        assert transaction.principals.list(app_id="app") == [record]
        assert transaction.principals.list(user_name="ANN@example") == [record]
        assert transaction.principals.list(app_id="app", user_name="bob") == []
        assert transaction.assignments.list(principal_id=OID.lower()) == [RECORDS["assignments"]]
        assert transaction.credentials.list(OID.lower()) == [RECORDS["credentials"]]


def test_a_principals_credentials_go_with_it(store: Store) -> None:
    with store.transaction() as transaction:
        fill(transaction)
        transaction.principals.delete(OID)

        assert transaction.credentials.list() == []
        assert transaction.grants.delete_of(OID.lower()) == 1


def test_what_is_over_is_pruned(store: Store) -> None:
    with store.transaction() as transaction:
        fill(transaction)

        assert (transaction.grants.prune(1.9), transaction.operations.prune(3.0)) == (0, 0)
        assert (transaction.grants.prune(2.0), transaction.operations.prune(3.1)) == (1, 1)


@pytest.mark.parametrize(
    "fields", [{"name": "a\0b"}, {"name": "\ud800"}, {"tags": {"a": float("nan")}}], ids=["NUL", "half", "NaN"]
)
def test_a_value_that_no_database_takes_is_refused_and_nothing_is_stored(fields: dict[str, Any], store: Store) -> None:
    def put() -> None:
        with store.transaction() as transaction:
            transaction.seeds.put(RECORDS["seeds"])
            transaction.groups.put(dataclasses.replace(RECORDS["groups"], **fields))

    with pytest.raises(RequestInvalid, match="cannot be stored"):
        put()

    with store.transaction() as transaction:
        assert transaction.seeds.list() == []


def test_concurrent_writers_lose_nothing(address: str) -> None:
    """Two stores on one database, four threads that each count up: no step is lost, and none fails for the other's sake."""
    stores = [Store.open(address, [KEY]) for _ in range(2)]

    def count(store: Store) -> None:
        for _ in range(25):
            with store.transaction() as transaction:
                seed = transaction.seeds.get("count") or SeedRecord("count", "0")
                transaction.seeds.put(SeedRecord("count", str(int(seed.digest) + 1)))

    threads = [threading.Thread(target=count, args=[store]) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with stores[0].transaction() as transaction:
        assert transaction.seeds.get("count") == SeedRecord("count", "100")
    for store in stores:
        store.close()


# ---- secrets ---------------------------------------------------------------------------------------------------------------------------


def test_secrets_are_encrypted_and_shown_nowhere(store: Store) -> None:
    with store.transaction() as transaction:
        fill(transaction)
        content = str(transaction.connection.exec_driver_sql("SELECT * FROM pools").all())

    assert "it cannot" in content
    assert not [word for word in ("very secret", "mcp secret") if word in content]
    assert not [
        word for word in ("very secret", "mcp secret", "scrypt", "digest==", "user_code") if word in repr(RECORDS)
    ]


def test_a_new_key_goes_before_the_old_one(store: Store, address: str) -> None:
    with store.transaction() as transaction:
        fill(transaction)
    store.close()
    both = Store.open(address, [Fernet.generate_key(), KEY])
    with both.transaction() as transaction:
        assert transaction.pools.get(POOL) == RECORDS["pools"]
    both.close()
    with pytest.raises(StoreError, match="restore that file"):
        Store.open(address, [Fernet.generate_key()])


def test_a_secret_that_was_moved_to_another_pool_is_not_revealed(store: Store) -> None:
    other = dataclasses.replace(RECORDS["pools"], id=PoolId("s", "g", "other"), secrets={}, mcp_key="")

    def swap() -> None:
        with store.transaction() as transaction:
            fill(transaction)
            transaction.pools.put(other)
            transaction.connection.exec_driver_sql(
                "UPDATE pools SET mcp_key = (SELECT max(mcp_key) FROM pools) WHERE name = 'other'"
            )
            transaction.pools.get(other.id)

    with pytest.raises(StoreError, match="somebody has changed the store"):
        swap()


# ---- ids -------------------------------------------------------------------------------------------------------------------------------


def test_the_host_knows_own_pools_by_name_and_others_by_a_digest(tmp_path: Path) -> None:
    home = Config(tmp_path, tmp_path, resource_group="Default")
    own = PoolId(home.subscription.upper(), "DEFAULT", "Python")
    other = PoolId(home.subscription, "other", "Python")

    assert own.key(home) == "python"
    assert other.key(home) == dataclasses.replace(other, resource_group="OTHER").key(home)
    assert other.key(home).startswith("python--")
    assert len(other.key(home)) == len("python--") + 8


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p", "p"),
        ("/SUBSCRIPTIONS/s/resourcegroups/g/PROVIDERS/microsoft.app/sessionpools/P/", "P"),
        ("/subscriptions/s/resourceGroups/g/sessionPools/p", "p"),
    ],
)
def test_an_id_is_read_from_a_path(path: str, name: str) -> None:
    assert PoolId.of(path) == PoolId("s", "g", name)


@pytest.mark.parametrize(
    "path", ["", "p", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sessionPools/p", "/a" * 9]
)
def test_another_path_is_no_id(path: str) -> None:
    with pytest.raises(ValueError, match="not the path"):
        PoolId.of(path)


# ---- opening ---------------------------------------------------------------------------------------------------------------------------


def _foreign(file: Path) -> None:
    import sqlite3

    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE pools (a)")
    connection.close()


def _newer(file: Path) -> None:
    with Store.open(f"sqlite:///{file}", [KEY]).transaction() as transaction:
        transaction.connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")


def _damaged(file: Path) -> None:
    Store.open(f"sqlite:///{file}", [KEY]).close()
    content = bytearray(file.read_bytes())
    content[4096:12288] = b"x" * 8192
    file.write_bytes(content)


def _cut_off(file: Path) -> None:
    Store.open(f"sqlite:///{file}", [KEY]).close()
    file.write_bytes(file.read_bytes()[:-6000])


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no database": (lambda file: file.write_bytes(b"hello " * 1000), "damaged"),
    "a page overwritten": (_damaged, "damaged"),
    "cut off": (_cut_off, "damaged"),
    "another program's": (_foreign, "another program's"),
    "newer": (_newer, "newer Carrel"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_a_database_that_is_not_to_be_used_is_refused_and_not_touched(kind: str, tmp_path: Path) -> None:
    spoil, words = SPOILED[kind]
    file = tmp_path / "carrel.db"
    spoil(file)
    before = file.read_bytes()

    with pytest.raises(StoreError, match=words) as caught:
        Store.open(f"sqlite:///{file}", [KEY])

    assert str(file) in str(caught.value)
    assert file.read_bytes() == before


def test_a_folder_in_its_place_or_a_folder_of_somebody_elses_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "carrel.db").mkdir()

    with pytest.raises(StoreError, match="cannot be used"):
        Store.open(f"sqlite:///{tmp_path}/carrel.db", [KEY])
    with pytest.raises(StoreError, match="cannot be used"):
        Store.open("sqlite:////proc/nowhere/carrel.db", [KEY])


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(StoreError, match="begins with"):
        Store.open("mysql://user:geheim@host/db", [KEY])
    with pytest.raises(StoreError, match="in the state folder is no key"):
        Store.open("sqlite:////tmp/x", [b"no key"])
