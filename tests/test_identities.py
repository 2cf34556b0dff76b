"""Making, changing and deleting identities over Graph, and what that does to who can sign in and what they may."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from authority_client import DATA, GRAPH, PASSWORD, SCOPE, Asker, refusal
from conftest import Server
from processes import eventually

pytestmark = pytest.mark.one_level

ARM = "https://management.azure.com"
EXECUTOR = "0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"
CONTRIBUTOR = "b24988ac-6180-42a0-ab88-20f7382dd24c"


@pytest.fixture(scope="module")
def manager(server: Server) -> Asker:
    return Asker(server)


def assign(manager: Asker, principal: dict[str, Any], role: str, kind: str = "ServicePrincipal") -> None:
    """Give it a role on the subscription."""
    scope = f"/subscriptions/{manager.connection['subscription']}"
    token = manager.token(**manager.secret(scope=f"{ARM}/.default")).json()["access_token"]
    bag = {
        "roleDefinitionId": f"{scope}/providers/Microsoft.Authorization/roleDefinitions/{role}",
        "principalId": principal["id"],
        "principalType": kind,
    }
    reply = manager.http.put(
        f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}?api-version=2022-04-01",
        json={"properties": bag},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert reply.status_code == 201, reply.text


def executes(server: Server, token: str) -> int:
    """The status of a call of the data plane that starts nothing."""
    reply = httpx.get(
        f"{server.endpoint}/listSessions",
        params={"api-version": "2025-10-02-preview"},
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
    )
    return reply.status_code


def sign_in(manager: Asker, application: dict[str, Any], secret: str, scope: str = SCOPE) -> httpx.Response:
    return manager.token(**manager.secret(client_id=application["appId"], client_secret=secret, scope=scope))


def add_secret(
    manager: Asker, application: dict[str, Any], body: object = None, what: str = "servicePrincipals"
) -> dict[str, Any]:
    reply = manager.graph("POST", f"/{what}/{application['id']}/addPassword", body or {})
    assert reply.status_code == 200, reply.text
    return dict(reply.json())


def test_an_applications_life(manager: Asker, server: Server) -> None:
    """Made without rights; two secrets at once, so that one can be rotated; deleted with its rights, also those of tokens that are out."""
    application = manager.application()
    first, second = add_secret(manager, application), add_secret(manager, application)

    token = sign_in(manager, application, first["secretText"]).json()["access_token"]
    assert manager.claims(token, DATA)["oid"] == application["id"]
    assert executes(server, token) == 403
    assign(manager, application, EXECUTOR)
    assert eventually(lambda: executes(server, token) == 200, 1.0)
    removed = manager.graph("POST", f"/servicePrincipals/{application['id']}/removePassword", {"keyId": first["keyId"]})
    assert removed.status_code == 204
    assert refusal(sign_in(manager, application, first["secretText"])) == (401, "invalid_client", 7000215)
    assert sign_in(manager, application, second["secretText"]).status_code == 200
    assert manager.graph("DELETE", f"/servicePrincipals/{application['id']}").status_code == 204
    assert eventually(lambda: executes(server, token) == 403, 1.0)
    assert refusal(sign_in(manager, application, second["secretText"])) == (400, "unauthorized_client", 700016)


def test_az_makes_a_service_principal(manager: Asker) -> None:
    """`az ad sp create-for-rbac`: an application, its service principal, a secret of the application."""
    name = f"rbac-{uuid.uuid4().hex[:8]}"
    application = manager.graph("POST", "/applications", {"displayName": name}).json()

    principal = manager.graph("POST", "/servicePrincipals", {"appId": application["appId"], "accountEnabled": True})
    secret = add_secret(manager, application, {"passwordCredential": {"displayName": "rbac"}}, "applications")

    assert (principal.status_code, principal.json()["displayName"]) == (201, name)
    assert sign_in(manager, application, secret["secretText"]).status_code == 200
    (shown,) = manager.graph("GET", f"/applications/{application['id']}").json()["passwordCredentials"]
    assert (shown["keyId"], shown["secretText"]) == (secret["keyId"], None)  # what `credential reset` removes


@pytest.mark.thorough
def test_a_secret_ends_when_it_was_said_to(manager: Asker) -> None:
    """Whoever knows it is told that it has expired, others that it is wrong."""
    application = manager.application()
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    secret = add_secret(manager, application, {"passwordCredential": {"endDateTime": end}})

    assert sign_in(manager, application, secret["secretText"]).status_code == 200
    assert eventually(lambda: sign_in(manager, application, secret["secretText"]).status_code == 401, 4.0)
    assert refusal(sign_in(manager, application, secret["secretText"])) == (401, "invalid_client", 7000222)
    assert refusal(sign_in(manager, application, secret["secretText"] + "x")) == (401, "invalid_client", 7000215)


@pytest.mark.parametrize("end", ["9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59-14:00"])
def test_a_secret_may_end_at_the_last_moment_there_is(manager: Asker, end: str) -> None:
    """What .NET calls the last is rounded beyond it; the secret would be made and never told, and its application not be shown any more."""
    application = manager.application()
    secret = add_secret(manager, application, {"passwordCredential": {"endDateTime": end}})

    assert secret["endDateTime"] == "9999-12-31T23:59:59Z"
    assert manager.graph("GET", f"/servicePrincipals/{application['id']}").status_code == 200


def test_no_secret_is_kept_or_listed(manager: Asker, server: Server) -> None:
    """Not in the files of the state folder, not in what Graph shows."""
    application, user = manager.application(), manager.user("Tr0ub4dor & 3")
    secret = add_secret(manager, application)["secretText"]

    files = [each.read_bytes() for each in (server.state / "store").iterdir() if each.is_file()]
    shown = [manager.graph("GET", f"/{what}").text for what in ("users", "servicePrincipals", "applications")]

    assert any(application["appId"].encode() in each for each in files), "the right files were looked at"
    assert not any(secret.encode() in each or b"Tr0ub4dor" in each for each in files)
    assert not any(secret in each or "scrypt" in each for each in shown)
    assert user["userPrincipalName"] in shown[0]


def test_a_disabled_application_has_no_tokens_and_no_rights(manager: Asker, server: Server) -> None:
    application = manager.application()
    secret = add_secret(manager, application)["secretText"]
    assign(manager, application, EXECUTOR)
    token = sign_in(manager, application, secret).json()["access_token"]
    assert eventually(lambda: executes(server, token) == 200, 1.0)

    manager.graph("PATCH", f"/servicePrincipals/{application['id']}", {"accountEnabled": False})

    assert eventually(lambda: executes(server, token) == 403, 1.0)
    assert refusal(sign_in(manager, application, secret)) == (400, "unauthorized_client", 7000112)


def test_who_may_not_give_roles_may_not_make_anybody(manager: Asker) -> None:
    """A Contributor that could set the Owner's password would be Owner."""
    contributor = manager.application()
    assign(manager, contributor, CONTRIBUTOR)
    secret = add_secret(manager, contributor)["secretText"]
    token = sign_in(manager, contributor, secret, f"{GRAPH}/.default").json()["access_token"]
    user, group = manager.user(), manager.graph("POST", "/groups", {"displayName": "g"}).json()
    member = f"{GRAPH}/v1.0/directoryObjects/{contributor['id']}"

    attempts: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/users", {"userPrincipalName": "eve", "displayName": "eve"}),
        ("PATCH", f"/users/{user['id']}", {"passwordProfile": {"password": "evil evil"}}),
        ("DELETE", f"/users/{user['id']}", {}),
        ("POST", "/servicePrincipals", {"displayName": "eve"}),
        ("POST", "/applications", {"displayName": "eve"}),
        ("POST", f"/servicePrincipals/{manager.connection['object_id']}/addPassword", {}),
        ("POST", f"/servicePrincipals/{contributor['id']}/addPassword", {}),
        ("POST", f"/servicePrincipals/{contributor['id']}/removePassword", {}),
        ("PATCH", f"/servicePrincipals/{contributor['id']}", {"displayName": "eve"}),
        ("DELETE", f"/servicePrincipals/{contributor['id']}", {}),
        ("POST", "/groups", {"displayName": "eve"}),
        ("PATCH", f"/groups/{group['id']}", {"displayName": "eve"}),
        ("DELETE", f"/groups/{group['id']}", {}),
        ("POST", f"/groups/{group['id']}/members/$ref", {"@odata.id": member}),
        ("DELETE", f"/groups/{group['id']}/members/{contributor['id']}/$ref", {}),
    ]
    for method, path, body in attempts:
        reply = manager.graph(method, path, body, token=token)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "Authorization_RequestDenied"), path
    for audience in (SCOPE, f"{ARM}/.default"):
        other = manager.token(**manager.secret(scope=audience)).json()["access_token"]
        assert manager.graph("POST", "/users", {"userPrincipalName": "eve"}, token=other).status_code == 401


def test_a_groups_roles_are_its_members(manager: Asker, server: Server) -> None:
    """As long as they are in it, and it is there."""
    application = manager.application()
    secret = add_secret(manager, application)["secretText"]
    token = sign_in(manager, application, secret).json()["access_token"]
    group = manager.graph("POST", "/groups", {"displayName": "executors", "mailEnabled": False}).json()
    assign(manager, group, EXECUTOR, "Group")
    member = {"@odata.id": f"{GRAPH}/v1.0/directoryObjects/{application['id']}"}
    assert executes(server, token) == 403

    assert manager.graph("POST", f"/groups/{group['id']}/members/$ref", member).status_code == 204
    assert eventually(lambda: executes(server, token) == 200, 1.0)
    assert manager.graph("POST", f"/groups/{group['id']}/members/$ref", member).status_code == 400
    asked = {"groupIds": [str(uuid.uuid4()), group["id"].upper()]}
    inside = manager.graph("POST", f"/directoryObjects/{application['id']}/checkMemberGroups", asked).json()["value"]
    listed = manager.graph("POST", f"/servicePrincipals/{application['id']}/getMemberGroups", {}).json()["value"]
    assert inside == listed == [group["id"]]
    assert manager.graph("DELETE", f"/groups/{group['id']}/members/{application['id']}/$ref").status_code == 204
    assert eventually(lambda: executes(server, token) == 403, 1.0)
    assert manager.graph("DELETE", f"/groups/{group['id']}/members/{application['id']}/$ref").status_code == 404
    manager.graph("POST", f"/groups/{group['id']}/members/$ref", member)
    assert eventually(lambda: executes(server, token) == 200, 1.0)
    assert manager.graph("DELETE", f"/groups/{group['id']}").status_code == 204
    assert eventually(lambda: executes(server, token) == 403, 1.0)


def test_the_last_way_in_cannot_be_closed(manager: Asker) -> None:
    """The server's own identity is the only Owner: it can be neither disabled nor deleted, and goes on working."""
    own = f"/servicePrincipals/{manager.connection['object_id']}"

    disabled = manager.graph("PATCH", own, {"accountEnabled": False})
    deleted = manager.graph("DELETE", own)

    assert (disabled.status_code, disabled.json()["error"]["code"]) == (409, "LastOwnerCannotBeRemoved")
    assert (deleted.status_code, deleted.json()["error"]["code"]) == (403, "Authorization_RequestDenied")
    assert manager.token(**manager.secret()).status_code == 200


def test_a_user_name_is_one_persons(manager: Asker) -> None:
    """Also where eight ask for it at once, and in another case."""
    name = f"Twin{uuid.uuid4().hex[:8]}"

    def create(number: int) -> int:
        spelled = name.upper() if number % 2 else name
        return manager.graph("POST", "/users", {"userPrincipalName": spelled, "displayName": "twin"}).status_code

    with ThreadPoolExecutor(8) as several:
        statuses = list(several.map(create, range(8)))

    assert sorted(statuses) == [201] + [409] * 7


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/users", {}),
        ("/users", {"userPrincipalName": None}),
        ("/users", {"userPrincipalName": "with space"}),
        ("/users", {"userPrincipalName": "a/../b"}),
        ("/users", {"userPrincipalName": "x" * 257}),
        ("/users", {"userPrincipalName": "nul\x00"}),
        ("/users", {"userPrincipalName": 7}),
        ("/users", {"userPrincipalName": "half\ud800"}),
        ("/users", {"userPrincipalName": "ecila\u202e"}),
        ("/users", {"userPrincipalName": "ali\u200bce"}),
        ("/users", {"userPrincipalName": "ok", "passwordProfile": {"password": "short"}}),
        ("/users", {"userPrincipalName": "ok", "passwordProfile": {"password": "x" * 1025}}),
        ("/users", {"userPrincipalName": "ok", "passwordProfile": "x"}),
        ("/users", {"userPrincipalName": "ok", "accountEnabled": "yes"}),
        ("/users", {"userPrincipalName": "ok", "displayName": "\u202e\n"}),
        ("/users", []),
        ("/servicePrincipals", {}),
        ("/servicePrincipals", {"displayName": ""}),
        ("/servicePrincipals", {"displayName": "x", "appId": "no guid"}),
        ("/groups", {"displayName": {"a": 1}}),
    ],
)
def test_what_makes_no_identity_is_refused(manager: Asker, path: str, body: object) -> None:
    reply = manager.graph("POST", path, body)

    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "Request_BadRequest"), reply.text


def test_the_client_ids_of_azures_programs_are_nobodys(manager: Asker) -> None:
    """An application that was the Azure CLI would be handed what users sign in with."""
    body = {"displayName": "az", "appId": "04B07795-8ddb-461a-bbee-02f9e1bf7b46"}

    assert manager.graph("POST", "/servicePrincipals", body).status_code == 409
    assert manager.graph("POST", "/applications", body).status_code == 409


@pytest.mark.parametrize(
    "id", ["nobody", "%D0%BD%D0%B8%D0%BA", "%2e%2e", "11111111-1111-1111-1111-111111111111", "x" * 3000]
)
def test_nobody_is_not_found(manager: Asker, id: str) -> None:
    for what in ("users", "groups", "servicePrincipals", "applications"):
        assert manager.graph("DELETE", f"/{what}/{id}").status_code == 404


def test_people_change_their_own_password(manager: Asker) -> None:
    """Who knows the old one; the sign-ins that were made with it end, and nobody else's password is touched."""
    user = manager.user()
    begun = manager.device(f"{GRAPH}/.default offline_access")
    manager.answer(begun["user_code"], user)
    fields = manager.poll(begun["device_code"]).json()
    token, new = fields["access_token"], "battery staple"

    wrong = {"currentPassword": "not this one", "newPassword": new}
    assert manager.graph("POST", "/me/changePassword", wrong, token=token).status_code == 403
    right = {"currentPassword": PASSWORD, "newPassword": new}
    assert manager.graph("POST", "/me/changePassword", right, token=token).status_code == 204
    assert refusal(manager.refresh(fields["refresh_token"])) == (400, "invalid_grant", 70000)
    code = manager.device()["user_code"]
    assert manager.answer(code, user).status_code == 403
    assert manager.answer(code, user, password=new).status_code == 200


def test_managed_identities_are_told_apart(manager: Asker, server: Server) -> None:
    """By client id, object id or resource id, as Azure's clients name them; one that is not there, or disabled, is no other's token."""
    made = manager.application(servicePrincipalType="ManagedIdentity")
    resource_id = (
        f"/subscriptions/{manager.connection['subscription']}/resourceGroups/default"
        f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{made['displayName']}"
    )

    def ask(**named: str) -> httpx.Response:
        return httpx.get(
            manager.connection["identity_endpoint"],
            params={"api-version": "2019-08-01", "resource": DATA, **named},
            headers={"X-IDENTITY-HEADER": manager.connection["identity_header"]},
            trust_env=False,
        )

    for named in ({"client_id": made["appId"]}, {"object_id": made["id"]}, {"mi_res_id": resource_id}):
        assert manager.claims(ask(**named).json()["access_token"], DATA)["oid"] == made["id"]
    assert manager.claims(ask().json()["access_token"], DATA)["oid"] == manager.connection["object_id"]
    assert ask(client_id=made["appId"], object_id=made["id"]).status_code == 400
    assert ask(client_id=str(uuid.uuid4())).status_code == 400
    assert ask(mi_res_id="/somewhere").status_code == 400
    assert manager.graph("POST", f"/servicePrincipals/{made['id']}/addPassword", {}).status_code == 400
    assert sign_in(manager, made, "").status_code == 400
    manager.graph("PATCH", f"/servicePrincipals/{made['id']}", {"accountEnabled": False})
    assert ask(client_id=made["appId"]).status_code == 400
