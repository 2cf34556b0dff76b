"""The published JavaScript tutorial with the real azure-cli over TLS, once for each way to sign in, and the how-to's requests after it.

tutorial.toml has the page's commands and, where one cannot be literal, what stands in its place and why. They run as one shell script, as
a reader would type them.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from az.cli import Az
from az.people import approve, new_person
from conftest import Server, SlimServer
from howto.test_howto import PRINTED
from howto.test_howto import Reader as Howto

HERE = Path(__file__).parent
STEPS: list[dict[str, str]] = tomllib.loads((HERE / "tutorial.toml").read_text())["step"]

pytestmark = [pytest.mark.thorough, pytest.mark.clients]

POOLS_RESOURCE = "https://dynamicsessions.io"
POOLS = '[pools.python]\nscaleConfiguration = {readySessionInstances = 1}\ncarrel = {image = "python-slim"}\n'


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who follows the tutorial, signed in. `object_id` for who has no user of Graph's."""

    az: Az
    object_id: str
    is_executor: bool = False  # has the role already, by the subscription
    is_user: bool = False


def script() -> str:
    """Every step with a mark before it on stdout, and what it prints after that."""
    parts = [f"printf '\\n== {step['name']}\\n'\n{step.get('run', step['printed'])}\n" for step in runnable()]
    return "".join(parts)


def runnable() -> list[dict[str, str]]:
    return [step for step in STEPS if "run" in step or "why" not in step]


def outputs(stdout: str) -> dict[str, str]:
    """What each step printed."""
    parts = stdout.split("\n== ")[1:]
    return {name: printed.strip() for name, _, printed in (part.partition("\n") for part in parts)}


@pytest.fixture(scope="module")
def az_server(slim_server: SlimServer) -> Iterator[Server]:
    with slim_server(config=POOLS) as running:
        yield running


@pytest.fixture
def az(az_server: Server, tmp_path: Path) -> Az:
    az = Az(az_server, tmp_path)
    az.register()
    return az


def by_service_principal(az: Az) -> Reader:
    connection = az.server.connection
    who = ("-u", connection["client_id"], "-p", connection["client_secret"], "--tenant", connection["tenant"])
    (account,) = az.json("login", "--service-principal", *who)
    assert account["user"] == {"name": connection["client_id"], "type": "servicePrincipal"}
    return Reader(az, connection["object_id"], is_executor=True)


def by_managed_identity(az: Az) -> Reader:
    connection = az.server.connection
    told = {"IDENTITY_ENDPOINT": connection["identity_endpoint"], "IDENTITY_HEADER": connection["identity_header"]}
    (account,) = az.json("login", "--identity", **told)
    assert account["user"]["type"] == "servicePrincipal"
    return Reader(az, connection["object_id"], is_executor=True)


def by_device_code(az: Az) -> Reader:
    """`az login` where there is no browser. An owner may do all that the tutorial does, but for running code."""
    person = new_person(az.server)
    process = az.start("login")
    approve(az.server, process, person)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    (account,) = json.loads(out)
    assert account["user"] == {"name": person.name, "type": "user"}
    return Reader(az, person.id, is_user=True)


@pytest.fixture
def raw_egress(request: pytest.FixtureRequest) -> None:
    """What the page asks for with `--network-status EgressEnabled`."""
    is_user = bool(request.config.getoption("--user")) or os.geteuid() != 0
    if is_user and not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip(
            "the page's pool asks for EgressEnabled, which an ordinary user's server refuses without /dev/net/tun"
        )


@pytest.mark.usefixtures("raw_egress")
@pytest.mark.parametrize("sign_in", [by_device_code, by_service_principal, by_managed_identity])
def test_the_javascript_tutorial(sign_in: Callable[[Az], Reader], az: Az) -> None:
    """From the provider's registration to the group's deletion, with the page's reply to the page's program."""
    reader = sign_in(az)
    connection = az.server.connection
    more = {"IDENTITY_ENDPOINT": connection["identity_endpoint"], "IDENTITY_HEADER": connection["identity_header"]}
    lines = script()
    if not reader.is_user:  # Graph's /me is for users; az says so
        lines = lines.replace("$(az ad signed-in-user show --query id -o tsv)", reader.object_id).replace(
            "--assignee-principal-type User", "--assignee-principal-type ServicePrincipal"
        )
    done = az.script(lines, more)

    printed = outputs(done.stdout)
    assert done.returncode == 0, f"{list(printed)[-1:]}: {done.stderr[-3000:]}"
    assert list(printed) == [step["name"] for step in runnable()]
    assert printed["endpoint-early"] == ("200" if reader.is_executor else "403")
    assert printed["at-once"] == "200"
    pool = json.loads(printed["pool"])
    assert (pool["location"], pool["properties"]["containerType"]) == ("eastus", "NodeLTS")
    assert printed["gone"] == "false"
    check_reply(json.loads(printed["execute"]))


def check_reply(reply: dict[str, Any]) -> None:
    """The page's, but for the time it took; `$id` and `result` are what Azure's service sends besides."""
    properties = reply["properties"]
    assert isinstance(properties.pop("executionTimeInMilliseconds"), int)
    expected = {"status": "Success", "stdout": "hello-world\n", "stderr": "", "executionResult": ""}
    assert {name: properties[name] for name in expected} == expected


def test_the_how_to_with_a_token_of_az(az: Az) -> None:
    """The how-to's requests as printed (tests/howto), with the token and the endpoint that az tells."""
    by_service_principal(az)
    token = az.text("account", "get-access-token", "--resource", POOLS_RESOURCE, "--query", "accessToken", "-o", "tsv")
    url = (
        f"/subscriptions/{az.server.connection['subscription']}/resourceGroups/default/providers/Microsoft.App"
        "/sessionPools/python?api-version=2025-07-01"
    )
    endpoint = az.text("rest", "--url", url, "--query", "properties.poolManagementEndpoint", "-o", "tsv")
    connection = {**az.server.connection, "token": token, "pools": {"python": {"endpoint": endpoint}}}
    howto = Howto(connection, "https", session="how-to-with-az")

    assert howto.send(PRINTED["execute"]).json()["properties"]["stdout"] == "Hello, world!\n"
    assert howto.send(PRINTED["upload"]).status == 200
    assert howto.send(PRINTED["download"]).body == b"(data)"
    (entry,) = howto.send(PRINTED["list"]).json()["value"]
    assert entry["properties"]["filename"] == "test1.txt"


def test_every_step_is_run_or_says_why_not() -> None:
    for step in STEPS:
        assert step.keys() <= {"name", "printed", "run", "why"}
        assert "run" not in step or "why" in step, step["name"]
