"""Signing keys of a running server: a new one is followed at once, an old one verifies on, a removed one verifies nothing."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import jwt
import pytest

from carrel.cli.changes import LOOK_S
from carrel.storage import State
from conftest import Server
from processes import eventually
from test_cli import carrel

QUERY = {"api-version": "2025-10-02-preview"}


def status_of(server: Server, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{server.endpoint}/metadata", params=QUERY, headers=headers, trust_env=False).status_code


def kid_of(token: str) -> str:
    return str(jwt.get_unverified_header(token)["kid"])


def published(server: Server) -> set[str]:
    url = f"{server.connection['http']}/{server.connection['tenant']}/discovery/v2.0/keys"
    return {each["kid"] for each in httpx.get(url, trust_env=False).json()["keys"]}


def test_a_running_server_follows_its_keys(edge_server: Server) -> None:
    """As another user, who cannot read them: old tokens are good until their key is removed, and then not even from memory."""
    server, old = edge_server, edge_server.connection["token"]
    assert status_of(server, old) == 200

    done = carrel("identity", "rotate-keys", "--state", str(server.state))

    assert done.returncode == 0, done.stderr
    newest = State(server.state).key_id
    assert newest in done.stdout
    assert eventually(lambda: published(server) >= {kid_of(old), newest}, 2.0)
    following = State(server.state).issue_token(now=time.time() + 3)  # as soon as the new key signs
    assert kid_of(following) == newest != kid_of(old)
    assert (status_of(server, old), status_of(server, following)) == (200, 200)

    refused = carrel("identity", "rotate-keys", "--revoke", "--state", str(server.state))
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    assert carrel("identity", "rotate-keys", "--revoke", "--yes", "--state", str(server.state)).returncode == 0

    assert eventually(lambda: status_of(server, old) == 401, 2.0)
    assert status_of(server, following) == 401
    assert eventually(lambda: server.connection["token"] != old, LOOK_S + 2)
    assert status_of(server, server.connection["token"]) == 200
    assert published(server) == {kid_of(server.connection["token"])}


@pytest.mark.thorough
def test_a_folder_that_somebody_spoils_ends_no_server(edge_server: Server) -> None:
    """What was read before goes on; once it is mended, so does the rest."""
    server, token = edge_server, edge_server.connection["token"]
    spoiled = Path(server.state) / "keys/signing/999.pem"
    spoiled.write_text("-----BEGIN PRIVATE KEY-----")
    spoiled.chmod(0o600)
    try:
        time.sleep(2 * LOOK_S)
        assert status_of(server, token) == 200
    finally:
        spoiled.unlink()
    time.sleep(2 * LOOK_S)
    assert status_of(server, token) == 200
