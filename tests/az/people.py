"""Users for the tests of az: made over Graph, given a role over ARM, signed in on the page for device codes."""

from __future__ import annotations

import re
import ssl
import subprocess
import uuid
from dataclasses import dataclass
from typing import Any

import httpx

from conftest import Server

OWNER = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
_TOLD = re.compile(r"open the page (\S+) .*enter the code (\S+?)\.?(?:\s|$)")


@dataclass(frozen=True, slots=True)
class Person:
    id: str
    name: str
    password: str


def calls(server: Server) -> httpx.Client:
    """HTTPS, by the server's own certificate authority."""
    trust = ssl.create_default_context(cafile=server.connection["ca"])
    return httpx.Client(base_url=server.connection["https"], verify=trust, trust_env=False, timeout=30)


def new_person(server: Server, role: str = OWNER) -> Person:
    """A user who has this role at the subscription, and nothing else."""
    connection = server.connection
    name, password = f"{uuid.uuid4().hex[:8]}@carrel.local", uuid.uuid4().hex
    with calls(server) as http:
        token = _token(http, connection, "https://graph.microsoft.com/.default")
        body: dict[str, Any] = {"displayName": name, "userPrincipalName": name, "accountEnabled": True}
        body["passwordProfile"] = {"password": password, "forceChangePasswordNextSignIn": False}
        made = http.post("/v1.0/users", json=body, headers={"Authorization": f"Bearer {token}"})
        assert made.status_code == 201, made.text
        person = Person(made.json()["id"], name, password)
        scope = f"/subscriptions/{connection['subscription']}"
        roles = f"{scope}/providers/Microsoft.Authorization"
        asked = {
            "roleDefinitionId": f"{roles}/roleDefinitions/{role}",
            "principalId": person.id,
            "principalType": "User",
        }
        given = http.put(
            f"{roles}/roleAssignments/{uuid.uuid4()}",
            params={"api-version": "2022-04-01"},
            json={"properties": asked},
            headers={"Authorization": f"Bearer {connection['arm_token']}"},
        )
        assert given.status_code == 201, given.text
    return person


def _token(http: httpx.Client, connection: dict[str, Any], scope: str) -> str:
    form = {"grant_type": "client_credentials", "scope": scope}
    form |= {"client_id": connection["client_id"], "client_secret": connection["client_secret"]}
    return str(http.post(f"/{connection['tenant']}/oauth2/v2.0/token", data=form).json()["access_token"])


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
    with calls(server) as http:
        page = http.get(told[1])
        assert (page.status_code, "user_code" in page.text) == (200, True)
        asked = http.post(told[1], data={"user_code": told[2]})
        assert (asked.status_code, "password" in asked.text) == (200, True)
        form = {"user_code": told[2], "user_name": person.name, "password": person.password, "answer": "approve"}
        approved = http.post(told[1], data=form)
        assert approved.status_code == 200, approved.text
