"""Role definitions and assignments over HTTP, as `az role` asks for them, and what a change does to tokens that are out already."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from carrel import roles
from carrel.storage import APPLICATION, ARM_AUDIENCE, AUDIENCES, GRAPH_AUDIENCE, State
from carrel.store import AssignmentRecord, PrincipalRecord, Stamp, Store
from conftest import Server
from endpoint import error_of
from processes import eventually

pytestmark = pytest.mark.one_level

PROVIDER = "/providers/Microsoft.Authorization"
CLAIMS = {**APPLICATION}


class Arm:
    """The control plane for one principal, by tokens as the authority gives them: without any claim about rights."""

    def __init__(self, server: Server, oid: str | None = None) -> None:
        self.state = State(server.state)
        self.connection = server.connection
        self.oid = oid or self.state.object_id
        self.subscription = f"/subscriptions/{self.connection['subscription']}"
        self.group = f"{self.subscription}/resourceGroups/{self.connection['resource_group']}"
        self.http = httpx.Client(base_url=self.connection["http"], trust_env=False, timeout=30)
        self.tokens = {
            each: self.state.issue_token(each, subject=oid, claims=CLAIMS) for each in (ARM_AUDIENCE, AUDIENCES[0])
        }

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        query = {"api-version": "2022-04-01", **options.pop("query", {})}
        headers = {"Authorization": f"Bearer {self.tokens[ARM_AUDIENCE]}"}
        return self.http.request(method, path, params=query, headers=headers, **options)

    def listed(self, scope: str, what: str = "roleAssignments", **query: str) -> list[dict[str, Any]]:
        reply = self.send("GET", f"{scope}{PROVIDER}/{what}", query={f"${name}": text for name, text in query.items()})
        assert reply.status_code == 200, reply.text
        return list(reply.json()["value"])

    def assign(self, scope: str, role: str, who: str, name: str = "", **more: Any) -> httpx.Response:
        properties = {
            "roleDefinitionId": role_path(role),
            "principalId": who,
            "principalType": "ServicePrincipal",
            **more,
        }
        path = f"{scope}{PROVIDER}/roleAssignments/{name or uuid.uuid4()}"
        return self.send("PUT", path, json={"properties": {k: v for k, v in properties.items() if v is not ...}})

    def metadata(self) -> int:
        """The status of a call on the data plane."""
        endpoint = self.connection["pools"]["python"]["endpoint"]
        headers = {"Authorization": f"Bearer {self.tokens[AUDIENCES[0]]}"}
        return self.http.get(f"{endpoint}/metadata?api-version=2025-10-02-preview", headers=headers).status_code


def role_path(name: str) -> str:
    role = roles.role_named(name)
    assert role is not None
    return f"/subscriptions/x{PROVIDER}/roleDefinitions/{role.id}"


@pytest.fixture(scope="module")
def admin(server: Server) -> Iterator[Arm]:
    """The server's own principal, Owner of everything. What the tests assign is gone afterwards."""
    arm = Arm(server)
    before = {each["id"] for each in arm.listed(arm.subscription)}
    yield arm
    for each in arm.listed(arm.subscription):
        if each["id"] not in before:
            assert arm.send("DELETE", each["id"]).status_code == 200


@pytest.fixture
def somebody(server: Server) -> Callable[[], Arm]:
    return lambda: Arm(server, str(uuid.uuid4()))


EXECUTOR = "Azure ContainerApps Session Executor"


# ---- definitions -------------------------------------------------------------------------------------------------------


def test_a_role_is_found_by_its_name(admin: Arm) -> None:
    """The request of `az role assignment create`: it takes the id of what comes back."""
    for scope in (admin.subscription, admin.group, ""):
        (found,) = admin.listed(scope, "roleDefinitions", filter=f"roleName eq '{EXECUTOR}'")
        assert found["id"].endswith(f"/{roles.EXECUTOR_ID}")
        assert found["properties"]["permissions"][0]["dataActions"] == [roles.EXECUTE]
        assert admin.send("GET", found["id"]).json() == found
    assert {each["properties"]["roleName"] for each in admin.listed(admin.subscription, "roleDefinitions")} == {
        role.name for role in roles.ROLES.values()
    }
    assert admin.listed(admin.subscription, "roleDefinitions", filter="type eq 'CustomRole'") == []


@pytest.mark.parametrize(
    "filter",
    ["roleName", "roleName eq Owner'", "nonsense eq 'x'", "x" * 9000, "atScope() or atScope()", "' eq '", "é()"],
)
def test_a_filter_that_is_not_understood_is_a_400(admin: Arm, filter: str) -> None:
    for what in ("roleDefinitions", "roleAssignments"):
        reply = admin.send("GET", f"{admin.subscription}{PROVIDER}/{what}", query={"$filter": filter})
        assert (reply.status_code, error_of(reply)["target"]) == (400, "$filter")


# ---- assignments -------------------------------------------------------------------------------------------------------


def test_an_assignment_is_made_shown_and_taken_away(admin: Arm, somebody: Callable[[], Arm]) -> None:
    who, name = somebody().oid, str(uuid.uuid4())
    made = admin.assign(
        admin.group.upper().replace("/SUBSCRIPTIONS", "/subscriptions"), "Reader", who, name, description="why"
    )
    again = admin.assign(admin.group, "READER", who, name, description="another")

    assert (made.status_code, again.status_code) == (201, 200)
    fields = made.json()["properties"]
    assert (fields["scope"], fields["principalId"], fields["principalType"]) == (admin.group, who, "ServicePrincipal")
    assert made.json()["id"] == f"{admin.group}{PROVIDER}/roleAssignments/{name}"
    assert admin.send("GET", made.json()["id"]).json() == again.json()
    assert again.json()["properties"]["description"] == "another"
    assert again.json()["properties"]["createdOn"] == fields["createdOn"]
    assert admin.send("DELETE", made.json()["id"]).json() == again.json()
    assert admin.send("DELETE", made.json()["id"]).status_code == 204
    assert admin.send("GET", made.json()["id"]).json()["error"]["code"] == "RoleAssignmentNotFound"


def test_the_same_again_is_a_conflict_or_no_change(admin: Arm, somebody: Callable[[], Arm]) -> None:
    who, name = somebody().oid, str(uuid.uuid4())
    assert admin.assign(admin.group, "Reader", who, name).status_code == 201

    for reply, status, code in (
        (admin.assign(admin.group, "Reader", who), 409, "RoleAssignmentExists"),
        (admin.assign(admin.group, "Owner", who, name), 400, "RoleAssignmentUpdateNotPermitted"),
        (admin.assign(admin.subscription, "Reader", who, name), 400, "RoleAssignmentUpdateNotPermitted"),
        (admin.assign(admin.group, "Reader", who, "no-guid"), 400, "InvalidRoleAssignmentId"),
        (admin.assign(admin.group, "Reader", who, roleDefinitionId="nothing"), 404, "RoleDefinitionDoesNotExist"),
        (admin.assign(admin.group, "Reader", str(uuid.uuid4()), principalType=...), 400, "PrincipalNotFound"),
        (admin.assign(admin.group, "Reader", admin.oid, principalType="User"), 400, "UnmatchedPrincipalType"),
        (admin.assign(f"{admin.subscription}/resourceGroups/nothere", "Reader", who), 404, "ResourceGroupNotFound"),
        (admin.assign(f"{admin.group}/providers/Microsoft.App/sessionPools/nothere", "Reader", who), 404, "ResourceNotFound"),
        (admin.assign(f"{admin.group}/providers/Microsoft.Web/sites/x", "Reader", who), 404, "ResourceNotFound"),
        (admin.assign(admin.group, "Reader", who, condition="x"), 400, "InvalidPropertyValue"),
        (admin.assign(admin.group, "Reader", "a b"), 400, "InvalidPropertyValue"),
        (admin.assign(admin.group, "Reader", who, principalType="Robot"), 400, "InvalidPropertyValue"),
        (admin.assign(admin.group, "Reader", who, description="x" * 1025), 400, "InvalidPropertyValue"),
        (admin.assign(admin.group, "Reader", ...), 400, "InvalidPropertyValue"),  # type: ignore[arg-type]
        (admin.assign(admin.group, "Reader", 5), 400, "InvalidPropertyValue"),  # type: ignore[arg-type]
        (admin.send("PUT", f"{admin.group}{PROVIDER}/roleAssignments/{uuid.uuid4()}", json={}), 400, "InvalidPropertyValue"),
        (admin.send("PUT", f"{admin.group}{PROVIDER}/roleAssignments/{uuid.uuid4()}", content=b"["), 400, "InvalidRequestContent"),
        (admin.send("GET", f"/subscriptions/other{PROVIDER}/roleAssignments"), 403, "AuthorizationFailed"),
        (admin.send("GET", f"{PROVIDER}/roleAssignments"), 403, "AuthorizationFailed"),
    ):  # fmt: skip
        assert (reply.status_code, error_of(reply)["code"]) == (status, code), reply.text


def test_lists_show_what_the_filter_asks_for(admin: Arm, somebody: Callable[[], Arm]) -> None:
    who = somebody().oid
    below = admin.assign(admin.group, "Reader", who).json()["id"]
    above = admin.assign(admin.subscription, EXECUTOR, who).json()["id"]

    def ids(scope: str, filter: str) -> set[str]:
        found = admin.listed(scope, filter=filter)
        assert all(each["properties"]["scope"] for each in found)
        return {each["id"] for each in found} & {below, above}

    assert ids(admin.subscription, "") == ids(admin.group, "") == {below, above}
    assert ids(admin.subscription, "atScope()") == {above}
    assert ids(admin.group, "atScope()") == {below, above}
    assert ids(admin.group, "atScopeAndBelow()") == {below}
    assert ids(admin.group, f"principalId eq '{who.upper()}' and atScope()") == {below, above}
    assert ids(admin.group, f"principalId eq '{admin.oid}'") == set()
    assert ids(admin.group, f"assignedTo('{who}')") == {below, above}


def test_who_may_not_is_told_in_azures_words(admin: Arm, somebody: Callable[[], Arm]) -> None:
    """Reading takes a role, giving takes another; nothing is said of what there is."""
    other = somebody()
    refused = other.send("GET", f"{admin.group}{PROVIDER}/roleAssignments")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "AuthorizationFailed")
    assert (
        f"object id '{other.oid}' does not have authorization to perform action" in refused.json()["error"]["message"]
    )

    admin.assign(admin.group, "Contributor", other.oid)
    assert other.listed(admin.group)
    assert other.assign(admin.group, EXECUTOR, other.oid).status_code == 403
    assert other.send("GET", f"{admin.subscription}{PROVIDER}/roleAssignments").status_code == 403
    admin.assign(admin.group, "User Access Administrator", other.oid)
    assert other.assign(admin.group, EXECUTOR, other.oid).status_code == 201
    assert other.assign(admin.subscription, EXECUTOR, other.oid).status_code == 403


# ---- effect ------------------------------------------------------------------------------------------------------------


def test_a_grant_and_its_end_count_at_once_for_a_token_that_is_known(admin: Arm, somebody: Callable[[], Arm]) -> None:
    """The tutorial's order: a token, a refusal, a role, and the same token works; then the role goes."""
    caller = somebody()
    assert caller.metadata() == 403
    name = admin.assign(admin.group, EXECUTOR, caller.oid).json()["id"]
    assert caller.metadata() == 200
    assert admin.send("DELETE", name).status_code == 200
    assert caller.metadata() == 403


def test_what_another_writer_changes_counts_within_a_second(
    admin: Arm, somebody: Callable[[], Arm], server: Server
) -> None:
    """Another gateway on the same store, say: an assignment by way of a group, then the principal disabled."""
    caller, group = somebody(), str(uuid.uuid4())
    store = Store.open(f"sqlite:///{server.state}/store/carrel.db", State(server.state).store_keys())
    record = PrincipalRecord(caller.oid, "ServicePrincipal", groups=(group,))
    try:
        with store.transaction() as transaction:
            transaction.principals.put(PrincipalRecord(group, "Group"))
            transaction.principals.put(record)
            stamp = Stamp("test", "User", time.time())
            transaction.assignments.put(
                AssignmentRecord(group, admin.subscription, roles.EXECUTOR_ID, group, "Group", stamp)
            )
        assert eventually(lambda: caller.metadata() == 200, timeout=1.0)
        with store.transaction() as transaction:
            transaction.principals.put(
                PrincipalRecord(caller.oid, "ServicePrincipal", groups=(group,), is_enabled=False)
            )
        assert eventually(lambda: caller.metadata() == 403, timeout=1.0)
    finally:
        with store.transaction() as transaction:
            transaction.assignments.delete(group)
            transaction.principals.delete(group)
            transaction.principals.delete(caller.oid)
        store.close()


def test_the_last_owner_stays(admin: Arm, somebody: Callable[[], Arm]) -> None:
    """Neither a stranger nor an Owner of less than the subscription is one that could be left alone."""
    (owner,) = (
        each["id"]
        for each in admin.listed(admin.subscription, filter=f"atScope() and principalId eq '{admin.oid}'")
        if each["properties"]["roleDefinitionId"].endswith(roles.OWNER_ID)
    )
    admin.assign(admin.subscription, "Owner", str(uuid.uuid4()))
    admin.assign(admin.group, "Owner", admin.oid)

    refused = admin.send("DELETE", owner)

    assert (refused.status_code, error_of(refused)["code"]) == (409, "LastOwnerCannotBeRemoved")
    assert admin.send("GET", owner).status_code == 200


def test_the_same_assignment_by_many_at_once_is_made_once(admin: Arm, somebody: Callable[[], Arm]) -> None:
    """Under names of their own one of them wins; under one name all of them have it."""
    who, other, name = somebody().oid, somebody().oid, str(uuid.uuid4())
    with ThreadPoolExecutor(6) as threads:
        apart = list(threads.map(lambda _: admin.assign(admin.group, "Reader", who).status_code, range(12)))
        alike = list(threads.map(lambda _: admin.assign(admin.group, "Reader", other, name).status_code, range(12)))

    assert sorted(apart) == [201] + [409] * 11
    assert sorted(alike) == [200] * 11 + [201]
    assert len(admin.listed(admin.group, filter=f"principalId eq '{who}'")) == 1


def test_ownership_by_way_of_a_group_is_not_lost_either(admin: Arm, server: Server) -> None:
    """The last owner is a member of a group: neither its membership nor it nor the group can go, nor be disabled.

    Nor does an owner count that has no secret to sign in with, or its last secret go. An operator's token leads back.
    """
    state, base = State(server.state), server.connection["http"]
    claims = {"roles": ["Owner"], "carrel_pools": ["*"]}
    tokens = {each: state.issue_token(each, claims=claims) for each in (ARM_AUDIENCE, GRAPH_AUDIENCE)}

    def send(method: str, path: str, body: Any = None) -> httpx.Response:
        token = tokens[GRAPH_AUDIENCE if path.startswith("/v1.0") else ARM_AUDIENCE]
        query = {} if path.startswith("/v1.0") else {"api-version": "2022-04-01"}
        headers = {"Authorization": f"Bearer {token}"}
        return admin.http.request(method, base + path, params=query, headers=headers, json=body)

    group = send("POST", "/v1.0/groups", {"displayName": "owners"}).json()["id"]
    person: dict[str, Any] = {"userPrincipalName": f"{uuid.uuid4().hex}@example.org", "displayName": "U"}
    person["passwordProfile"] = {"password": "correct horse"}
    user = send("POST", "/v1.0/users", person).json()["id"]
    added = send("POST", f"/v1.0/groups/{group}/members/$ref", {"@odata.id": f"{base}/v1.0/directoryObjects/{user}"})
    assert added.status_code == 204, added.text
    assert admin.assign(admin.subscription, "Owner", group, principalType="Group").status_code == 201
    (own,) = (
        each
        for each in admin.listed(admin.subscription, filter=f"atScope() and principalId eq '{admin.oid}'")
        if each["properties"]["roleDefinitionId"].endswith(roles.OWNER_ID)
    )
    mute = send("POST", "/v1.0/servicePrincipals", {"displayName": "mute"}).json()["id"]
    assert admin.assign(admin.subscription, "Owner", mute).status_code == 201
    try:
        assert send("DELETE", own["id"]).status_code == 200
        for method, path, body in (
            ("DELETE", f"/v1.0/groups/{group}/members/{user}/$ref", None),
            ("PATCH", f"/v1.0/users/{user}", {"accountEnabled": False}),
            ("DELETE", f"/v1.0/users/{user}", None),
            ("DELETE", f"/v1.0/groups/{group}", None),
        ):
            refused = send(method, path, body)
            assert (refused.status_code, refused.json()["error"]["code"]) == (409, "LastOwnerCannotBeRemoved"), path
        assert admin.send("GET", f"{admin.subscription}{PROVIDER}/roleAssignments").status_code == 403, (
            "it was taken away"
        )
        secret = send("POST", f"/v1.0/servicePrincipals/{mute}/addPassword", {}).json()
        assert send("DELETE", f"/v1.0/groups/{group}").status_code == 204, "somebody else can sign in now"
        last = send("POST", f"/v1.0/servicePrincipals/{mute}/removePassword", {"keyId": secret["keyId"]})
        assert (last.status_code, last.json()["error"]["code"]) == (409, "LastOwnerCannotBeRemoved")
    finally:
        assert send("PUT", own["id"], {"properties": own["properties"]}).status_code in (200, 201)
        assert send("DELETE", f"/v1.0/groups/{group}").status_code in (204, 404)
        assert send("DELETE", f"/v1.0/users/{user}").status_code == 204
        assert send("DELETE", f"/v1.0/servicePrincipals/{mute}").status_code == 204
