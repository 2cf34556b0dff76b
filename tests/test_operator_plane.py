"""The operator plane: who is let in, and that nobody is told of what is not theirs."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from carrel.storage import APPLICATION, ARM_AUDIENCE, State
from conftest import Server

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
    assert reply.status_code == 200
    assert told["host"]["healthy"] is True
    assert [each["name"] for each in told["pools"] if each["name"] == "python"] == ["python"]
    assert isinstance(told["errors"], list)


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
