"""Users for the tests of az: made over Graph, given a role over ARM, signed in on the page for device codes."""

from __future__ import annotations

import re
import subprocess
import uuid
from dataclasses import dataclass

from authority_client import Asker
from conftest import Server

OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
_TOLD = re.compile(r"open the page (\S+) .*enter the code (\S+?)\.?(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    name: str
    password: str


def new_person(server: Server, role: str = OWNER) -> Person:
    """A user who has this role at the subscription, and nothing else."""
    asker = Asker(server)
    password = uuid.uuid4().hex
    made = asker.user(password)
    roles = f"/subscriptions/{server.connection['subscription']}/providers/Microsoft.Authorization"
    asked = {"roleDefinitionId": f"{roles}/roleDefinitions/{role}", "principalId": made["id"], "principalType": "User"}
    given = asker.http.put(
        f"{roles}/roleAssignments/{uuid.uuid4()}",
        params={"api-version": "2022-04-01"},
        json={"properties": asked},
        headers={"Authorization": f"Bearer {server.connection['arm_token']}"},
    )
    assert given.status_code == 201, given.text
    return Person(made["id"], made["userPrincipalName"], password)


def approve(server: Server, waiting: subprocess.Popen[str], person: Person) -> None:
    """Do what the waiting program tells a person to do: open the page, enter the code, sign in, approve."""
    assert waiting.stderr is not None
    said = ""
    for line in waiting.stderr:
        said += line
        if told := _TOLD.search(line):
            break
    else:
        raise AssertionError(f"no code was told: {said}")
    http = Asker(server).http
    page = http.get(told[1])
    assert (page.status_code, "user_code" in page.text) == (200, True)
    asked = http.post(told[1], data={"user_code": told[2]})
    assert (asked.status_code, "password" in asked.text) == (200, True)
    form = {"user_code": told[2], "user_name": person.name, "password": person.password, "answer": "approve"}
    approved = http.post(told[1], data=form)
    assert approved.status_code == 200, approved.text
