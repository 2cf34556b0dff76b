"""`az ad` against Carrel's Graph: users, groups, applications and their secrets, made and changed with the real az."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from az.cli import Az, own_principal
from conftest import Server

pytestmark = [pytest.mark.thorough, pytest.mark.clients]


@pytest.fixture(scope="module")
def owner(managed_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Az]:
    with own_principal(managed_server, tmp_path_factory.mktemp("az")) as az:
        yield az


def test_a_user_is_made_changed_and_deleted(owner: Az) -> None:
    """And put into a group, and out of it."""
    name, group = f"{uuid.uuid4().hex[:8]}@example.com", f"team-{uuid.uuid4().hex[:8]}"
    who = ("--display-name", "Bob", "--user-principal-name", name, "--password", "Passw0rd!x")
    user = owner.json("ad", "user", "create", *who)
    assert user["userPrincipalName"] == name
    owner.text("ad", "user", "update", "--id", name, "--account-enabled", "false")
    assert owner.json("ad", "user", "show", "--id", name, "--query", "accountEnabled") is False
    owner.text("ad", "user", "update", "--id", name, "--account-enabled", "true", "--password", "Other0ne!x")

    owner.text("ad", "group", "create", "--display-name", group, "--mail-nickname", "team")
    member = ("-g", group, "--member-id", user["id"])
    owner.text("ad", "group", "member", "add", *member)
    assert owner.json("ad", "group", "member", "check", *member) == {"value": True}
    assert owner.json("ad", "group", "member", "list", "-g", group, "--query", "[].id") == [user["id"]]
    assert len(owner.json("ad", "user", "get-member-groups", "--id", name)) == 1
    owner.text("ad", "group", "member", "remove", *member)
    assert owner.json("ad", "group", "member", "check", *member) == {"value": False}
    owner.text("ad", "group", "delete", "-g", group)
    owner.text("ad", "user", "delete", "--id", name)
    assert "does not exist" in owner.fails("ad", "user", "show", "--id", name)


def test_a_service_principal_with_a_role_signs_in(owner: Az, managed_server: Server, tmp_path: Path) -> None:
    """`create-for-rbac`; then its secret is reset: the old one is good no more, the new one is."""
    name = f"robot-{uuid.uuid4().hex[:8]}"
    scope = f"/subscriptions/{managed_server.connection['subscription']}"
    made = owner.json("ad", "sp", "create-for-rbac", "-n", name, "--role", "Reader", "--scopes", scope)
    robot = Az(managed_server, tmp_path)
    robot.register()

    def login(secret: str) -> tuple[str, ...]:
        return ("login", "--service-principal", "-u", made["appId"], "-p", secret, "--tenant", made["tenant"])

    robot.text(*login(made["password"]))
    assert "default" in [each["name"] for each in robot.json("group", "list")]
    robot.text("logout")
    reset = owner.json("ad", "sp", "credential", "reset", "--id", made["appId"])
    assert "AADSTS7000215" in robot.fails(*login(made["password"]))
    robot.text(*login(reset["password"]))
    assert len(owner.json("ad", "sp", "credential", "list", "--id", made["appId"])) == 1
    owner.text("ad", "app", "credential", "reset", "--id", made["appId"], "--append")
    assert len(owner.json("ad", "app", "credential", "list", "--id", made["appId"])) == 2
    owner.text("ad", "sp", "delete", "--id", made["appId"])
    assert "No subscriptions found" in robot.fails(
        *login(reset["password"])
    )  # az has a token still, which has no rights
