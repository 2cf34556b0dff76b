"""Graph's look-ups over HTTP, as `az ad signed-in-user show` and `az role assignment` make them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest

from carrel.storage import APPLICATION, ARM_AUDIENCE, GRAPH_AUDIENCE, State
from carrel.store import PrincipalRecord, Store
from conftest import Server

pytestmark = pytest.mark.one_level


class People(NamedTuple):
    user: PrincipalRecord
    service: PrincipalRecord
    group: PrincipalRecord


@pytest.fixture(scope="module")
def people(server: Server) -> Iterator[People]:
    """A user, a service principal and a group that both are in, put into the server's store."""
    group = PrincipalRecord(str(uuid.uuid4()), "Group", display_name="Readers")
    inside = (group.id,)
    user = PrincipalRecord(
        str(uuid.uuid4()), "User", user_name="Ada.O'Neil@example.org", display_name="Ada O'Neil", groups=inside
    )
    service = PrincipalRecord(
        str(uuid.uuid4()), "ServicePrincipal", app_id=str(uuid.uuid4()), display_name="Ada's robot", groups=inside
    )
    store = Store.open(f"sqlite:///{server.state}/store/carrel.db", State(server.state).store_keys())
    with store.transaction() as transaction:
        for each in (group, user, service):
            transaction.principals.put(each)
    yield People(user, service, group)
    with store.transaction() as transaction:
        for each in (group, user, service):
            transaction.principals.delete(each.id)
    store.close()


class Graph:
    def __init__(
        self, server: Server, oid: str | None = None, audience: str = GRAPH_AUDIENCE, **claims: object
    ) -> None:
        self.server = server
        token = State(server.state).issue_token(audience, subject=oid, claims={**APPLICATION, **claims})
        self.http = httpx.Client(
            base_url=server.connection["http"], headers={"Authorization": f"Bearer {token}"}, trust_env=False
        )

    def get(self, path: str, status: int = 200, **query: str) -> Any:
        reply = self.http.get(path, params={f"${name}": text for name, text in query.items()})
        assert reply.status_code == status, reply.text
        return reply.json()

    def ids(self, path: str, filter: str) -> list[str]:
        return [each["id"] for each in self.get(path, filter=filter)["value"]]


@pytest.fixture(scope="module")
def graph(server: Server) -> Graph:
    """As the server's own principal, who may look at everybody."""
    return Graph(server)


@pytest.mark.parametrize("base", ["/v1.0", "/graph/v1.0", "/GRAPH/V1.0/"])
def test_me_is_who_asks(server: Server, graph: Graph, people: People, base: str) -> None:
    """A user, a service principal, and somebody of another issuer whom only the token knows."""
    assert graph.get(f"{base}/me")["id"] == State(server.state).object_id
    ada = Graph(server, people.user.id).get(f"{base}/me")
    assert (ada["id"], ada["userPrincipalName"]) == (people.user.id, people.user.user_name)
    stranger = Graph(server, str(uuid.uuid4()), upn="bob@elsewhere.example", idtyp="user").get(f"{base}/me")
    assert (stranger["userPrincipalName"], stranger["@odata.type"]) == (
        "bob@elsewhere.example",
        "#microsoft.graph.user",
    )


def test_people_are_found_by_what_az_asks(graph: Graph, people: People) -> None:
    """`--assignee` with a user name, an application's id, a display name."""
    user, service, group = people
    assert graph.ids("/v1.0/users", "userPrincipalName eq 'ada.o''neil@example.org'") == [user.id]
    assert graph.ids("/v1.0/users", f"mail eq 'nobody' or id eq '{user.id.upper()}'") == [user.id]
    assert graph.ids("/v1.0/users", "startswith(displayName,'ada') and accountEnabled eq true") == [user.id]
    assert graph.ids("/v1.0/users", "userPrincipalName eq 'nobody@example.org'") == []
    by_name = f"servicePrincipalNames/any(c:c eq '{service.app_id}')"
    for filter in (by_name, f"appId eq '{service.app_id}'", "displayName eq 'Ada''s robot'"):
        assert graph.ids("/v1.0/servicePrincipals", filter) == [service.id]
    assert len(graph.get("/v1.0/applications", filter=f"appId eq '{service.app_id}'")["value"]) == 1
    assert graph.ids("/v1.0/groups", "displayName eq 'readers'") == [group.id]


def test_one_is_shown_by_id_or_name(graph: Graph, people: People) -> None:
    user, service, group = people
    for path, id in (
        (f"users/{user.id.upper()}", user.id),
        ("users/ADA.O'Neil@example.org", user.id),
        (f"servicePrincipals/{service.id}", service.id),
        (f"servicePrincipals(appId='{service.app_id}')", service.id),
        (f"groups/{group.id}", group.id),
    ):
        assert graph.get(f"/v1.0/{path}")["id"] == id
    application = graph.get(f"/v1.0/applications(appId='{service.app_id}')")
    assert graph.get(f"/v1.0/applications/{application['id']}")["appId"] == service.app_id
    assert {each["id"] for each in graph.get(f"/v1.0/groups/{group.id}/members")["value"]} == {user.id, service.id}
    for path in (
        f"users/{service.id}",
        f"groups/{user.id}",
        f"servicePrincipals/{uuid.uuid4()}",
        "users/é",
        "applications/x",
    ):
        assert graph.get(f"/v1.0/{path}", 404)["error"]["code"] == "Request_ResourceNotFound"


def test_many_are_asked_for_at_once(graph: Graph, people: People) -> None:
    """What `az role assignment list` turns ids into names with."""
    ids = [people.user.id.upper(), people.service.id, people.group.id, str(uuid.uuid4()), people.user.id]

    def ask(**body: object) -> httpx.Response:
        return graph.http.post("/v1.0/directoryObjects/getByIds", json=body)

    assert [each["id"] for each in ask(ids=ids).json()["value"]] == [people.user.id, people.service.id, people.group.id]
    wanted = ask(ids=ids, types=["user", "ServicePrincipal", "directoryObjectPartnerReference"]).json()["value"]
    assert [each["@odata.type"] for each in wanted] == ["#microsoft.graph.user", "#microsoft.graph.servicePrincipal"]
    for reply in (ask(), ask(ids="x"), ask(ids=[5]), ask(ids=["x"] * 1001), ask(ids=[], types=5)):
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "Request_BadRequest")
    reply = graph.http.post("/v1.0/directoryObjects/getByIds", content=b"[", headers={"client-request-id": "mine"})
    error = reply.json()["error"]
    assert (reply.status_code, error["innerError"]["client-request-id"]) == (400, "mine")


@pytest.mark.parametrize("filter", ["nothing eq 'x'", "assignedTo('x')", "displayName ne 'x'", "(displayName eq 'x')"])
def test_a_filter_that_is_not_understood_is_refused(graph: Graph, filter: str) -> None:
    assert graph.get("/v1.0/users", 400, filter=filter)["error"]["code"] == "Request_UnsupportedQuery"


def test_who_has_no_role_sees_itself_alone(server: Server, graph: Graph, people: People) -> None:
    ada = Graph(server, people.user.id)

    assert [each["id"] for each in ada.get("/v1.0/users")["value"]] == [people.user.id]
    assert ada.get("/v1.0/servicePrincipals")["value"] == []
    ada.get(f"/v1.0/servicePrincipals/{people.service.id}", 404)
    asked = ada.http.post("/v1.0/directoryObjects/getByIds", json={"ids": [people.user.id, people.service.id]})
    assert [each["id"] for each in asked.json()["value"]] == [people.user.id]


def test_a_token_of_another_plane_is_refused(server: Server) -> None:
    for audience in (ARM_AUDIENCE, "https://dynamicsessions.io"):
        assert Graph(server, audience=audience).http.get("/v1.0/me").status_code == 401
    own = f"{server.connection['https']}/graph"
    assert Graph(server, audience=own).http.get("/graph/v1.0/me").status_code == 200
    assert Graph(server).http.get("/v1.0/nothing").status_code == 404
    assert Graph(server).http.delete("/v1.0/me").headers["allow"] == "GET, HEAD"
