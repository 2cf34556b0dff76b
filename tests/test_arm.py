"""Session pools and resource groups over the control plane of a running server."""

from __future__ import annotations

import concurrent.futures
import uuid
from typing import Any

import httpx
import pytest

from carrel.roles import EXECUTOR_ID
from carrel.wire.arm_versions import SESSION_POOLS
from management import APP, RESOURCES, SMALL, WITH_MCP, Management, error_of

pytestmark = pytest.mark.one_level


@pytest.fixture(scope="module")
def pool(managed: Management) -> dict[str, Any]:
    """One pool for the tests that leave it as it is."""
    return managed.make("common", {"scaleConfiguration": {"maxConcurrentSessions": 3, "readySessionInstances": 1}})


def execute(managed: Management, resource: dict[str, Any], code: str, identifier: str = "arm-test") -> httpx.Response:
    """On the data plane, with its own token."""
    address = f"{resource['properties']['poolManagementEndpoint']}/code/execute"
    query = {"api-version": "2024-02-02-preview", "identifier": identifier}
    return managed.send(
        "POST", address, version=None, query=query, json={"properties": {"code": code}}, token=_data(managed)
    )


def _data(managed: Management) -> str:
    return str(managed.server.connection["token"])


# ---- a pool's life -----------------------------------------------------------------------------------------------------------


def test_a_pool_is_made_used_changed_and_deleted(managed: Management) -> None:
    path = managed.pool("life")
    made = managed.ask(
        "PUT", path, 201, json={"location": "East US", "properties": {"carrel": SMALL}, "tags": {"a": "b"}}
    )

    assert made.json()["properties"]["provisioningState"] == "InProgress"
    assert made.headers["retry-after"] == "1"
    assert made.headers["azure-asyncoperation"].startswith(managed.server.connection["http"])
    told = managed.wait(made)
    assert told["resourceId"].endswith("/sessionPools/life")
    assert told["endTime"] >= told["startTime"]

    resource = managed.ask("GET", path).json()
    assert (resource["location"], resource["tags"], resource["type"]) == (
        "eastus",
        {"a": "b"},
        "Microsoft.App/sessionPools",
    )
    assert resource["properties"]["provisioningState"] == "Succeeded"
    assert resource["properties"]["carrel"]["level"] == "namespace"
    assert resource["systemData"]["createdByType"] == "Application"
    assert execute(managed, resource, "x = 20").json()["properties"]["status"] == "Success"

    changed = managed.ask("PATCH", path, 202, json={"properties": {"scaleConfiguration": {"maxConcurrentSessions": 1}}})
    managed.wait(changed)
    assert managed.ask("GET", changed.headers["location"]).json()["properties"]["scaleConfiguration"] == {
        "maxConcurrentSessions": 1
    }
    assert execute(managed, resource, "print(x)").json()["properties"]["stdout"] == "20\n"  # the session lives on

    deleted = managed.ask("DELETE", path, 202)
    assert deleted.content == b""
    assert managed.gone(deleted).status_code == 204
    assert managed.ask("DELETE", path, 204).content == b""
    error_of(managed.send("GET", path), 404, "ResourceNotFound")
    assert execute(managed, resource, "1").status_code == 404


def test_a_pool_that_cannot_be_served_has_failed_and_says_why(managed: Management) -> None:
    """No image of this name: the host's reason is told wherever one looks."""
    path = managed.pool("hopeless")
    made = managed.ask(
        "PUT", path, 201, json={"location": "local", "properties": {"carrel": {"image": "no-such-image"}}}
    )
    told = managed.wait(made, "Failed")

    assert "no-such-image" in told["error"]["message"]
    shown = managed.ask("GET", path).json()["properties"]
    assert shown["provisioningState"] == "Failed"
    assert "no-such-image" in shown["carrel"]["error"]
    error_of(managed.send("GET", made.headers["location"]), 409, "SessionPoolProvisioningFailed")

    mended = managed.ask("PATCH", path, 202, json={"properties": {"carrel": SMALL}})
    managed.wait(mended)
    assert managed.ask("GET", path).json()["properties"]["carrel"]["error"] is None


def test_an_equal_put_changes_nothing(managed: Management, pool: dict[str, Any]) -> None:
    """Neither the body that made it, nor what the server shows of it."""
    for version in (WITH_MCP, *SESSION_POOLS):
        again = managed.ask("PUT", managed.pool("common"), 200, json=pool, version=version)
        assert again.json()["etag"] == pool["etag"]
        assert "azure-asyncoperation" not in again.headers
    assert managed.ask("PATCH", managed.pool("common"), 200, json={}).json()["etag"] == pool["etag"]


@pytest.mark.parametrize("version", SESSION_POOLS)
def test_every_version_is_served(managed: Management, pool: dict[str, Any], version: str) -> None:
    shown = managed.ask(
        "GET", managed.pool("COMMON").replace("resourceGroups", "RESOURCEGROUPS"), version=version
    ).json()

    life = shown["properties"]["dynamicPoolConfiguration"]
    assert (life.get("lifecycleConfiguration") or life)["cooldownPeriodInSeconds"] == 300
    assert ("executionType" in life) == (version < "2025")
    assert shown["id"] == pool["id"]


def test_versions_are_demanded_and_told(managed: Management) -> None:
    path = managed.pool("common")
    error_of(managed.send("GET", path, version=None), 400, "MissingApiVersionParameter")
    assert (
        "2026-07-01"
        in error_of(managed.send("GET", path, version="2099-01-01"), 400, "InvalidApiVersionParameter")["message"]
    )


# ---- conditions and changes at once ------------------------------------------------------------------------------------------


def test_a_change_can_be_made_to_depend_on_what_is_there(managed: Management, pool: dict[str, Any]) -> None:
    path, body = managed.pool("common"), {"tags": {"x": "y"}}
    for headers in ({"If-Match": '"other"'}, {"If-None-Match": "*"}, {"If-None-Match": pool["etag"]}):
        for method in ("PUT", "PATCH", "DELETE"):
            error_of(managed.send(method, path, json=body, headers=headers), 412, "PreconditionFailed")
    error_of(
        managed.send("PUT", managed.pool("absent"), json={"location": "local"}, headers={"If-Match": "*"}),
        412,
        "PreconditionFailed",
    )
    error_of(managed.send("PATCH", path, json=body, headers={"If-Match": "no tag"}), 400, "InvalidParameter")
    shown = managed.ask("GET", path)
    assert shown.headers["etag"] == shown.json()["etag"] == pool["etag"]


def test_of_two_who_make_it_one_made_it(managed: Management) -> None:
    """And of changes at once none is lost."""
    path, body = managed.pool("contended"), {"location": "local", "properties": {"carrel": SMALL}}

    def make(_: int) -> int:
        return managed.send("PUT", path, json=body, headers={"If-None-Match": "*"}).status_code

    def tag(number: int) -> int:
        return managed.send("PATCH", path, json={"tags": {f"t{number}": "1"}}).status_code

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(make, range(4))) == [201, 412, 412, 412]
        assert set(threads.map(tag, range(8))) == {202}
    assert len(managed.ask("GET", path).json()["tags"]) == 8
    managed.gone(managed.ask("DELETE", path, 202))


# ---- keys --------------------------------------------------------------------------------------------------------------------


def test_the_key_for_mcp_is_told_and_exchanged(managed: Management) -> None:
    resource = managed.make("keyed", {"mcpServerSettings": {"isMcpServerEnabled": True}}, version=WITH_MCP)
    path = managed.pool("keyed")
    fetched = managed.ask("POST", f"{path}/fetchMCPServerCredentials").json()["apiKey"]
    assert managed.ask("POST", f"{path}/FETCHMcpServerCredentials", content=b"").json() == {"apiKey": fetched}

    def initialize(key: str) -> int:
        body = {"jsonrpc": "2.0", "id": "1", "method": "initialize"}
        address = resource["properties"]["mcpServerSettings"]["mcpServerEndpoint"]
        return managed.http.post(address, json=body, headers={"x-ms-apikey": key}).status_code

    assert initialize(fetched) == 200
    rotated = managed.ask("POST", f"{path}/rotateMcpServerCredentials").json()["apiKey"]
    assert rotated != fetched
    assert (initialize(fetched), initialize(rotated)) == (401, 200)
    regenerated = managed.ask("POST", f"{path}/regenerateCredentials").json()["apiKey"]
    assert (initialize(rotated), initialize(regenerated)) == (401, 200)

    off = managed.ask("PATCH", path, 202, json={"properties": {"mcpServerSettings": {"isMcpServerEnabled": False}}})
    managed.wait(off)
    error = error_of(managed.send("POST", f"{path}/fetchMcpServerCredentials"), 400, "SessionMCPServerNotEnabled")
    assert error["message"] == "Session pool 'keyed' does not have MCP Server enabled."
    assert initialize(regenerated) == 401


def test_secrets_are_written_and_never_told(managed: Management) -> None:
    value = uuid.uuid4().hex
    path = managed.pool("secretive")
    made = managed.make("secretive", {"secrets": [{"name": "api-key", "value": value}]})
    assert made["properties"]["secrets"] == [{"name": "api-key"}]
    kept = managed.ask(
        "PATCH", path, 202, json={"properties": {"secrets": [{"name": "api-key"}, {"name": "b", "value": "c"}]}}
    )
    managed.wait(kept)
    endpoint = made["properties"]["poolManagementEndpoint"]
    query = {"identifier": "secret-1", "api-version": "2025-10-02-preview"}
    environment = {"environment": {"TOLD": {"secretRef": "api-key"}}}
    managed.ask("PUT", f"{endpoint}/session", 201, version=None, query=query, json=environment, token=_data(managed))
    told = execute(managed, made, "import os; print(os.environ['TOLD'])", "secret-1").json()["properties"]["stdout"]

    assert told == f"{value}\n"
    assert value not in kept.text + managed.ask("GET", path).text
    assert all(value.encode() not in each.read_bytes() for each in (managed.server.state / "store").iterdir())


def test_rights_at_a_pool_go_with_it(managed: Management) -> None:
    """The next pool of the name begins without those of the last."""
    managed.make("given")
    name = str(uuid.uuid4())
    role = f"/subscriptions/{managed.subscription}/providers/Microsoft.Authorization/roleDefinitions/{EXECUTOR_ID}"
    principal = {"principalId": str(uuid.uuid4()), "principalType": "ServicePrincipal", "roleDefinitionId": role}
    assignment = f"{managed.pool('given')}/providers/Microsoft.Authorization/roleAssignments/{name}"
    managed.ask("PUT", assignment, 201, version="2022-04-01", json={"properties": principal})
    managed.gone(managed.ask("DELETE", managed.pool("given"), 202))

    everywhere = f"/subscriptions/{managed.subscription}/providers/Microsoft.Authorization/roleAssignments"
    assert name not in managed.ask("GET", everywhere, version="2022-04-01").text


# ---- faults ------------------------------------------------------------------------------------------------------------------


def test_all_faults_of_a_definition_are_told(managed: Management) -> None:
    body = {"properties": {"containerType": "CustomContainer", "scaleConfiguration": {"maxConcurrentSessions": "many"}}}
    error = error_of(managed.send("PUT", managed.pool("faulty"), json=body), 400, "MultipleErrorsOccurred")

    assert [(each["code"], each["target"]) for each in error["details"]] == [
        ("LocationRequired", "location"),
        ("SessionPoolContainerTypeNotSupported", "properties.containerType"),
        ("InvalidPropertyValue", "properties.scaleConfiguration.maxConcurrentSessions"),
    ]


@pytest.mark.parametrize(
    ("ours", "target"),
    [
        ({"memory": "64MiB", "disk": "1GiB"}, "properties.carrel.memory"),
        ({"isolation": "process"}, "properties.carrel.isolation"),
        ({"minimum": "process"}, "properties.carrel.minimum"),
        ({"egress": {"allow": ["pypi.org"]}}, "properties.carrel.egress.allow"),
        ({"secrets": {"a": {"file": "/etc/shadow"}}}, "properties.carrel.secrets"),
    ],
)
def test_values_that_are_wrong_together_name_the_property(
    managed: Management, ours: dict[str, Any], target: str
) -> None:
    body = {"location": "local", "properties": {"carrel": ours}}
    reply = managed.send("PUT", managed.pool("faulty"), json=body)

    assert (reply.status_code, reply.json()["error"]["target"]) == (400, target), reply.text
    assert "[pools." not in reply.text


UNREADABLE = [b"", b"[]", b"{", b"\xff\xfe", b'{"a":' * 100_000, b'"x"', b"null"]
UNKEPT = [b'{"tags":{"a":"\\u0000"}}', b'{"tags":{"\\ud800":"a"}}']


@pytest.mark.parametrize("content", [*UNREADABLE, *UNKEPT])
def test_a_body_that_is_no_object_is_refused(managed: Management, content: bytes) -> None:
    for path, version in ((managed.pool("faulty"), APP), (managed.group_path, RESOURCES)):
        error_of(
            managed.send("PUT", path, version=version, content=content),
            400,
            "InvalidRequestContent",
        )


@pytest.mark.parametrize(
    "name", ["ab", "A-pool", "1pool", "pool-", "two--hyphens", "p" * 64, "pööl", "a%2Fb", "a.b", "a_b"]
)
def test_a_name_that_cannot_be_is_refused(managed: Management, name: str) -> None:
    body = {"location": "local"}
    assert managed.send("PUT", managed.pool(name), json=body).json()["error"]["code"] == "InvalidResourceName"


def test_where_there_is_nothing_the_error_says_what_is_missing(managed: Management) -> None:
    elsewhere = managed.group_path.replace(managed.group, "nowhere")
    pool = f"{elsewhere}/providers/Microsoft.App/sessionPools/p-1"
    error_of(managed.send("PUT", pool, json={"location": "local"}), 404, "ResourceGroupNotFound")
    error_of(managed.send("GET", pool), 404, "ResourceGroupNotFound")
    error_of(managed.send("GET", f"{elsewhere}/providers/Microsoft.App/sessionPools"), 404, "ResourceGroupNotFound")
    error_of(managed.send("PATCH", managed.pool("p-1"), json={}), 404, "ResourceNotFound")
    error_of(
        managed.send("GET", "/subscriptions/other/providers/Microsoft.App/sessionPools"), 404, "SubscriptionNotFound"
    )
    error_of(managed.send("GET", managed.pool("p-1/nothing")), 404, "RouteNotFound")
    error_of(managed.send("PUT", f"/subscriptions/{managed.subscription}"), 405, "MethodNotAllowed")
    error_of(
        managed.send("GET", f"/subscriptions/{managed.subscription}/operationStatuses/x", version=RESOURCES),
        404,
        "OperationNotFound",
    )


def test_a_token_of_the_data_plane_is_none_here(managed: Management) -> None:
    error_of(managed.send("GET", managed.pool("common"), token=_data(managed)), 401, "Unauthorized")


# ---- lists -------------------------------------------------------------------------------------------------------------------


def test_a_list_is_told_in_pages(managed: Management, pool: dict[str, Any]) -> None:
    managed.make("another")
    listed = f"{managed.group_path}/providers/Microsoft.App/sessionPools"
    names, address = [], f"{listed}?$top=1&api-version=2025-07-01"
    while address:
        page = managed.ask("GET", address).json()
        assert len(page["value"]) == 1
        names.append(page["value"][0]["name"])
        address = page.get("nextLink")
    whole = managed.ask("GET", listed).json()

    assert names == [each["name"] for each in whole["value"]]
    assert {"another", "common"} <= set(names)
    assert "nextLink" not in whole
    everywhere = managed.ask(
        "GET", f"/subscriptions/{managed.subscription}/providers/Microsoft.App/sessionPools"
    ).json()
    assert {each["id"] for each in whole["value"]} < {each["id"] for each in everywhere["value"]}
    for query in ({"$top": "0"}, {"$top": "x"}, {"$skipToken": "%%"}, {"$skipToken": "a" * 5000}):
        error_of(managed.send("GET", listed, query=query), 400, "InvalidParameter")


def test_resources_are_listed_whatever_they_are(managed: Management) -> None:
    """As Terraform does before it deletes a group, and `az resource list`."""
    path, body = (
        managed.pool("tagged"),
        {"location": "local", "tags": {"team": "Blue"}, "properties": {"carrel": SMALL}},
    )
    pool = managed.ask("PUT", path, 201, json=body).json()
    everywhere = f"/subscriptions/{managed.subscription}/resources"
    for path, wanted in (
        (f"{managed.group_path}/resources", "resourceType eq 'microsoft.app/sessionpools' and name eq 'TAGGED'"),
        (everywhere, f"resourceGroup eq '{managed.group}' and tagName eq 'TEAM' and tagValue eq 'blue'"),
    ):
        listed = managed.ask("GET", path, version=RESOURCES, query={"$filter": wanted, "$expand": "provisioningState"})
        assert [each["id"] for each in listed.json()["value"]] == [pool["id"]]
    assert managed.ask("GET", everywhere, version=RESOURCES, query={"$filter": "tagName eq 'none'"}).json() == {
        "value": []
    }
    for wrong in ("name ne 'x'", "sku eq 'x'", "atScope()", "x" * 9000):
        error_of(managed.send("GET", everywhere, version=RESOURCES, query={"$filter": wrong}), 400, "InvalidParameter")


# ---- groups ------------------------------------------------------------------------------------------------------------------


def test_a_group_takes_its_pools_with_it(managed: Management) -> None:
    """`az group create` and `delete`, with their spelling."""
    name = f"rg-{uuid.uuid4().hex[:8]}"
    path = f"/subscriptions/{managed.subscription}/resourcegroups/{name}"
    made = managed.ask("PUT", path, 201, version=RESOURCES, json={"location": "westus2", "tags": {"a": "1"}}).json()
    assert (made["name"], made["location"], made["properties"]) == (name, "westus2", {"provisioningState": "Succeeded"})
    managed.ask("PUT", path, 200, version=RESOURCES, json={"location": "West US 2", "tags": {"b": "2"}})
    error_of(
        managed.send("PUT", path, version=RESOURCES, json={"location": "eastus"}), 409, "InvalidResourceGroupLocation"
    )
    patched = managed.ask("PATCH", path, 200, version=RESOURCES, json={"tags": {"c": "3", "b": None}}).json()
    assert patched["tags"] == {"c": "3"}
    managed.ask("HEAD", path, 204, version=RESOURCES)

    pool = f"{path}/providers/Microsoft.App/sessionPools/inside"
    managed.wait(managed.ask("PUT", pool, 201, json={"location": "local", "properties": {"carrel": SMALL}}))
    resource = managed.ask("GET", pool).json()
    execute(managed, resource, "1")
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        asked = list(threads.map(lambda _: managed.send("DELETE", path, version=RESOURCES), range(4)))
    again = managed.send("PUT", pool, json={"location": "local"})  # a group that is going takes no new pool
    assert again.json()["error"]["code"] in ("ResourceGroupBeingDeleted", "ResourceGroupNotFound")
    assert asked[0].status_code == 202
    for each in asked:  # every one of them comes to its end
        assert each.status_code == 404 or managed.gone(each).status_code == 200
    managed.ask("HEAD", path, 404, version=RESOURCES)
    assert execute(managed, resource, "1").status_code == 404
    error_of(managed.send("DELETE", path, version=RESOURCES), 404, "ResourceGroupNotFound")


def test_any_provider_can_be_registered(managed: Management) -> None:
    """What Terraform does with forty of them before it begins."""
    for namespace in ("Microsoft.App", "microsoft.storage"):
        path = f"/subscriptions/{managed.subscription}/providers/{namespace}"
        told = managed.ask("POST", f"{path}/register", version="2016-02-01").json()
        assert told == managed.ask("GET", path, version=RESOURCES).json()
        assert told["registrationState"] == "Registered"
    app = managed.ask("GET", path.replace("storage", "App"), version=RESOURCES).json()
    types = {each["resourceType"]: each for each in app["resourceTypes"]}
    assert "East US" in types["sessionPools"]["locations"]
    assert set(types["sessionPools"]["apiVersions"]) == set(SESSION_POOLS)
    bad = managed.send("GET", f"/subscriptions/{managed.subscription}/providers/<script>", version=RESOURCES)
    error_of(bad, 404, "InvalidResourceNamespace")


def test_replies_are_tied_to_their_requests(managed: Management) -> None:
    ours = {"x-ms-client-request-id": "mine", "x-ms-correlation-request-id": "7b0f2c4e-0000-4000-8000-000000000000"}
    for path in ("/tenants", "/subscriptions/other"):
        reply = managed.send("GET", path, version=RESOURCES, headers=ours)
        assert {name: reply.headers[name] for name in ours} == ours
        assert len(reply.headers["x-ms-request-id"]) == 32
    strange = managed.send("GET", "/tenants", version=RESOURCES, headers={"x-ms-client-request-id": "a b" * 200})
    assert "x-ms-client-request-id" not in strange.headers
