"""`carrel identity`, against a running server: an application, a user with a device, a group."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest
from click.testing import CliRunner, Result

from authority_client import Asker, refusal
from carrel.cli import cli
from carrel.client import ApiError, AsyncManagement
from conftest import Server

pytestmark = pytest.mark.one_level


def identity(server: Server, *words: str, stdin: str = "") -> Result:
    """In this process: a new one takes half a second each time."""
    return CliRunner().invoke(cli, ["identity", *words, "--state", str(server.state)], input=stdin)


def told(server: Server, *words: str, stdin: str = "") -> Any:
    done = identity(server, *words, "-o", "json", stdin=stdin)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_an_application_and_its_secrets(server: Server) -> None:
    """The secret that `create` shows signs in; one that replaces it leaves no other; what lists show holds none."""
    asker, name = Asker(server), f"app-{uuid.uuid4().hex[:8]}"

    made = told(server, "create", name)
    first = {"client_id": made["appId"], "client_secret": made["password"]}
    assert asker.token(**asker.secret(**first)).status_code == 200
    assert all(
        identity(server, "reset-secret", name, "--days", no).exit_code == 2 for no in ("nan", "0", "0.5", "36501")
    )
    second = told(server, "reset-secret", name, "--days", "1")["password"]
    assert refusal(asker.token(**asker.secret(**first)))[2] == 7000215
    assert asker.token(**asker.secret(client_id=made["appId"], client_secret=second)).status_code == 200
    (kept,) = told(server, "show", name)["secrets"]
    assert second.startswith(kept["hint"]) and len(kept["hint"]) == 3 and kept["endDateTime"]
    listed = identity(server, "list", "-o", "table").stdout
    assert made["appId"] in listed and second not in listed
    refused = identity(server, "delete", name)
    assert (refused.exit_code, "--yes" in refused.stderr) == (1, True)
    assert identity(server, "delete", name, "--yes").exit_code == 0
    assert identity(server, "show", name).exit_code == 3


def test_a_user_signs_a_device_in_from_the_terminal(server: Server) -> None:
    """With a password from stdin, which no list of processes shows; a wrong one is one line and exit status 1."""
    asker, name = Asker(server), f"{uuid.uuid4().hex[:8]}@example.com"
    made = told(server, "create", name, "--user", "--password-stdin", stdin="pa55 wörd\n")
    assert "password" not in made
    begun = asker.device()

    wrong = identity(server, "approve", begun["user_code"], "--user", name, "--password-stdin", stdin="no\n")
    assert (wrong.exit_code, wrong.stderr) == (
        1,
        "Error: AccessDenied: User name and password do not belong together.\n",
    )
    done = identity(server, "approve", begun["user_code"], "--user", name, "--password-stdin", stdin="pa55 wörd\n")

    assert (done.exit_code, done.stderr) == (0, "approved: the device is signed in\n")
    fields = asker.poll(begun["device_code"]).json()
    assert asker.claims(fields["access_token"], "https://dynamicsessions.io")["oid"] == made["id"]
    assert identity(server, "disable", name).exit_code == 0
    assert refusal(asker.refresh(fields["refresh_token"])) == (400, "invalid_grant", 70000)


def test_groups_show_their_members(server: Server) -> None:
    group, name = f"g-{uuid.uuid4().hex[:8]}", f"m-{uuid.uuid4().hex[:8]}"
    told(server, "create", group, "--group")
    member = told(server, "create", name, "--managed")
    assert "password" not in member

    assert identity(server, "add-member", group, name).exit_code == 0
    assert [each["id"] for each in told(server, "show", group)["members"]] == [member["id"]]
    assert identity(server, "remove-member", group, name).exit_code == 0
    assert told(server, "show", group)["members"] == []


@pytest.mark.anyio
async def test_the_client_for_asyncio_has_it_all(server: Server) -> None:
    """Every call once, in the life of a person, an application and a group."""
    asker, name = Asker(server), uuid.uuid4().hex[:8]
    async with AsyncManagement.from_connection(server.state) as management:
        known = management.identities
        user = await known.create_user(f"{name}@example.com", password="correct horse")
        await known.set_password(user, "battery staple")
        application = await known.create_application(f"app {name}")
        first, second = await known.add_secret(application), await known.add_secret(application, days=1)
        assert first.text and first.text not in repr(first)
        await known.remove_secret(application, first.id)
        assert [(each.id, each.text) for each in await known.secrets(application)] == [(second.id, None)]
        group = await known.create_group(f"group {name}")
        await known.add_member(group, application)
        assert [each.id for each in await known.members(group)] == [application.id]
        await known.remove_member(group, application)
        assert (await known.find(f"APP {name}")).id == application.id

        begun = asker.device()
        answer = (begun["user_code"], user.name)
        with pytest.raises(ApiError, match="do not belong together"):
            await known.answer_device(*answer, "correct horse", is_approved=True)
        await known.answer_device(*answer, "battery staple", is_approved=False)
        assert refusal(asker.poll(begun["device_code"]))[1] == "access_denied"

        await known.enable(user, is_enabled=False)
        for each in (user, application, group):
            await known.delete(each)
        with pytest.raises(ApiError, match="there is no identity"):
            await known.find(user.name)
