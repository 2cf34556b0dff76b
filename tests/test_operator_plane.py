"""The operator plane: who is let in, and that nobody is told of what is not theirs."""

from __future__ import annotations

import json
import os
import secrets
import signal
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from carrel import __version__
from carrel.cli import cli
from carrel.client import AsyncManagement, Management
from carrel.storage import APPLICATION, ARM_AUDIENCE, State
from carrel.troubles import Troubles
from conftest import Server, SlimServer
from managing import managing, put, state_of
from processes import eventually

pytestmark = pytest.mark.one_level

HEALTH = "/.carrel/health"


def ask(server: Server, path: str, token: str | None = None, method: str = "GET") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token or server.connection['arm_token']}"}
    return httpx.request(method, f"{server.connection['http']}{path}", headers=headers, trust_env=False, timeout=30)


def token_of(server: Server, **claims: Any) -> str:
    """One of an operator's making, which brings its rights with it."""
    return State(server.state).issue_token(ARM_AUDIENCE, claims={**APPLICATION, **claims})


def test_health_tells_the_operator_how_server_and_pools_are(managed_server: Server) -> None:
    reply = ask(managed_server, HEALTH)

    told = reply.json()
    pids = managed_server.pids
    assert reply.status_code == 200
    assert told["host"]["healthy"] is True
    assert {each["name"]: each["pid"] for each in told["processes"]}.items() <= pids.items()
    assert told["store"]["healthy"] is True
    assert told["store"]["sizeBytes"] > 0
    assert told["certificate"]["daysLeft"] > 30
    assert told["signingKeys"]["count"] >= 1
    assert [each["name"] for each in told["pools"] if each["name"] == "python"] == ["python"]
    assert isinstance(told["errors"], list)


def test_who_may_see_only_a_pool_is_told_nothing_of_the_server(managed_server: Server) -> None:
    token = token_of(managed_server, roles=["Reader"], carrel_pools=["python"])

    told = ask(managed_server, HEALTH, token).json()

    assert [each["name"] for each in told["pools"]] == ["python"]
    assert not told.keys() & {"processes", "store", "certificate", "signingKeys", "isolation", "kernel"}
    assert told["host"].keys() == {"healthy", "answeredInMs"}
    assert all(each["pool"] == "python" for each in told["errors"])


def test_what_goes_wrong_is_told_with_its_trace(managed_server: Server) -> None:
    """A pool whose image does not exist: the host warns of it, and a call for a session of it ends with a status of 500 or above."""
    with managing(managed_server) as managed:
        name = f"broken-{secrets.token_hex(4)}"
        put(managed, name, image="no-such-image")
        assert eventually(lambda: state_of(managed, name) == "Failed", 60)
        trace = secrets.token_hex(16)
        endpoint = f"{managed_server.endpoint.rpartition('/')[0]}/{name}"
        headers = {"Authorization": f"Bearer {managed_server.connection['token']}"}
        headers["traceparent"] = f"00-{trace}-{'1' * 16}-00"
        query = {"api-version": "2025-10-02-preview", "identifier": "secret-identifier"}
        body = {"code": "secret_code = 1"}
        reply = httpx.post(f"{endpoint}/executions", params=query, json=body, headers=headers, trust_env=False)
        assert reply.status_code >= 500

        errors = ask(managed_server, HEALTH).json()["errors"]

        told = [each for each in errors if each["trace"] == trace]
        assert {(each["part"], each["route"], each["pool"]) for each in told} == {("gateway", "POST executions", name)}
        assert {each["code"] for each in told} == {reply.json()["error"]["code"]}
        assert "secret" not in json.dumps(errors)
        managed.ask("DELETE", managed.pool(name), (200, 202, 204))


@pytest.mark.thorough
def test_it_answers_while_the_host_does_not(slim_server: SlimServer) -> None:
    """That is when somebody asks. The command says so by its exit status, too."""
    with slim_server() as server:
        host = server.pids["host"]
        os.kill(host, signal.SIGSTOP)
        try:
            told = ask(server, HEALTH).json()
            shown = CliRunner().invoke(cli, ["health", "--state", str(server.state)])
        finally:
            os.kill(host, signal.SIGCONT)

        assert (told["status"], told["host"]["healthy"]) == ("degraded", False)
        assert [each["state"] for each in told["processes"] if each["name"] == "host"] == ["away"]
        assert [(each["name"], each["warm"]) for each in told["pools"]] == [("python", None)]
        assert told["store"]["healthy"] is True
        assert (shown.exit_code, "does not answer" in shown.stdout) == (1, True)
        assert eventually(lambda: ask(server, HEALTH).json()["host"]["healthy"])


def test_errors_are_bounded_in_number_and_length() -> None:
    troubles = Troubles()
    for number in range(1000):
        troubles.note(f"Code{number}", "x" * 10_000)

    assert [each.code for each in troubles.last()] == [f"Code{number}" for number in range(900, 1000)]
    assert {len(each.message) for each in troubles.last()} == {500}


def test_the_command_shows_it_to_people_and_to_scripts(managed_server: Server) -> None:
    where = ["--state", str(managed_server.state)]
    shown = CliRunner().invoke(cli, ["health", *where])
    told = json.loads(CliRunner().invoke(cli, ["health", "-o", "json", *where]).stdout)

    assert "answers in" in shown.stdout
    assert "python" in shown.stdout
    assert told["version"] == __version__
    assert shown.exit_code == (0 if told["status"] == "healthy" else 1)


@pytest.mark.anyio
async def test_both_clients_parse_it(managed_server: Server) -> None:
    with Management.from_connection(managed_server.state) as management:
        plain = management.health()
    async with AsyncManagement.from_connection(managed_server.state) as management_async:
        other = await management_async.health()

    assert plain.host_is_there is other.host_is_there is True
    assert {each.name for each in plain.pools} == {each.name for each in other.pools}
    assert plain.resource["store"]["engine"] == "sqlite"


@pytest.mark.parametrize("pools", [["nobodys"], ["/subscriptions/x/resourceGroups/y/sessionPools/z"]])
def test_a_pool_that_the_caller_may_not_read_is_not_told(managed_server: Server, pools: list[str]) -> None:
    token = token_of(managed_server, roles=["Reader"], carrel_pools=pools)

    told = ask(managed_server, HEALTH, token).json()

    assert (told["pools"], told["errors"]) == ([], [])


def test_a_caller_without_any_role_is_told_nothing(managed_server: Server) -> None:
    token = token_of(managed_server, roles=["No such role"], carrel_pools=["*"])

    reply = ask(managed_server, HEALTH, token)

    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "AuthorizationFailed")


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/.carrel", "GET", 404),
        ("/.carrel/", "GET", 404),
        ("/.carrel/health/more", "GET", 404),
        ("/.carrel/%00", "GET", 400),
        ("/.CARREL//HEALTH", "GET", 200),
        ("/.carrel/health", "HEAD", 200),
        ("/.carrel/health", "POST", 405),
        ("/.carrel/health?a=1&a=2", "GET", 400),
    ],
)
def test_paths_are_read_as_the_control_planes_are(managed_server: Server, path: str, method: str, status: int) -> None:
    assert ask(managed_server, path, method=method).status_code == status
