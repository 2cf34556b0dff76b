"""What the control plane tells whom: rights come before anything is looked for."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from carrel.roles import EXECUTOR_ID, OWNER_ID
from carrel.storage import APPLICATION, ARM_AUDIENCE, State
from management import APP, RESOURCES, SMALL, Management, error_of

pytestmark = pytest.mark.one_level

READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
CONTRIBUTOR = "f7669afb-68b2-44b4-9c5f-6d2a47fddda0"  # of session pools


class Person:
    """A principal with what it is given, and a token without any claim about rights."""

    def __init__(self, managed: Management) -> None:
        self.managed, self.id = managed, str(uuid.uuid4())
        self.token = State(managed.server.state).issue_token(ARM_AUDIENCE, subject=self.id, claims={**APPLICATION})

    def given(self, role: str, scope: str) -> Person:
        path = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        definition = f"/providers/Microsoft.Authorization/roleDefinitions/{role}"
        fields = {"principalId": self.id, "principalType": "ServicePrincipal", "roleDefinitionId": definition}
        self.managed.ask("PUT", path, 201, version="2022-04-01", json={"properties": fields})
        return self

    def send(self, method: str, path: str, version: str = APP, **options: Any) -> httpx.Response:
        return self.managed.send(method, path, version=version, token=self.token, **options)

    def status(self, method: str, path: str, version: str = APP, **options: Any) -> int:
        return self.send(method, path, version, **options).status_code

    def names(self, path: str, version: str = APP) -> list[str]:
        """Of the resources in a list."""
        reply = self.send("GET", path, version)
        assert reply.status_code == 200, reply.text
        return [each["name"] for each in reply.json()["value"]]


@pytest.fixture(scope="module")
def pools(managed: Management) -> list[str]:
    """Two of them, without a session ready."""
    body = {"location": "local", "properties": {"carrel": SMALL, "scaleConfiguration": {"readySessionInstances": 0}}}
    paths = [managed.pool(name) for name in ("seen", "unseen")]
    for path in paths:
        managed.wait(managed.ask("PUT", path, 201, json=body))
    return paths


def test_a_stranger_learns_nothing(managed: Management, pools: list[str]) -> None:
    """The same answer for what is there and for what is not."""
    stranger = Person(managed)
    absent = managed.pool("absent")
    nowhere = managed.group_path.replace(managed.group, "nowhere")
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        for there, missing in ((pools[0], absent), (managed.group_path, nowhere)):
            version = RESOURCES if there == managed.group_path else APP
            first, second = (stranger.send(method, path, version, json={}) for path in (there, missing))
            error_of(first, 403, "AuthorizationFailed")
            error_of(second, 403, "AuthorizationFailed")
    for path in (managed.group_path, nowhere):
        assert stranger.status("GET", f"{path}/providers/Microsoft.App/sessionPools") == 403
        assert stranger.status("GET", f"{path}/resources", RESOURCES) == 403
        assert stranger.status("HEAD", path, RESOURCES) == 403
    for verb in ("fetchMcpServerCredentials", "rotateMcpServerCredentials", "regenerateCredentials"):
        assert {stranger.status("POST", f"{path}/{verb}") for path in (pools[0], absent)} == {403}
    everything = f"/subscriptions/{managed.subscription}"
    assert stranger.send("GET", "/subscriptions", RESOURCES).json()["value"] == []
    assert stranger.names(f"{everything}/resourceGroups", RESOURCES) == []
    for path in (everything, f"{everything}/locations", f"{everything}/providers", f"{everything}/resources"):
        assert stranger.status("GET", path, RESOURCES) == 403


def test_lists_show_what_the_caller_may_read(managed: Management, pools: list[str]) -> None:
    """One pool of several is enough to sign in by: the subscription is listed."""
    reader = Person(managed).given(READER, pools[0])

    assert reader.names(f"{managed.group_path}/providers/Microsoft.App/sessionPools") == ["seen"]
    assert reader.names(f"/subscriptions/{managed.subscription}/providers/Microsoft.App/sessionPools") == ["seen"]
    assert reader.names(f"/subscriptions/{managed.subscription}/resources", RESOURCES) == ["seen"]
    assert len(reader.send("GET", "/subscriptions", RESOURCES).json()["value"]) == 1
    assert (reader.status("GET", pools[0]), reader.status("GET", pools[1])) == (200, 403)
    assert reader.status("GET", managed.group_path, RESOURCES) == 403


def test_each_role_does_what_it_says(managed: Management, pools: list[str]) -> None:
    executor = Person(managed).given(EXECUTOR_ID, pools[0])
    contributor = Person(managed).given(CONTRIBUTOR, pools[0])
    patch = {"tags": {"by": "contributor"}}

    assert (executor.status("GET", pools[0]), executor.status("PATCH", pools[0], json=patch)) == (200, 403)
    assert executor.status("POST", f"{pools[0]}/fetchMcpServerCredentials") == 403
    assert contributor.status("PATCH", pools[0], json=patch) == 202
    assert contributor.status("PATCH", pools[1], json=patch) == 403
    assert contributor.status("DELETE", managed.group_path, RESOURCES) == 403


def test_an_operation_is_for_who_began_it(managed: Management, pools: list[str]) -> None:
    """Also when the pool is gone, and its rights with it; and for those who may read the pool."""
    managed.make("fleeting")
    owner, stranger = Person(managed).given(OWNER_ID, managed.pool("fleeting")), Person(managed)
    made = owner.send("PATCH", managed.pool("fleeting"), json={"tags": {"a": "b"}})
    assert made.status_code == 202, made.text
    for address in (made.headers["azure-asyncoperation"], made.headers["location"]):
        error_of(stranger.send("GET", address), 404, "OperationNotFound")
        assert owner.status("GET", address) in (200, 202)
        assert managed.send("GET", address).status_code in (200, 202)
    deleted = owner.send("DELETE", managed.pool("fleeting"))
    managed.gone(deleted)
    assert owner.status("GET", managed.pool("fleeting")) == 403, "and 404 with a right that goes on for a moment"

    assert owner.status("GET", deleted.headers["location"]) == 204
    managed.make("fleeting")
    assert owner.status("GET", made.headers["azure-asyncoperation"]) == 200
    assert owner.status("GET", made.headers["location"]) == 403, "another's pool of the same name"
