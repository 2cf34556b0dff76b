"""What is called for the recordings, plane by plane: a day in the life of a server, so that each reply has something in it."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from authority_client import AZURE_CLI, DATA, DEVICE_GRANT, PASSWORD
from carrel import roles
from carrel.storage import POOL_CONTRIBUTOR, State
from management import SMALL
from processes import eventually
from recordings.recorder import Recorder

SESSION = {"identifier": "alice"}
OPERATOR = "2025-10-02-preview"
GRAPH = "https://graph.microsoft.com/.default"
_APP = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.App/sessionPools"
_GROUP = "/subscriptions/{subscription}/resourceGroups/{group}"
_RIGHTS = "providers/Microsoft.Authorization"


def all_planes(recorder: Recorder) -> None:
    for tell in (_open, _authority, _graph, _control_plane, _data_plane, _files, _mcp, _operators, _ends):
        tell(recorder)
    _whatever_is_left(recorder)


# ---- open and the authority ------------------------------------------------------------------------------------------------------


def _open(r: Recorder) -> None:
    for path in ("/health", "/openapi.json", "/extensions/index.json"):
        r.call("GET", path)
    r.call("GET", "/metrics", headers={"Authorization": f"Bearer {r.server.connection['arm_token']}"})
    r.call("GET", "/metadata/endpoints", query={"api-version": "2019-05-01"})
    r.names["file"] = "howdy-1.0.0-py2.py3-none-any.whl"
    index = r.call("GET", "/extensions/index.json", title=None).json()
    first = next(iter(index["extensions"].values()))[0]
    r.names["file"] = first["downloadUrl"].rpartition("/")[2]
    r.call("GET", "/extensions/{file}")
    resource = {"resource": "https://dynamicsessions.io", "api-version": "2019-08-01"}
    r.call("GET", "/msi/token", query=resource, headers={"X-IDENTITY-HEADER": r.server.connection["identity_header"]})
    r.call("GET", "/metadata/identity/oauth2/token", query=resource, headers={"Metadata": "true"})


def _authority(r: Recorder) -> None:
    for version in ("v2.0/", ""):
        r.call("GET", f"/{{tenant}}/{version}.well-known/openid-configuration")
        r.call("GET", f"/{{tenant}}/discovery/{version}keys")
        begin = {"client_id": AZURE_CLI, "response_type": "code"}
        r.call("GET", f"/{{tenant}}/oauth2/{version}authorize", query=begin, status=400)
    own = {"client_id": r.server.connection["client_id"], "client_secret": r.server.connection["client_secret"]}
    asked = {"grant_type": "client_credentials", **own}
    r.call("POST", "/{tenant}/oauth2/v2.0/token", data={**asked, "scope": "https://dynamicsessions.io/.default"})
    r.call("POST", "/{tenant}/oauth2/token", data={**asked, "resource": "https://management.azure.com"})
    told = r.call("POST", "/{tenant}/oauth2/v2.0/token", title=None, data={**asked, "scope": GRAPH}).json()
    r.tokens["graph"] = told["access_token"]


# ---- graph ---------------------------------------------------------------------------------------------------------------------


def _graph(r: Recorder) -> None:
    r.call("GET", "/v1.0/me")
    _users(r)
    _applications(r)
    _groups(r)


def _users(r: Recorder) -> None:
    profile = {"password": PASSWORD}
    user = {"userPrincipalName": "alice@recorded.example", "displayName": "Alice", "passwordProfile": profile}
    r.names["id"] = r.names["user"] = r.call("POST", "/v1.0/users", json=user).json()["id"]
    r.call("GET", "/v1.0/users")
    r.call("GET", "/v1.0/users/{id}")
    r.call("PATCH", "/v1.0/users/{id}", json={"displayName": "Alice Example"})
    _device(r)


def _device(r: Recorder) -> None:
    """Signing in as a user on a device, which is the one way to Alice's own routes."""
    asked = {"client_id": AZURE_CLI, "scope": f"{GRAPH} openid offline_access"}
    r.call(
        "POST", "/{tenant}/oauth2/devicecode", data={"client_id": AZURE_CLI, "resource": "https://management.azure.com"}
    )
    begun = r.call("POST", "/{tenant}/oauth2/v2.0/devicecode", data=asked).json()
    code = begun["user_code"]
    r.call("GET", "/device", query={"user_code": code})
    answer = {"user_code": code, "user_name": "alice@recorded.example", "password": PASSWORD, "answer": "approve"}
    r.call("POST", "/device", data=answer, headers={"Accept": "application/json"})
    poll = {"grant_type": DEVICE_GRANT, "client_id": AZURE_CLI, "device_code": begun["device_code"]}
    title = "For a device that a user has approved"
    tokens = r.call("POST", "/{tenant}/oauth2/v2.0/token", title=title, data=poll).json()
    own, r.tokens["graph"] = r.tokens["graph"], tokens["access_token"]
    change = {"currentPassword": PASSWORD, "newPassword": f"{PASSWORD} battery"}
    r.call("POST", "/v1.0/me/changePassword", json=change)
    r.tokens["graph"] = own
    for path in ("/{tenant}/oauth2/v2.0/revoke", "/{tenant}/oauth2/revoke"):
        r.call("POST", path, data={"token": tokens["refresh_token"], "client_id": AZURE_CLI})


def _applications(r: Recorder) -> None:
    for kind, name in (("applications", "reports"), ("servicePrincipals", "robot")):
        r.names["id"] = r.call("POST", f"/v1.0/{kind}", json={"displayName": name}).json()["id"]
        r.call("GET", f"/v1.0/{kind}")
        r.call("GET", f"/v1.0/{kind}/{{id}}")
        r.call("PATCH", f"/v1.0/{kind}/{{id}}", json={"displayName": f"{name} (old)"})
        secret = {"passwordCredential": {"displayName": "first"}}
        made = r.call("POST", f"/v1.0/{kind}/{{id}}/addPassword", json=secret).json()
        r.call("POST", f"/v1.0/{kind}/{{id}}/removePassword", json={"keyId": made["keyId"]})
        if kind == "applications":
            r.call("DELETE", "/v1.0/applications/{id}")
    r.names["service"] = r.names["id"]


def _groups(r: Recorder) -> None:
    group = {"displayName": "analysts", "mailEnabled": False, "mailNickname": "analysts", "securityEnabled": True}
    r.names["id"] = r.names["people"] = r.call("POST", "/v1.0/groups", json=group).json()["id"]
    r.call("GET", "/v1.0/groups")
    r.call("GET", "/v1.0/groups/{id}")
    r.call("PATCH", "/v1.0/groups/{id}", json={"displayName": "Analysts"})
    reference = {"@odata.id": f"https://graph.microsoft.com/v1.0/directoryObjects/{r.names['user']}"}
    r.call("POST", "/v1.0/groups/{id}/members/$ref", json=reference)
    r.call("GET", "/v1.0/groups/{id}/members")
    r.call("POST", "/v1.0/directoryObjects/getByIds", json={"ids": [r.names["user"]], "types": ["user"]})
    for kind, name in (("groups", "people"), ("servicePrincipals", "service"), ("users", "user")):
        r.names["id"] = r.names[name]
        r.call("POST", f"/v1.0/{kind}/{{id}}/getMemberGroups", json={"securityEnabledOnly": False})
    asked = {"groupIds": [r.names["people"]]}
    r.call("POST", "/v1.0/directoryObjects/{id}/checkMemberGroups", json=asked)
    r.names |= {"id": r.names["people"], "member": r.names["user"]}
    r.call("DELETE", "/v1.0/groups/{id}/members/{member}/$ref")
    r.call("DELETE", "/v1.0/groups/{id}")


# ---- the control plane -----------------------------------------------------------------------------------------------------------


def _control_plane(r: Recorder) -> None:
    r.names |= {"group": "recorded", "pool": "scratch", "namespace": "Microsoft.App", "role": roles.OWNER_ID}
    for path in (
        "/subscriptions",
        "/subscriptions/{subscription}",
        "/subscriptions/{subscription}/locations",
        "/tenants",
    ):
        r.call("GET", path)
    r.call("GET", "/subscriptions/{subscription}/providers")
    r.call("GET", "/subscriptions/{subscription}/providers/{namespace}")
    r.call("POST", "/subscriptions/{subscription}/providers/{namespace}/register")
    r.call("PUT", _GROUP, json={"location": "local", "tags": {"team": "research"}})
    r.call("GET", _GROUP)
    r.call("HEAD", _GROUP)
    r.call("PATCH", _GROUP, json={"tags": {"team": "data"}})
    r.call("GET", "/subscriptions/{subscription}/resourceGroups")
    _pool(r)
    r.call("GET", "/subscriptions/{subscription}/resources")
    r.call("GET", f"{_GROUP}/resources")
    for scope in (f"{_APP}/{{pool}}", _GROUP, "/subscriptions/{subscription}"):
        _rights(r, scope)


def _pool(r: Recorder) -> None:
    scale = {"maxConcurrentSessions": 5, "readySessionInstances": 0}
    network = {"status": "EgressEnabled"}
    carrel = {**SMALL, "egress": {"allow": ["pypi.org"]}}
    properties = {"poolManagementType": "Dynamic", "containerType": "PythonLTS", "scaleConfiguration": scale}
    body = {"location": "local", "properties": {**properties, "sessionNetworkConfiguration": network, "carrel": carrel}}
    made = r.call("PUT", f"{_APP}/{{pool}}", json=body)
    r.names["operation"] = made.headers["azure-asyncoperation"].partition("?")[0].rpartition("/")[2]
    place = "/subscriptions/{subscription}/providers/Microsoft.App/locations/{location}"
    _until(
        lambda: r.call("GET", f"{place}/operationStatuses/{{operation}}", title=None).json()["status"] == "Succeeded"
    )
    r.call("GET", f"{place}/operationStatuses/{{operation}}")
    r.call("GET", f"{place}/operationResults/{{operation}}")
    wrong = {"location": "local", "properties": {**properties, "containerType": "Cobol"}}
    r.call("PUT", f"{_APP}/{{pool}}", title="With a fault", status=400, json=wrong)
    r.call("PATCH", f"{_APP}/{{pool}}", json={"tags": {"stage": "test"}})
    r.call("GET", f"{_APP}/{{pool}}")
    r.call("GET", _APP)
    r.call("GET", "/subscriptions/{subscription}/providers/Microsoft.App/sessionPools")
    for word in ("fetchMcpServerCredentials", "rotateMcpServerCredentials", "regenerateCredentials"):
        mcp = {"properties": {"mcpServerSettings": {"isMcpServerEnabled": True}}}
        r.call("PATCH", f"{_APP}/{{pool}}", title=None, query={"api-version": "2025-02-02-preview"}, json=mcp)
        r.call("POST", f"{_APP}/{{pool}}/{word}")


def _rights(r: Recorder, scope: str) -> None:
    r.names["assignment"] = str(uuid.uuid4())
    definition = f"/subscriptions/{r.names['subscription']}/{_RIGHTS}/roleDefinitions/{roles.OWNER_ID}"
    who = {"roleDefinitionId": definition, "principalId": r.names["service"], "principalType": "ServicePrincipal"}
    r.call("PUT", f"{scope}/{_RIGHTS}/roleAssignments/{{assignment}}", json={"properties": who})
    for what in ("roleAssignments/{assignment}", "roleAssignments", "roleDefinitions/{role}"):
        r.call("GET", f"{scope}/{_RIGHTS}/{what}")
    r.call("GET", f"{scope}/{_RIGHTS}/roleDefinitions", query={"$filter": "roleName eq 'Owner'"})
    r.call("DELETE", f"{scope}/{_RIGHTS}/roleAssignments/{{assignment}}")


# ---- the data plane --------------------------------------------------------------------------------------------------------------


def _data_plane(r: Recorder) -> None:
    r.names["sessionPoolName"] = "python"
    old = {"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "print('hello'); 6 * 7"}}
    r.call("POST", "~/code/execute", query=SESSION, json=old)
    r.call("POST", "~/execute", query=SESSION, json={"code": "6 * 7"})
    r.call("POST", "~/python/execute", json={"properties": {"identifier": "alice", "code": "6 * 7"}})
    told = r.call("POST", "~/executions", query=SESSION, json={"code": "print('hello'); 6 * 7"}).json()
    r.call("POST", "~/executions", title="A shell command", query=SESSION, json={"shellCommand": "echo hello; exit 3"})
    r.call("POST", "~/executions", title="Code that fails", query=SESSION, json={"code": "1 / 0"})
    events = {"Accept": "text/event-stream"}
    code = {"code": "print('hello'); 6 * 7"}
    r.call("POST", "~/executions", title="As events, while it runs", query=SESSION, headers=events, json=code)
    r.call("POST", "~/executions", title="Without an identifier", status=400, json={"code": "1"})
    r.names["id"] = told["id"]
    r.call("GET", "~/executions", query=SESSION)
    r.call("GET", "~/executions/{id}", query=SESSION)
    r.call("POST", "~/executions/{id}/cancel", query=SESSION)
    _session(r)
    r.call("GET", "~/metadata")
    r.call("GET", "~/listSessions")
    r.call("POST", "~/.management/listSessions")
    r.call("POST", "~/.carrel/token", json={"identifier": "alice", "ttlInSeconds": 900})


def _session(r: Recorder) -> None:
    r.call("PUT", "~/session", query={"identifier": "bob-1"}, json={"environment": {"STAGE": "test"}})
    r.call("GET", "~/session", query=SESSION)
    r.call("GET", "~/session", title="Of nobody", status=404, query={"identifier": "nobody"})
    r.call("POST", "~/session/keepAlive", query=SESSION)
    r.call("PUT", "~/session/variables", query=SESSION, json={"rows": [1, 2, 3]})
    r.call("GET", "~/session/variables", query={**SESSION, "name": "rows"})
    r.call("GET", "~/session/variables", title="What there is", query={**SESSION, "summary": "true"})
    r.call("POST", "~/session/cancel", query=SESSION)
    r.call("POST", "~/session/restart", query=SESSION)
    r.call("POST", "~/.management/getSession", query=SESSION)


def _files(r: Recorder) -> None:
    def upload(path: str, name: str, *, title: str | None = "", query: Any = SESSION) -> None:
        r.call("POST", path, title=title, query=query, files={"file": (name, b"name,age\nada,36\n", "text/csv")})

    upload("~/files", "people.csv")
    upload("~/files/upload", "upload")
    upload("~/python/uploadFile", "more.csv")
    r.call("GET", "~/files", query=SESSION)
    r.names["name"] = "people.csv"
    r.call("GET", "~/files/{name}", query=SESSION)
    r.call("GET", "~/files/{name}/content", query=SESSION)
    r.call("GET", "~/files/{name}/content", title="A part", query=SESSION, headers={"Range": "bytes=0-7"})
    r.call("GET", "~/files/content/{name}", query=SESSION)
    r.call("GET", "~/python/downloadFile", query={**SESSION, "filename": "people.csv"})
    r.call("GET", "~/files/upload", query=SESSION)
    r.call("DELETE", "~/files/upload", query=SESSION)
    r.call("POST", "~/files/{name}/rename", query=SESSION, json={"to": "results/people.csv"})
    r.names["name"] = "results"
    r.call("POST", "~/files/{name}/mkdir", query=SESSION)
    for word in ("rename", "mkdir"):  # files of these names
        upload("~/files", word, title=None, query={**SESSION, "path": "results"})
        r.call("GET", f"~/files/{{name}}/{word}", query=SESSION)
        r.call("DELETE", f"~/files/{{name}}/{word}", query=SESSION)
    r.names["name"] = "last.csv"
    for path in ("~/files/content/{name}", "~/files/{name}"):
        upload("~/files", "last.csv", title=None)
        r.call("DELETE", path, query=SESSION)
    r.call("DELETE", "~/files/{name}", title="That is not there", status=404, query=SESSION)


def _mcp(r: Recorder) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "example", "version": "1"}}
    key = {"x-ms-apikey": r.server.connection["pools"]["python"]["mcp_key"]}
    both = {**key, "Accept": "application/json, text/event-stream"}
    begin = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    begun = r.call("POST", "~/mcp", headers=both, json=begin)
    session = {**both, "Mcp-Session-Id": begun.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-06-18"}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    r.call("POST", "~/mcp", title="What a client says then", headers=session, json=ready)
    asked = {"name": "launchPythonEnvironment", "arguments": {}}
    call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asked}
    r.call("POST", "~/mcp", title="A tool", headers=session, json=call)

    def end() -> None:
        r.call("DELETE", "~/mcp", headers=session)

    r.call("GET", "~/mcp", headers=session, meanwhile=end)


def _operators(r: Recorder) -> None:
    """Routes for operators, on the pool that may reach a network."""
    r.names |= {"sessionPoolName": "scratch", "resourceGroupName": "recorded"}
    usual = r.tokens["data plane"]
    r.tokens["data plane"] = State(r.server.state).issue_token(DATA, roles=[POOL_CONTRIBUTOR])
    r.call("GET", "~/.carrel/image")
    r.call("PUT", "~/.carrel/image", json={"image": "python-slim"})
    r.call("PUT", "~/.carrel/egress", json={"allow": ["pypi.org", "*.pythonhosted.org"]})
    r.call("GET", "~/.carrel/egress")
    r.call("POST", "~/.carrel/egress/test", json={"host": "example.org", "port": 443})
    r.names |= {"sessionPoolName": "python", "resourceGroupName": r.server.connection["resource_group"]}
    r.tokens["data plane"] = usual


def _ends(r: Recorder) -> None:
    def end() -> None:
        r.call("DELETE", "~/session", query=SESSION)

    r.call("GET", "~/session/events", query=SESSION, meanwhile=end)
    r.call("POST", "~/.management/stopSession", query={"identifier": "bob-1"})
    r.call("DELETE", f"{_APP}/{{pool}}")
    _until(lambda: r.call("GET", f"{_APP}/{{pool}}", title=None, status=404))
    gone = r.call("DELETE", _GROUP)
    r.names["operation"] = gone.headers["location"].partition("?")[0].rpartition("/")[2]
    place = "/subscriptions/{subscription}"
    r.call("GET", f"{place}/operationStatuses/{{operation}}", query={"api-version": "2021-04-01"})
    r.call("GET", f"{place}/operationResults/{{operation}}", query={"api-version": "2021-04-01"})
    for kind, name in (("servicePrincipals", "service"), ("users", "user")):
        r.names["id"] = r.names[name]
        r.call("DELETE", f"/v1.0/{kind}/{{id}}")


def _whatever_is_left(r: Recorder) -> None:
    """Reading routes that nobody wrote a line for: as they answer to who asks for nothing in particular."""
    r.names["file"] = "theme.js"  # of the console
    done = {each.operation.key for each in r.recordings}
    r.call("POST", "~/executions", title=None, query=SESSION, json={"code": "1"})
    for method, path in [key for key in r.known if key not in done and key[0] == "GET"]:
        r.call(method, path, query=SESSION if "/session" in path and "sessionPools" in path else {})
    r.call("GET", "/.carrel/usage", title="As CSV", headers={"Accept": "text/csv"})
    r.call("DELETE", "~/session", title=None, query=SESSION)


def _until(question: Callable[[], object]) -> None:
    """Of work in progress, which the server tells of when it is asked."""

    def is_so() -> bool:
        try:
            return bool(question())
        except AssertionError:
            return False

    assert eventually(is_so, 60)
