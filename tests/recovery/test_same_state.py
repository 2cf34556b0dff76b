"""A second server on the same state folder is the same server, and so is a third after the second was killed."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Server, SlimServer, fresh_identifier
from managed import NO_SESSIONS
from processes import eventually

ARM = {"api-version": "2025-10-02-preview"}
GROUPS = {"api-version": "2024-11-01"}
ROLES = {"api-version": "2022-04-01"}
EXECUTOR = "0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"
POOL = {
    "location": "eastus",
    "tags": {"kept": "yes"},
    "properties": {
        "containerType": "PythonLTS",
        "poolManagementType": "Dynamic",
        "scaleConfiguration": {"maxConcurrentSessions": 3, "readySessionInstances": 0},
        "dynamicPoolConfiguration": {
            "lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": 600}
        },
        "secrets": [{"name": "word", "value": "shibboleth"}],
        "mcpServerSettings": {"isMcpServerEnabled": True},
        "carrel": {"image": "python-slim", "memory": "256MiB", "disk": "64MiB", "tmp": "16MiB"},
    },
}


@dataclass(frozen=True, slots=True)
class Caller:
    """One who calls a server over HTTP, as the principal of its connection file or as another."""

    server: Server
    http: httpx.Client

    def group(self, name: str = "") -> str:
        connection = self.server.connection
        return f"/subscriptions/{connection['subscription']}/resourceGroups/{name or connection['resource_group']}"

    def token(self, scope: str, client: str = "", secret: str = "") -> str:
        """By a client's id and secret; the connection file's by default."""
        connection = self.server.connection
        form = {"client_id": client or connection["client_id"], "client_secret": secret or connection["client_secret"]}
        form |= {"grant_type": "client_credentials", "scope": scope}
        reply = self.http.post(f"/{connection['tenant']}/oauth2/v2.0/token", data=form)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["access_token"])

    def arm(self, method: str, path: str, query: dict[str, str] = ARM, body: object = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.server.connection['arm_token']}"}
        reply = self.http.request(method, path, params=query, json=body, headers=headers)
        assert reply.is_success, f"{method} {path}: {reply.text}"
        return reply

    def graph(self, method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {self.token('https://graph.microsoft.com/.default')}"}
        reply = self.http.request(method, path, json=body, headers=headers)
        assert reply.is_success, f"{method} {path}: {reply.text}"
        return reply.json()


@contextmanager
def calling(slim_server: SlimServer, state: Path) -> Iterator[Caller]:
    with (
        slim_server(config=NO_SESSIONS, state=state) as server,
        httpx.Client(base_url=server.connection["http"], trust_env=False, timeout=60) as http,
    ):
        yield Caller(server, http)


def seen(caller: Caller) -> dict[str, Any]:
    """All that is to stay, as a client sees it; addresses have other ports each time."""
    pools = f"{caller.group('kept-group')}/providers/Microsoft.App/sessionPools"
    own = f"{caller.group()}/providers/Microsoft.App/sessionPools"
    pool = caller.arm("GET", f"{pools}/kept-pool").json()
    pool["properties"].pop("poolManagementEndpoint")
    pool["properties"]["mcpServerSettings"].pop("mcpServerEndpoint")
    assignments = caller.arm(
        "GET", f"{pools}/kept-pool/providers/Microsoft.Authorization/roleAssignments", ROLES
    ).json()
    connection = caller.server.connection
    return {
        "pool": pool,
        "pools": [each["name"] for each in caller.arm("GET", own).json()["value"]],
        "group": caller.arm("GET", caller.group("kept-group"), GROUPS).json(),
        "key": caller.arm("POST", f"{pools}/kept-pool/fetchMcpServerCredentials").json(),
        "assignments": sorted(assignments["value"], key=lambda each: str(each["name"])),
        "principals": sorted(each["id"] for each in caller.graph("GET", "/v1.0/servicePrincipals")["value"]),
        "signing": caller.http.get(f"/{connection['tenant']}/discovery/v2.0/keys").json(),
        **{name: connection[name] for name in ("tenant", "client_id", "client_secret", "object_id", "identity_header")},
        "ca": Path(connection["ca"]).read_bytes(),
    }


@pytest.mark.thorough  # three servers take their time
def test_a_second_and_a_third_server_see_what_the_first_was_told(slim_server: SlimServer, tmp_path: Path) -> None:
    """What was made over the control plane and over Graph is there after a stop, and after the server was killed; so is every key."""
    with calling(slim_server, tmp_path) as first:
        pools = f"{first.group('kept-group')}/providers/Microsoft.App/sessionPools"
        first.arm("PUT", first.group("kept-group"), GROUPS, {"location": "eastus", "tags": {"a": "b"}})
        first.arm("PUT", f"{pools}/kept-pool", body=POOL)
        first.arm("PUT", f"{first.group()}/providers/Microsoft.App/sessionPools/short-lived", body=POOL)
        first.arm("DELETE", f"{first.group()}/providers/Microsoft.App/sessionPools/short-lived")
        robot = first.graph("POST", "/v1.0/servicePrincipals", {"displayName": "robot"})
        secret = first.graph("POST", f"/v1.0/servicePrincipals/{robot['id']}/addPassword", {})["secretText"]
        roles = f"{pools}/kept-pool/providers/Microsoft.Authorization"
        asked = {"roleDefinitionId": f"{roles}/roleDefinitions/{EXECUTOR}", "principalId": robot["id"]}
        body = {"properties": {**asked, "principalType": "ServicePrincipal"}}
        first.arm("PUT", f"{roles}/roleAssignments/{uuid.uuid4()}", ROLES, body)
        token = first.token("https://dynamicsessions.io/.default", robot["appId"], secret)
        wait_until_settled(first, f"{pools}/kept-pool")
        before = seen(first)

    with calling(slim_server, tmp_path) as second:
        wait_until_settled(second, f"{pools}/kept-pool")
        assert seen(second) == before
        assert runs(second, token), "a token of the first server's is good at the second"
        os.kill(second.server.process.pid, signal.SIGKILL)
        second.server.process.wait(10)

    with calling(slim_server, tmp_path) as third:
        wait_until_settled(third, f"{pools}/kept-pool")
        assert seen(third) == before
        assert runs(third, token)
        assert runs(third, third.token("https://dynamicsessions.io/.default", robot["appId"], secret))


def wait_until_settled(caller: Caller, pool: str) -> None:
    state = ""

    def is_settled() -> bool:
        nonlocal state
        state = caller.arm("GET", pool).json()["properties"]["provisioningState"]
        return state not in ("InProgress", "Creating")

    assert eventually(is_settled, 60)
    assert state == "Succeeded"


def runs(caller: Caller, token: str) -> bool:
    """Whether the pool that was made runs code for who has the token, with the secret that it was made with."""
    endpoint = f"{caller.group('kept-group')}/sessionPools/kept-pool"
    query = {"api-version": "2025-10-02-preview", "identifier": fresh_identifier()}
    headers = {"Authorization": f"Bearer {token}"}
    environment = {"environment": {"WORD": {"secretRef": "word"}}}
    opened = caller.http.put(f"{endpoint}/session", params=query, json=environment, headers=headers)
    assert opened.status_code == 201, opened.text
    code = {"code": "import os; os.environ['WORD']"}
    reply = caller.http.post(f"{endpoint}/executions", params=query, json=code, headers=headers)
    assert reply.status_code == 200, reply.text
    return bool(reply.json()["result"]["executionResult"] == "shibboleth")
