"""The published JavaScript tutorial with the real azure-cli over TLS, once for each way to sign in, and the how-to's requests after it.

tutorial.toml has the page's commands and, where one cannot be literal, what stands in its place and why. They run as one shell script, as
a reader would type them.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from az.cli import Az
from conftest import Server, SlimServer

HERE = Path(__file__).parent
STEPS: list[dict[str, str]] = tomllib.loads((HERE / "tutorial.toml").read_text())["step"]

pytestmark = [pytest.mark.thorough, pytest.mark.clients]

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


@pytest.mark.parametrize("sign_in", [by_service_principal, by_managed_identity])
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


def test_every_step_is_run_or_says_why_not() -> None:
    for step in STEPS:
        assert step.keys() <= {"name", "printed", "run", "why"}
        assert "run" not in step or "why" in step, step["name"]
