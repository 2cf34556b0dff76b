"""The control plane through its client and its commands, against a real server: what a person with a terminal does with it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from carrel.cli import cli
from carrel.client import (
    ApiError,
    AsyncClient,
    AsyncManagement,
    AsyncServerCredential,
    Management,
    PoolSettings,
    by_secret,
)
from conftest import Server, fresh_identifier
from test_cli import carrel

pytestmark = pytest.mark.one_level

SMALL = {"image": "python-slim", "memory": "256MiB", "disk": "64MiB", "tmp": "16MiB"}
SMALL_OPTIONS = [word for name, value in SMALL.items() for word in (f"--{name}", value)]
EXECUTOR = "Azure ContainerApps Session Executor"
HIDDEN = "correct horse battery"


@dataclass(frozen=True, slots=True)
class Shell:
    """Commands in this process, against one server; a real shell's way is tested by the first two tests."""

    state: Path

    def __call__(self, *words: str, status: int = 0, **environment: str) -> Result:
        where = [] if environment else ["--state", str(self.state)]
        done = CliRunner().invoke(cli, [*words, *where], env={"CARREL_OUTPUT": "json", **environment})
        assert done.exit_code == status, done.output
        return done

    def json(self, *words: str, **options: Any) -> Any:
        return json.loads(self(*words, **options).stdout)


@pytest.fixture
def az(server: Server) -> Shell:
    return Shell(server.state)


@pytest.fixture
def arm(server: Server) -> Iterator[Management]:
    with Management.from_connection(server.state) as management:
        yield management


@pytest.fixture(scope="module")
def made() -> Iterator[Callable[[Server], str]]:
    """A small pool of the server's, made by the first test that wants it."""
    names: dict[Path, str] = {}

    def get(server: Server) -> str:
        if server.state not in names:
            names[server.state] = f"cli-{uuid.uuid4().hex[:8]}"
            with Management.from_connection(server.state) as management:
                settings = PoolSettings("PythonLTS", max_sessions=3, ready_sessions=0, carrel=SMALL)
                management.create_pool(names[server.state], settings, is_waiting=False)
        return names[server.state]

    yield get
    for state, name in names.items():
        with Management.from_connection(state) as management:
            management.delete_pool(name, is_waiting=False)


# ---- pools ---------------------------------------------------------------------------------------------------------------------


def test_the_tutorials_lines_work_with_az_replaced(server: Server) -> None:
    """From the group to the answer of the code, as a shell runs them: variables, queries, tsv; and away again."""
    script = """
        set -eu
        carrel() { "$PYTHON" -P -m carrel.cli "$@"; }
        carrel group create --name $RESOURCE_GROUP --location $LOCATION --query name -o tsv
        carrel sessionpool create --name $SESSION_POOL_NAME --resource-group $RESOURCE_GROUP --location $LOCATION \
            --max-sessions 5 --network-status EgressDisabled --container-type PythonLTS --cooldown-period 300 \
            --ready-sessions 0 $MORE --only-show-errors -o none
        USER_OBJECT_ID=$(carrel ad signed-in-user show --query id -o tsv)
        SUBSCRIPTION_ID=$(carrel account show --query id --output tsv)
        carrel role assignment list --assignee $USER_OBJECT_ID --role "Azure ContainerApps Session Executor" --include-inherited \
            --scope "/subscriptions/$SUBSCRIPTION_ID/resourceGroups/$RESOURCE_GROUP/providers/Microsoft.App/sessionPools/tutorial" \
            --query "length(@)" -o tsv
        JWT_ACCESS_TOKEN=$(carrel account get-access-token --resource https://dynamicsessions.io --query accessToken -o tsv)
        ENDPOINT=$(carrel sessionpool show -n $SESSION_POOL_NAME -g $RESOURCE_GROUP --query "properties.poolManagementEndpoint" -o tsv)
        curl -s --cacert "$CA" -X POST -H "Authorization: Bearer $JWT_ACCESS_TOKEN" -H 'Content-Type: application/json' \
            "$ENDPOINT/code/execute?api-version=2024-02-02-preview&identifier=test" \
            -d '{"properties": {"codeInputType": "inline", "executionType": "synchronous", "code": "print(6 * 7)"}}'
        echo
        carrel group delete --resource-group $RESOURCE_GROUP --yes --only-show-errors
        carrel group exists -n $RESOURCE_GROUP
    """
    environment = {
        "PYTHON": sys.executable,
        "RESOURCE_GROUP": f"rg-{uuid.uuid4().hex[:8]}",
        "SESSION_POOL_NAME": "tutorial",
        "LOCATION": server.connection["location"],
        "MORE": " ".join(SMALL_OPTIONS),
        "CARREL_STATE": str(server.state),
        "CA": server.connection["ca"],
    }
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    group, count, answer, exists = done.stdout.splitlines()
    assert (group, int(count) >= 1, exists) == (environment["RESOURCE_GROUP"], True, "false")
    assert json.loads(answer)["properties"]["stdout"] == "42\n"


def test_a_pool_is_made_looked_at_changed_and_deleted(server: Server, az: Shell) -> None:
    """Each prints Azure's resource, how it goes on stderr; what is not there is exit status 3."""
    name = f"life-{uuid.uuid4().hex[:8]}"
    options = ["--max-sessions", "4", "--ready-sessions", "0", *SMALL_OPTIONS, "--tags", "a=1", "b=2"]
    told = az("sessionpool", "create", "-n", name, *options)
    made = json.loads(told.stdout)
    assert told.stderr.splitlines() == [f"making pool {name}: InProgress"]
    assert (made["name"], made["type"], made["tags"]) == (name, "Microsoft.App/sessionPools", {"a": "1", "b": "2"})
    assert made["resourceGroup"] == server.connection["resource_group"]
    assert made["properties"]["provisioningState"] == "Succeeded"
    assert made["properties"]["carrel"]["memory"] == "256MiB"

    listed = az("sessionpool", "list", "-o", "table").stdout.splitlines()
    assert listed[0].split() == [
        "Name",
        "Location",
        "ResourceGroup",
        "ContainerType",
        "State",
        "MaxSessions",
        "Endpoint",
    ]
    assert name in [line.split()[0] for line in listed[2:]]
    assert az.json("sessionpool", "show", name) == az.json(
        "sessionpool", "show", "-n", name, "-g", made["resourceGroup"]
    )

    changed = az.json("sessionpool", "update", name, "--max-sessions", "2", "--cooldown-period", "600")
    assert changed["properties"]["scaleConfiguration"]["maxConcurrentSessions"] == 2
    assert changed["properties"]["carrel"]["memory"] == "256MiB"

    assert "--yes" in az("sessionpool", "delete", name, status=1).stderr
    assert az("sessionpool", "delete", name, "--yes", "--only-show-errors").output == ""
    assert "ResourceNotFound" in az("sessionpool", "show", name, status=3).stderr
    az("sessionpool", "delete", name, "--yes")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--max-sessions", "0"], "--max-sessions"),
        (["--memory", "1Mi", "--cooldown-period", "0"], "--cooldown-period"),
        (["--isolation", "none"], "--isolation"),
        (["-l", "atlantis"], "--location"),
    ],
)
def test_errors_name_the_option_to_change(az: Shell, options: list[str], wanted: str) -> None:
    done = az("sessionpool", "create", "-n", "wrong", *options, status=1)

    assert wanted in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["a--b", "ä b", "x" * 5000, "../../up", "A", "-"])
def test_a_wrong_name_is_refused_whatever_it_is(az: Shell, name: str) -> None:
    """For making it is a mistake that names the option; for looking at, something that is not there."""
    done = az("sessionpool", "create", "--name", name, status=1)
    assert done.stderr.splitlines()[-1] == "  change --name", done.stderr
    az("sessionpool", "show", "--name", name, status=3)


@pytest.mark.parametrize(("answer", "is_left"), [("n", True), ("y", False), ("\x04", True)])
def test_a_terminal_is_asked(server: Server, arm: Management, answer: str, is_left: bool) -> None:
    """Before a group goes with all pools in it; whoever says no, or nothing, keeps it."""
    name = f"asked-{uuid.uuid4().hex[:8]}"
    arm.create_group(name)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "carrel.cli", "group", "delete", "-n", name, "--state", str(server.state)]
    process = subprocess.Popen(command, stdin=theirs, stderr=subprocess.PIPE, text=True)
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode() if answer.isalpha() else answer.encode())
    _, errors = process.communicate(timeout=30)
    os.close(ours)

    assert (process.returncode, name in errors) == (1 if is_left else 0, True)
    assert (name in [each.name for each in arm.groups()]) is is_left


@pytest.mark.thorough
def test_a_pool_made_by_many_at_once_is_one(server: Server, arm: Management) -> None:
    """Everybody is told of the same pool, and deleting it as often is no mistake."""
    name, settings = f"many-{uuid.uuid4().hex[:8]}", PoolSettings("PythonLTS", ready_sessions=0, carrel=SMALL)
    with ThreadPoolExecutor(6) as executor:
        made = list(executor.map(lambda _: arm.create_pool(name, settings), range(6)))
        deleted = list(executor.map(lambda _: arm.delete_pool(name), range(6)))

    assert {each.id for each in made} == {made[0].id}
    assert any(deleted)
    assert name not in [each.name for each in arm.pools()]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["create", "-n", "x", "--container-type", "CustomContainer"], "carrel image build"),
        (["create", "-n", "x", "--cooldown-period", "300", "--max-alive-period", "600"], "--cooldown-period"),
        (["create", "-n", "x", "--environment", "/e"], "--environment"),
        (["create"], "--name"),
        (["show", "x", "-n", "y"], "one name"),
        (["update", "x"], "nothing to change"),
        (["create", "-n", "x", "--max-sessions", "many"], "--max-sessions"),
    ],
)
def test_a_command_used_wrongly_asks_no_server(az: Shell, words: list[str], wanted: str) -> None:
    assert wanted in az("sessionpool", *words, status=2).stderr


def test_a_secret_is_shown_nowhere(az: Shell, tmp_path: Path) -> None:
    """Neither in the resource nor in what is printed while it is made; from a file, as a command line is everybody's. No waiting."""
    name, file = f"hidden-{uuid.uuid4().hex[:8]}", tmp_path / "secrets"
    file.write_text(f"key={HIDDEN}\n")
    options = ["--ready-sessions", "0", *SMALL_OPTIONS, "--secrets-file", str(file), "--no-wait"]
    made = az("sessionpool", "create", name, *options)
    shown = az("sessionpool", "show", name)

    assert json.loads(shown.stdout)["properties"]["secrets"] == [{"name": "key"}]
    assert HIDDEN not in made.output + shown.output
    assert az("sessionpool", "delete", name, "--yes", "--no-wait").output == ""


def test_the_mcp_key_needs_mcp(server: Server, az: Shell, made: Callable[[Server], str]) -> None:
    """Which `update --mcp` turns on; a new key is another one."""
    name = made(server)
    assert "--mcp" in az("sessionpool", "mcp-key", "show", name, status=1).stderr
    az("sessionpool", "update", name, "--mcp", "--no-wait")
    first = az.json("sessionpool", "mcp-key", "show", name)["apiKey"]
    second = az.json("sessionpool", "mcp-key", "rotate", name, "--yes")["apiKey"]

    assert first != second == az.json("sessionpool", "mcp-key", "show", name)["apiKey"]


# ---- code and files ------------------------------------------------------------------------------------------------------------


def test_code_interpreter_runs_code_and_keeps_files(
    server: Server, az: Shell, made: Callable[[Server], str], tmp_path: Path
) -> None:
    """The six commands, with the API's answers; a pool that was made while the server runs is as good as any."""
    file = tmp_path / "a b.txt"
    file.write_bytes("ä\n".encode())
    place = ["-n", made(server), "-i", fresh_identifier(), "--session-pool-location", "anywhere"]

    def run(verb: str, *words: str, **options: Any) -> Result:
        return az("session", "code-interpreter", verb, *place, *words, **options)

    ran = json.loads(run("execute", "--code", "print('Hello world')", "--timeout-in-seconds", "30").stdout)
    assert (ran["status"], ran["result"]["stdout"]) == ("Succeeded", "Hello world\n")
    assert json.loads(run("execute", "--code", "1/0").stdout)["status"] == "Failed"
    assert json.loads(run("upload-file", "--filepath", str(file), "--path", "deep").stdout)["name"] == "a b.txt"
    assert run("list-files", "--path", "deep", "--query", "value[].name", "-o", "tsv").stdout == "a b.txt\n"
    assert run("show-file-content", "--filename", "a b.txt", "--path", "deep").stdout == "ä\n"
    assert json.loads(run("show-file-metadata", "--filename", "a b.txt", "--path", "deep").stdout)["sizeInBytes"] == 3
    run("delete-file", "--filename", "a b.txt", "--path", "deep", "--yes")
    run("show-file-metadata", "--filename", "a b.txt", "--path", "deep", status=3)
    listed = ["session", "list", "-n", place[1], "-g", server.connection["resource_group"], "-o", "tsv"]
    assert place[3] in az(*listed, "--query", "[].identifier").stdout.split()
    az("session", "stop", *place[:4])
    assert place[3] not in az(*listed, "--query", "[].identifier").stdout.split()


def test_other_commands_find_a_new_pool(server: Server, made: Callable[[Server], str]) -> None:
    """`carrel exec --pool`, which knew those of the connection file only."""
    done = carrel("exec", "--state", str(server.state), "--pool", made(server), "6 * 7")

    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


# ---- rights --------------------------------------------------------------------------------------------------------------------


def test_roles_are_given_listed_and_taken_back(
    server: Server, az: Shell, arm: Management, made: Callable[[Server], str]
) -> None:
    """By name and by object id, at a pool's scope; the list has names of roles."""
    who, scope = str(uuid.uuid4()), arm.scope(pool=made(server))
    create = [
        "role",
        "assignment",
        "create",
        "--assignee-object-id",
        who,
        "--assignee-principal-type",
        "ServicePrincipal",
    ]
    given = az.json(*create, "--role", EXECUTOR, "--scope", scope)
    assert (given["principalId"], given["scope"].lower()) == (who, scope.lower())

    assert az.json(*create, "--role", EXECUTOR.lower(), "--scope", scope)["id"] == given["id"], "as az: once is enough"

    (found,) = az.json("role", "assignment", "list", "--scope", scope, "--assignee", who)
    assert (found["roleDefinitionName"], found["principalType"]) == (EXECUTOR, "ServicePrincipal")
    assert who not in az("role", "assignment", "list").stdout
    assert who in az("role", "assignment", "list", "--all").stdout
    assert az("role", "assignment", "list", "--scope", scope, "-o", "table").stdout.split()[:3] == [
        "Principal",
        "Role",
        "Scope",
    ]

    az("role", "assignment", "delete", "--ids", given["id"])
    assert who not in az("role", "assignment", "list", "--scope", scope).stdout
    az("role", "assignment", "delete", "--role", "Reader", "--scope", scope, status=3)


@pytest.mark.parametrize(
    "words",
    [
        ["role", "assignment", "delete", "--assignee", "", "--role", "Owner"],
        ["role", "assignment", "delete", "--scope", ""],
        ["role", "assignment", "delete", "-g", ""],
        ["role", "assignment", "delete", "--ids", ""],
        ["group", "delete", "-n", "", "--yes"],
        ["sessionpool", "delete", "-n", "x", "-g", "", "--yes"],
    ],
)
def test_a_scripts_empty_variable_is_about_nothing(az: Shell, words: list[str]) -> None:
    """And not about everything."""
    done = CliRunner().invoke(cli, [*words, "--state", str(az.state)])

    assert done.exit_code in (1, 2), done.output
    assert "--" in done.stderr
    assert az.json("role", "assignment", "list", "--query", "length(@)") >= 1


def test_role_definitions_are_azures(az: Shell) -> None:
    (found,) = az.json("role", "definition", "list", "--name", EXECUTOR)

    assert (found["name"], found["roleName"]) == ("0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0", EXECUTOR)
    assert az.json("role", "definition", "list", "--name", found["name"].upper()) == [found]
    assert "Owner" in az("role", "definition", "list", "-o", "table").stdout
    assert (
        "--role"
        in az(
            "role", "assignment", "create", "--role", "King", "--assignee-object-id", str(uuid.uuid4()), status=3
        ).stderr
    )


# ---- another server ------------------------------------------------------------------------------------------------------------


def test_another_server_is_reached_as_a_service_principal(server: Server, az: Shell) -> None:
    """By its address alone: no state folder, tokens from its authority, its own certificate trusted because it was named."""
    fields = server.connection
    remote = {
        "CARREL_ENDPOINT": fields["https"],
        "SSL_CERT_FILE": fields["ca"],
        "AZURE_TENANT_ID": fields["tenant"],
        "AZURE_CLIENT_ID": fields["client_id"],
        "AZURE_CLIENT_SECRET": fields["client_secret"],
        "AZURE_AUTHORITY_HOST": fields["authority"],
        "CARREL_STATE": "/nonexistent",
    }
    assert "python" in [each["name"] for each in az.json("sessionpool", "list", **remote)]
    assert az.json("account", "show", **remote)["id"] == fields["subscription"]
    operator = {**remote, "CARREL_TOKEN": fields["token"]}  # which may only run code: the service principal goes before
    assert az("sessionpool", "egress", "show", "python", **operator).exit_code == 0
    done = carrel("exec", "--pool", "python", "40 + 2", **remote)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr
    assert "invalid_client" in az("sessionpool", "list", status=1, **{**remote, "AZURE_CLIENT_SECRET": "wrong"}).stderr
    untrusted = {**remote, "SSL_CERT_FILE": "", "REQUESTS_CA_BUNDLE": ""}
    assert "SSL_CERT_FILE" in az("sessionpool", "list", status=1, **untrusted).stderr


def test_another_server_wants_rights(server: Server, az: Shell) -> None:
    """A token of another plane is refused by the server, none at all by the command."""
    remote = {
        "CARREL_ENDPOINT": server.connection["http"],
        "CARREL_TOKEN": "",
        "CARREL_ARM_TOKEN": "",
        "AZURE_CLIENT_ID": "",
    }
    assert "CARREL_ARM_TOKEN" in az("sessionpool", "list", status=2, **remote).stderr
    az("sessionpool", "list", **{**remote, "CARREL_ARM_TOKEN": server.connection["arm_token"]})
    az("sessionpool", "list", status=1, **{**remote, "CARREL_ARM_TOKEN": server.connection["token"]})
    clear = az("sessionpool", "list", "--endpoint", "http://192.0.2.1", status=2, **remote)
    assert "in the clear" in clear.stderr
    secret = dict.fromkeys(("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"), "x")
    clear = az("sessionpool", "list", status=2, **{**remote, **secret, "AZURE_AUTHORITY_HOST": "http://192.0.2.1"})
    assert "AZURE_AUTHORITY_HOST" in clear.stderr
    whose = az("sessionpool", "list", status=2, **{**remote, **secret, "AZURE_AUTHORITY_HOST": ""})
    assert "whose secret is AZURE_CLIENT_SECRET" in whose.stderr
    assert "no address" in az("sessionpool", "list", "--endpoint", "carrel:80", status=2, **remote).stderr


# ---- the client ----------------------------------------------------------------------------------------------------------------


def test_a_new_pool_only_where_there_is_none(server: Server, arm: Management, made: Callable[[Server], str]) -> None:
    """Preconditions hold: of a pool that is there, and of one that somebody else has changed."""
    pool = arm.pool(made(server))
    with pytest.raises(ApiError) as caught:
        arm.create_pool(pool.name, PoolSettings("PythonLTS", carrel=SMALL), if_none_match="*")
    assert caught.value.status == 412
    with pytest.raises(ApiError) as caught:
        arm.update_pool(pool.name, PoolSettings(max_sessions=2), if_match='"another"')
    assert caught.value.status == 412
    changed = arm.update_pool(pool.name, PoolSettings(max_sessions=4), if_match=pool.etag, is_waiting=False)
    assert changed.max_sessions == 4


@pytest.mark.anyio
async def test_the_asynchronous_client_runs_code_in_what_it_finds(server: Server) -> None:
    async with AsyncManagement.from_connection(server.state) as management:
        names = [each.name for each in await management.pools()]
        async with await management.client("python", identifier=fresh_identifier()) as client:
            result = await client.execute("6 * 7")
            await client.end()

    assert "python" in names
    assert result.result == 42


@pytest.mark.anyio
async def test_the_asynchronous_client_makes_identities_that_sign_in(server: Server) -> None:
    """An application with a secret and a role runs code; a group has members; what is deleted is gone."""
    fields = server.connection
    async with AsyncManagement.from_connection(server.state) as management:
        known = management.identities
        application = await known.create_application(f"app-{uuid.uuid4().hex[:8]}")
        secret = await known.add_secret(application, days=1)
        await management.assign_role(EXECUTOR, application.id, kind="ServicePrincipal")
        ask = by_secret(fields["https"], fields["tenant"], application.app_id, secret.text or "")
        credential = AsyncServerCredential(ask, ca_bundle=fields["ca"])
        async with AsyncClient(server.endpoint, credential, identifier=fresh_identifier()) as client:
            assert (await client.execute("6 * 7")).result == 42
            await client.end()
        group = await known.create_group(f"group-{uuid.uuid4().hex[:8]}")
        await known.add_member(group, application)
        assert [each.id for each in await known.members(group)] == [application.id]
        await known.remove_member(group, application)
        assert [each.id for each in await known.secrets(application)] == [secret.id]
        for each in (application, group):
            await known.delete(each)
        with pytest.raises(ApiError) as caught:
            await known.find(application.id)

    assert caught.value.status == 404
    assert (secret.text or "?") not in repr(secret)
