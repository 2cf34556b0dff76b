"""Operations of the control plane go on where a killed gateway, or a killed server, has left them."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import httpx
import pytest

from conftest import Server, SlimServer
from management import RESOURCES, SMALL, Management, error_of, management_of
from processes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.thorough]

NONE_READY = '[pools.python]\nscaleConfiguration = {readySessionInstances = 0}\ncarrel = {image = "python-slim"}\n'


def filled(server: Server, http: httpx.Client) -> Management:
    """A group with pools in it, on a server of this test's own."""
    managed = management_of(server, http)
    for number in range(4):
        body = {"location": "local", "properties": {"carrel": SMALL}}
        managed.ask("PUT", managed.pool(f"pool-{number}"), 201, json=body)
    return managed


def is_gone(server: Server, path: str) -> bool:
    """Asked anew each time: addresses change with the server."""
    connection = server.connection
    headers = {"Authorization": f"Bearer {connection['arm_token']}"}
    url, query = f"{connection['http']}{path}", {"api-version": RESOURCES}
    try:
        return httpx.head(url, params=query, headers=headers, trust_env=False, timeout=10).status_code == 404
    except httpx.HTTPError:
        return False


def test_an_operation_outlives_its_gateway(slim_server: SlimServer) -> None:
    """Its address stays good, and so does what it tells: nothing of it was in the gateway that began it."""
    with slim_server(config=NONE_READY) as server, httpx.Client(base_url=server.connection["http"], timeout=60) as http:
        managed = management_of(server, http)
        body = {"location": "local", "properties": {"carrel": SMALL}}
        made = managed.ask("PUT", managed.pool("kept"), 201, json=body)
        gateway = server.pids["gateway"]
        os.kill(gateway, signal.SIGKILL)
        assert eventually(lambda: server.pids["gateway"] != gateway, 30)

        assert managed.wait(made)["resourceId"].endswith("/kept")
        assert managed.ask("GET", made.headers["location"]).json()["properties"]["provisioningState"] == "Succeeded"


def test_a_pool_that_is_going_cannot_be_changed(slim_server: SlimServer) -> None:
    """While the host does not answer the pool is there and going; then it is gone, and can be made again."""
    with slim_server(config=NONE_READY) as server, httpx.Client(base_url=server.connection["http"], timeout=60) as http:
        managed = management_of(server, http)
        body = {"location": "local", "properties": {"carrel": SMALL}}
        managed.wait(managed.ask("PUT", managed.pool("going"), 201, json=body))
        os.kill(server.pids["host"], signal.SIGSTOP)
        try:
            deleted = managed.ask("DELETE", managed.pool("going"), 202)
            for method in ("PUT", "PATCH"):
                error_of(managed.send(method, managed.pool("going"), json=body), 409, "ResourceBeingDeleted")
            shown = managed.ask("GET", managed.pool("going")).json()["properties"]
            assert shown["provisioningState"] == "Deleting"
            assert managed.ask("GET", deleted.headers["azure-asyncoperation"]).json()["status"] == "InProgress"
            managed.ask("DELETE", managed.pool("going"), 202)
        finally:
            os.kill(server.pids["host"], signal.SIGCONT)

        assert managed.gone(deleted).status_code == 204
        managed.wait(managed.ask("PUT", managed.pool("going"), 201, json=body))


def test_the_next_gateway_deletes_what_is_left_of_a_group(slim_server: SlimServer) -> None:
    with slim_server(config=NONE_READY) as server, httpx.Client(base_url=server.connection["http"], timeout=60) as http:
        managed = filled(server, http)
        deleted = managed.ask("DELETE", managed.group_path, 202, version=RESOURCES)
        os.kill(server.pids["gateway"], signal.SIGKILL)

        assert eventually(lambda: is_gone(server, managed.group_path), 30)
        assert managed.gone(deleted).status_code == 200


def test_the_next_server_deletes_what_is_left_of_a_group(slim_server: SlimServer) -> None:
    with tempfile.TemporaryDirectory(prefix="carrel-state-") as folder:
        state = Path(folder)
        with (
            slim_server(config=NONE_READY, state=state) as server,
            httpx.Client(base_url=server.connection["http"], timeout=60) as http,
        ):
            managed = filled(server, http)
            managed.ask("DELETE", managed.group_path, 202, version=RESOURCES)
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
        with slim_server(config=NONE_READY, state=state) as server:
            assert eventually(lambda: is_gone(server, managed.group_path), 30)
