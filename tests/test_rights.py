"""Who may what: roles, scopes, audiences and the rule that joins them, without a server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from carrel import roles
from carrel.audiences import AUDIENCES, Plane, plane_of
from carrel.errors import StoreUnavailable
from carrel.roles import EXECUTE, EXECUTOR_ID, OWNER_ID, POOL_DELETE, POOL_READ, POOL_WRITE, ROLES, Given
from carrel.server.access import BELIEVED_S, WATCH_S, Access, Principal, Snapshot
from carrel.store import AssignmentRecord, PoolId, PrincipalRecord, Stamp, Store
from carrel.wire.odata import FilterError, decode_filter

pytestmark = pytest.mark.anyio

SUB = "/subscriptions/S"
GROUP = f"{SUB}/resourceGroups/g"
POOL = PoolId("S", "g", "p").resource_id
ASSIGN = "Microsoft.Authorization/roleAssignments/write"
READER_ID, CONTRIBUTOR_ID = (roles.role_named(name).id for name in ("Reader", "Contributor"))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "may", "may_not", "may_execute"),
    [
        ("Owner", [POOL_READ, POOL_WRITE, POOL_DELETE, ASSIGN], [], False),
        ("Contributor", [POOL_READ, POOL_WRITE, POOL_DELETE], [ASSIGN, "microsoft.authorization/x/DELETE"], False),
        (
            "Reader",
            [POOL_READ, "Microsoft.Authorization/roleAssignments/read"],
            [POOL_WRITE, POOL_DELETE, ASSIGN],
            False,
        ),
        ("User Access Administrator", [POOL_READ, ASSIGN], [POOL_WRITE], False),
        ("Azure ContainerApps Session Executor", [POOL_READ], [POOL_WRITE, POOL_DELETE, ASSIGN], True),
        ("Azure ContainerApps Session Creator", [POOL_READ], [POOL_WRITE], True),
        (
            "Container Apps SessionPools Contributor",
            [POOL_READ, POOL_WRITE, POOL_DELETE, "Microsoft.App/sessionPools/fetchMCPServerCredentials/action"],
            [ASSIGN, "Microsoft.Resources/subscriptions/resourceGroups/write"],
            False,
        ),
        ("Container Apps SessionPools Reader", [POOL_READ], [POOL_WRITE, ASSIGN], False),
    ],
)
def test_a_role_gives_what_azures_gives(name: str, may: list[str], may_not: list[str], may_execute: bool) -> None:
    role = roles.role_named(name.upper())
    assert role is not None

    assert [action for action in may if not role.allows(action.upper())] == []
    assert [action for action in may_not if role.allows(action)] == []
    assert role.allows(EXECUTE, is_data=True) is may_execute


@pytest.mark.parametrize(
    ("scope", "covered"),
    [
        ("/", True),
        (SUB, True),
        (SUB.lower() + "/", True),
        (GROUP.upper(), True),
        (POOL, True),
        (f"{POOL}/providers/x", False),
        ("/subscriptions/S2", False),
        ("/subscriptions", True),
        (f"{SUB}/resourceGroups/g2", False),
        (f"{SUB}/resourceGroups/G2/../g", False),
        (f"{POOL}2", False),
    ],
)
def test_an_assignment_holds_for_its_scope_and_below(scope: str, covered: bool) -> None:
    rights = [Given(scope, READER_ID.upper(), "Alice")]

    assert roles.allows(rights, frozenset(["alice"]), POOL_READ, POOL) is covered
    assert not roles.allows(rights, frozenset(["bob"]), POOL_READ, POOL)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_scope_covers_its_elder(one: str, other: str) -> None:
    """Any text at all: a scope covers itself and what is below it, and is covered back only by itself."""
    assert roles.covers(one, one)
    assert roles.covers("/", one)
    assert roles.covers(one, f"{one}/{other}")
    if roles.covers(one, other) and roles.covers(other, one):
        assert roles.normal(one) == roles.normal(other)


def test_an_unknown_role_gives_nothing() -> None:
    assert not roles.allows([Given("/", "no-role", "a")], frozenset("a"), POOL_READ, POOL)
    assert roles.role_named("") is None
    assert len(ROLES) == 7


# ---- audiences ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("audience", "plane"),
    [
        *((audience + end, plane) for plane, names in AUDIENCES.items() for audience in names for end in ("", "/")),
        ("https://localhost:8443", Plane.ARM),
        ("https://LOCALHOST/", Plane.ARM),
        ("http://127.0.0.1:8080", Plane.ARM),
        ("https://[::1]:8443", Plane.ARM),
        ("https://localhost:8443/graph", Plane.GRAPH),
        ("https://localhost:8443/other", None),
        ("https://elsewhere", None),
        ("https://localhost.elsewhere", None),
        ("https://localhost@elsewhere", None),
        ("https://x@localhost", None),
        ("https://localhost:99999", None),
        ("ftp://localhost", None),
        ("https://[::1", None),
        ("https://dynamicsessions.io.elsewhere", None),
        ("localhost", None),
        ("", None),
    ],
)
def test_an_audience_is_of_one_plane(audience: str, plane: Plane | None) -> None:
    assert plane_of(audience, ("localhost", "127.0.0.1", "::1")) is plane


# ---- access ------------------------------------------------------------------------------------------------------------


class Person(PrincipalRecord):
    def __init__(self, id: str, groups: tuple[str, ...] = (), is_enabled: bool = True) -> None:
        super().__init__(id, "User", groups=groups, is_enabled=is_enabled)


def access_of(
    given: Iterable[Given], people: Iterable[PrincipalRecord] = (), clock: Callable[[], float] = time.monotonic
) -> Access:
    """Over a store that holds these."""
    with TemporaryDirectory() as folder:
        store = Store.open(f"sqlite:///{folder}/store.db", [Fernet.generate_key()])
        with store.transaction() as transaction:
            for number, each in enumerate(given):
                stamp = Stamp("test", "User", 0.0)
                record = AssignmentRecord(f"id-{number}", each.scope, each.role_id, each.principal_id, "User", stamp)
                transaction.assignments.put(record)
            for person in people:
                transaction.principals.put(person)
        try:
            return Access(Home("S", "g"), store, clock)
        finally:
            store.close()


class Home(NamedTuple):
    subscription: str
    resource_group: str


def principal(id: str = "a", **fields: object) -> Principal:
    base: dict[str, object] = {"ids": frozenset([id]), "name": id, "kind": "User", "plane": Plane.ARM, "audience": ""}
    return Principal(id, **{**base, "expires_at": 0.0, **fields})  # type: ignore[arg-type]


def test_groups_give_rights_whoever_says_so() -> None:
    """The store, or the token."""
    access = access_of([Given(GROUP, CONTRIBUTOR_ID, "G-1")], [Person("a", ("g-1",)), Person("b")])

    assert access.may(principal("a"), POOL_WRITE, POOL)
    assert not access.may(principal("b"), POOL_WRITE, POOL)
    assert access.may(principal("b", ids=frozenset(["b", "g-1"])), POOL_WRITE, POOL)


@pytest.mark.parametrize("disabled", ["a", "g-1"])
def test_who_is_disabled_has_no_rights(disabled: str) -> None:
    people = [Person("a", ("g-1",), is_enabled=disabled != "a"), Person("g-1", is_enabled=disabled != "g-1")]
    access = access_of([Given("/", OWNER_ID, "g-1")], people)

    assert not access.may(principal("a"), POOL_READ, POOL)


def test_granted_rights_are_all_there_are() -> None:
    """What an operator's token says is neither added to nor taken from by assignments."""
    access = access_of([Given("/", OWNER_ID, "a")])
    granted = principal(is_granted=True, granted_roles=frozenset(["reader"]), granted_pools=frozenset(["p"]))

    assert access.may(granted, POOL_READ, POOL.upper())
    assert not access.may(granted, POOL_WRITE, POOL)
    assert not access.may(granted, POOL_READ, GROUP)
    assert not access.may(granted, POOL_READ, PoolId("S", "other", "p").resource_id)
    assert not access.may(principal(is_granted=True), POOL_READ, POOL)
    elsewhere = PoolId("T", "h", "q").resource_id
    assert access.may(
        principal(is_granted=True, granted_roles=frozenset(["READER"]), granted_pools=frozenset([elsewhere.lower()])),
        POOL_READ,
        elsewhere,
    )


def test_a_bound_token_has_one_right() -> None:
    access = access_of([Given("/", OWNER_ID, "a"), Given(SUB, EXECUTOR_ID, "a")])
    bound = principal(identifier="alice", bound_scope=POOL)

    assert access.may(bound, EXECUTE, POOL.lower(), is_data=True)
    assert not access.may(bound, EXECUTE, PoolId("S", "g", "q").resource_id, is_data=True)
    assert not access.may(bound, POOL_READ, POOL)
    assert not access.may(bound, EXECUTE, POOL)
    assert not access.may(principal("b", identifier="alice", bound_scope=POOL), EXECUTE, POOL, is_data=True)


def test_decisions_are_remembered_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carrel.server.access._REMEMBERED", 5)
    snapshot = Snapshot([Given("/", OWNER_ID, "a")])
    for number in range(50):
        assert snapshot.allows(frozenset("a"), POOL_READ, f"{POOL}{number}", is_data=False)
    assert len(snapshot._decided) <= 5


def test_long_scopes_are_not_remembered() -> None:
    """Anybody with a token may name one, of 64 kB each: twenty thousand of them would be a gigabyte."""
    snapshot = Snapshot([Given(SUB, OWNER_ID, "a")])

    assert snapshot.allows(frozenset("a"), POOL_READ, POOL + "x" * 60_000, is_data=False)
    assert not snapshot._decided


@pytest.mark.parametrize("name", ["", "/", "//", "/subscriptions", GROUP.lower(), "p/"])
def test_an_operators_token_for_a_pool_is_never_for_more(name: str) -> None:
    """An empty variable in a script must not make a token for all pools."""
    access = access_of([])
    granted = principal(is_granted=True, granted_roles=frozenset(["owner"]), granted_pools=frozenset([name]))

    assert not access.may(granted, POOL_READ, PoolId("S", "g", "q").resource_id)
    assert not access.may(granted, POOL_READ, GROUP)


async def test_what_was_read_last_counts_for_a_while() -> None:
    """A database that does not answer any more: rights go on for half a minute, then nobody has any but who brings them along."""
    clock = [0.0]
    access = access_of([Given("/", OWNER_ID, "a")], clock=lambda: clock[0])  # its store is closed by now
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(2 * WATCH_S):
            await access.watch()
    assert access.may(principal(), POOL_READ, POOL)
    clock[0] = BELIEVED_S + 1
    for ask in (access.may, access.require):
        with pytest.raises(StoreUnavailable):
            ask(principal(), POOL_READ, POOL)
    with pytest.raises(StoreUnavailable):
        access.may_somewhere(principal(), POOL_READ)
    granted = principal(is_granted=True, granted_roles=frozenset(["reader"]), granted_pools=frozenset("*"))
    assert access.may(granted, POOL_READ, POOL)


def reader_of(pools: frozenset[str]) -> Principal:
    return principal(is_granted=True, granted_roles=frozenset(["reader"]), granted_pools=pools)


def test_who_sees_that_a_scope_is_there() -> None:
    access = access_of([Given(POOL, READER_ID, "a")])

    assert [access.sees(principal(), scope) for scope in (SUB, GROUP, POOL)] == [True] * 3
    assert not access.sees(principal(), f"{SUB}/resourceGroups/other")
    assert not access.sees(principal("b"), SUB)
    assert not access.sees(principal(identifier="alice", bound_scope=POOL), POOL)
    assert access.sees(reader_of(frozenset("p")), GROUP)
    assert not access.sees(reader_of(frozenset("p")), f"{SUB}/resourceGroups/other")
    assert access.sees(reader_of(frozenset("*")), SUB)
    assert not access.sees(principal(is_granted=True, granted_pools=frozenset("*")), SUB)


# ---- filters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("roleName eq 'It''s'", [[("rolename", "eq", "It's")]]),
        ("atScope()", [[("atscope", "call", "")]]),
        ("atScope() and assignedTo('x')", [[("atscope", "call", ""), ("assignedto", "call", "x")]]),
        ("STARTSWITH(a, 'b') or c EQ true", [[("a", "startswith", "b")], [("c", "eq", "true")]]),
        ("names/any(c:c eq 'x')", [[("names", "any", "x")]]),
        (" a eq 'and or' ", [[("a", "eq", "and or")]]),
        (None, []),
        ("  ", []),
    ],
)
def test_a_filter_is_read(text: str | None, terms: list[list[tuple[str, str, str]]]) -> None:
    found = decode_filter(text)

    assert [[(each.name, each.operator, each.value) for each in alternative] for alternative in found] == terms


@given(st.text(alphabet="ab 'eq()/,:ndor", max_size=60) | st.text(max_size=40))
def test_any_filter_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(FilterError):
        decode_filter(text)


@pytest.mark.parametrize(
    "text", ["a" * 8000, " " * 8000 + "a", "a eq " + "'" * 8001, "a(" * 4000, "a eq 'b' and " * 600, "a/" * 4000]
)
def test_no_filter_takes_long(text: str) -> None:
    began = time.process_time()
    with pytest.raises(FilterError):
        decode_filter(text)
    assert time.process_time() - began < 0.5
