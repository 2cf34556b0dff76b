"""Further commands of the real az, beyond the tutorial's."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from authority_client import Asker
from az.cli import Az, own_principal
from clients import environments
from conftest import Server

pytestmark = [pytest.mark.thorough, pytest.mark.clients]

READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"


@pytest.fixture(scope="module")
def signed_in(managed_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Az]:
    with own_principal(managed_server, tmp_path_factory.mktemp("az")) as az:
        yield az


def test_a_wrong_secret_is_told_as_one(managed_server: Server, tmp_path: Path) -> None:
    az = Az(managed_server, tmp_path)
    az.register()
    connection = managed_server.connection
    who = ("-u", connection["client_id"], "-p", "wrong", "--tenant", connection["tenant"])

    assert "AADSTS7000215" in az.fails("login", "--service-principal", *who)


def test_no_setting_is_needed_with_the_authority_as_ad_fs(managed_server: Server, tmp_path: Path) -> None:
    """For service principals: az asks an AD FS nothing about itself at Microsoft's."""
    az = Az(managed_server, tmp_path, is_told=False)
    connection = managed_server.connection
    az.register("--endpoint-active-directory", connection["authority_adfs"])
    who = ("-u", connection["client_id"], "-p", connection["client_secret"], "--tenant", connection["tenant"])

    az.text("login", "--service-principal", *who)
    assert "default" in [each["name"] for each in az.json("group", "list")]


def test_groups(signed_in: Az) -> None:
    """Made with tags, shown, listed, changed, deleted; whether there is one; and one that is not there."""
    name = f"group-{uuid.uuid4().hex[:8]}"
    made = signed_in.json("group", "create", "-n", name, "-l", "westeurope", "--tags", "a=b")
    assert (made["name"], made["location"], made["tags"]) == (name, "westeurope", {"a": "b"})
    assert signed_in.json("group", "exists", "-n", name) is True
    assert signed_in.json("group", "update", "-n", name, "--set", "tags.c=d")["tags"] == {"a": "b", "c": "d"}
    assert name in [each["name"] for each in signed_in.json("group", "list")]
    signed_in.text("group", "delete", "-n", name, "--yes")
    assert signed_in.json("group", "exists", "-n", name) is False
    assert "ResourceGroupNotFound" in signed_in.fails("group", "show", "-n", name)


def test_accounts_and_locations(signed_in: Az) -> None:
    connection = signed_in.server.connection
    (account,) = signed_in.json("account", "list")
    assert (account["id"], account["tenantId"]) == (connection["subscription"], connection["tenant"])
    assert connection["location"] in [each["name"] for each in signed_in.json("account", "list-locations")]


def test_the_provider(signed_in: Az) -> None:
    """What the extension of Container Apps asks before it makes a pool: whether the location has any."""
    provider = signed_in.json("provider", "show", "-n", "Microsoft.App")
    assert provider["registrationState"] == "Registered"
    (pools,) = [each for each in provider["resourceTypes"] if each["resourceType"] == "sessionPools"]
    assert "East US" in pools["locations"]


def test_roles_by_name(signed_in: Az) -> None:
    """`--assignee` by a service principal's id; listed with the names of role and principal; deleted again."""
    connection = signed_in.server.connection
    robot = Asker(signed_in.server).application()
    scope = f"/subscriptions/{connection['subscription']}"
    given = signed_in.json(
        "role", "assignment", "create", "--assignee", robot["appId"], "--role", "Reader", "--scope", scope
    )
    assert (given["principalId"], given["scope"]) == (robot["id"], scope)
    assert given["roleDefinitionId"].endswith(READER)

    listed = signed_in.json("role", "assignment", "list", "--assignee", robot["appId"], "--scope", scope)
    assert [(each["roleDefinitionName"], each["principalName"]) for each in listed] == [("Reader", robot["appId"])]
    signed_in.text("role", "assignment", "delete", "--assignee", robot["appId"], "--role", "Reader", "--scope", scope)
    assert signed_in.json("role", "assignment", "list", "--assignee", robot["appId"], "--scope", scope) == []
    names = [each["roleName"] for each in signed_in.json("role", "definition", "list")]
    assert {"Owner", "Reader", "Azure ContainerApps Session Executor"} <= set(names)


def test_the_directory(signed_in: Az) -> None:
    connection = signed_in.server.connection
    shown = signed_in.json("ad", "sp", "show", "--id", connection["client_id"])
    assert (shown["id"], shown["appId"]) == (connection["object_id"], connection["client_id"])
    assert signed_in.json("ad", "user", "list") == []


def test_pools_over_rest(signed_in: Az) -> None:
    """Errors of ours are what az shows: the code and the property."""
    connection = signed_in.server.connection
    pools = f"/subscriptions/{connection['subscription']}/resourceGroups/default/providers/Microsoft.App/sessionPools"
    listed = signed_in.json("rest", "--url", f"{pools}?api-version=2025-07-01")
    assert "python" in [each["name"] for each in listed["value"]]
    body = '{"location":"local","properties":{"containerType":"GpuBase"}}'
    put = ("rest", "--method", "put", "--url", f"{pools}/x-gpu?api-version=2025-10-02-preview", "--body", body)
    assert "SessionPoolContainerTypeNotSupported" in signed_in.fails(*put)


def test_other_programs_get_their_tokens_from_az(signed_in: Az) -> None:
    """azure-identity's AzureCliCredential, which DefaultAzureCredential tries too, with no setting of its own."""
    program = (
        "import sys; from azure.identity import AzureCliCredential;"
        "print(AzureCliCredential(process_timeout=60).get_token('https://dynamicsessions.io/.default').token)"
    )
    identity = next(each for each in environments.CLIENTS if each.name == "azure_identity")
    python = str(environments.python_of(identity))
    done = subprocess.run(
        [python, "-c", program], env=signed_in.environment(), capture_output=True, text=True, timeout=120, check=True
    )
    endpoint = signed_in.server.connection["pools"]["python"]["endpoint"]
    query = {"api-version": "2024-02-02-preview", "identifier": "token-of-az"}
    headers = {"Authorization": f"Bearer {done.stdout.strip()}"}
    reply = httpx.post(
        f"{endpoint}/code/execute", params=query, json={"code": "6 * 7"}, headers=headers, trust_env=False, timeout=60
    )
    assert reply.json()["properties"]["result"] == 42


def test_clouds_by_a_metadata_url(managed_server: Server, tmp_path: Path) -> None:
    """`ARM_CLOUD_METADATA_URL`, which az reads with urllib: the cloud is there without being registered."""
    az = Az(managed_server, tmp_path)
    connection = managed_server.connection
    url = f"{connection['arm']}/metadata/endpoints?api-version=2019-05-01"
    more = {"ARM_CLOUD_METADATA_URL": url, "SSL_CERT_FILE": connection["ca_bundle"]}

    clouds = az.json("cloud", "list", **more)
    assert "Carrel" in [each["name"] for each in clouds]
    shown = az.json("cloud", "show", "--name", "Carrel", **more)
    assert shown["endpoints"]["resourceManager"].rstrip("/") == connection["arm"]
