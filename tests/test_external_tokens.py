"""Tokens of an external issuer at a running server: who they are is the issuer's word, what they may is ours."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import jwt
import pytest

from carrel import roles
from carrel.storage import State
from carrel.store import AssignmentRecord, Stamp, Store
from conftest import Server, SlimServer
from edged import MAPPED
from oidc import LocalIssuer
from processes import eventually
from test_cli import carrel

QUERY = {"api-version": "2025-10-02-preview"}


def asked(server: Server, token: str, path: str = "/metadata") -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}"}
    url = httpx.URL(server.endpoint + path).copy_merge_params(QUERY)
    return httpx.get(url, headers=headers, trust_env=False)


def managed(server: Server, token: str) -> httpx.Response:
    """A call of the control plane."""
    url = f"{server.connection['http']}/subscriptions/{server.connection['subscription']}"
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(url, params={"api-version": "2022-12-01"}, headers=headers, trust_env=False)


@contextmanager
def assigned(server: Server, principal: str, role_id: str = roles.EXECUTOR_ID) -> Iterator[None]:
    """Written into the store by somebody else than the server."""
    store = Store.open(f"sqlite:///{server.state / 'store/carrel.db'}", State(server.state).store_keys())
    scope = f"/subscriptions/{server.connection['subscription']}"
    record = AssignmentRecord(str(uuid.uuid4()), scope, role_id, principal, "User", Stamp("test", "User", time.time()))
    try:
        with store.transaction() as transaction:
            transaction.assignments.put(record)
        yield
        with store.transaction() as transaction:
            transaction.assignments.delete(record.id)
    finally:
        store.close()


def test_an_assignment_is_what_lets_somebody_in_and_takes_effect_at_once(
    edge_server: Server, edge_issuer: LocalIssuer
) -> None:
    """Not the token: neither before the right is given, nor when it was taken away from a token that was good."""
    who = str(uuid.uuid4())
    token = edge_issuer.token(oid=who, roles=[roles.ROLES[roles.EXECUTOR_ID].name, "Owner"], carrel_pools=["*"])
    assert asked(edge_server, token).status_code == 403

    with assigned(edge_server, who):
        assert eventually(lambda: asked(edge_server, token).status_code == 200, 3)
    assert eventually(lambda: asked(edge_server, token).status_code == 403, 3)


def test_groups_and_mapped_roles_bring_rights(edge_server: Server, edge_issuer: LocalIssuer) -> None:
    group = str(uuid.uuid4())
    by_role = edge_issuer.token(roles=["Sessions.Execute"])
    by_group = edge_issuer.token(groups=[group])
    by_trick = edge_issuer.token(groups=[MAPPED])  # what only the role stands for

    with assigned(edge_server, MAPPED), assigned(edge_server, group):
        assert eventually(lambda: asked(edge_server, by_role).status_code == 200, 3)
        assert eventually(lambda: asked(edge_server, by_group).status_code == 200, 3)
        assert asked(edge_server, by_trick).status_code == 403


def test_an_application_of_the_issuer_hands_out_a_token_for_one_session(
    edge_server: Server, edge_issuer: LocalIssuer
) -> None:
    """Its rights, by a group that only its own token names, go on with it, as long as its own token would last; and end with them."""
    group = str(uuid.uuid4())
    token = edge_issuer.token(groups=[group])
    url, headers = f"{edge_server.endpoint}/.carrel/token", {"Authorization": f"Bearer {token}"}
    with assigned(edge_server, group):
        assert eventually(lambda: asked(edge_server, token).status_code == 200, 1.5)
        body = {"identifier": "alice", "ttlInSeconds": 1200}
        reply = httpx.post(url, params=QUERY, headers=headers, json=body, trust_env=False)
        bound = reply.json()["token"]
        claims = jwt.decode(bound, options={"verify_signature": False})
        assert 0 <= _end_of(token) - claims["exp"] <= 2
        assert asked(edge_server, bound, "/executions?identifier=alice").status_code in (200, 404)
        assert asked(edge_server, bound).status_code == 403
    assert eventually(lambda: asked(edge_server, bound, "/executions?identifier=alice").status_code == 403, 1.5)


def _end_of(token: str) -> int:
    return int(jwt.decode(token, options={"verify_signature": False})["exp"])


def test_an_audience_is_good_for_its_plane_only(edge_server: Server, edge_issuer: LocalIssuer) -> None:
    who = str(uuid.uuid4())
    with assigned(edge_server, who), assigned(edge_server, who, roles.OWNER_ID):
        data, arm = edge_issuer.token(oid=who), edge_issuer.token(oid=who, aud="api://carrel-arm")
        assert eventually(lambda: asked(edge_server, data).status_code == 200, 3)
        assert eventually(lambda: managed(edge_server, arm).status_code == 200, 3)
        assert (asked(edge_server, arm).status_code, managed(edge_server, data).status_code) == (401, 401)


@pytest.mark.parametrize("claim", ["oid", "groups"])
def test_nobody_elses_issuer_makes_a_principal_of_ours(
    edge_server: Server, edge_issuer: LocalIssuer, claim: str
) -> None:
    """The server's own identity may do everything: an issuer that says so of somebody gets nowhere."""
    ours = edge_server.connection["object_id"]
    token = edge_issuer.token(oid=ours) if claim == "oid" else edge_issuer.token(groups=[ours])

    assert asked(edge_server, token).status_code == (401 if claim == "oid" else 403)
    assert asked(edge_server, edge_server.connection["token"]).status_code == 200  # ours are as good as before


def test_a_new_key_of_the_issuer_is_fetched_by_a_server_that_may_open_nothing(
    edge_server: Server, edge_issuer: LocalIssuer
) -> None:
    """As another user, whose files are all closed; an issuer that hangs then holds up nobody else."""
    who = str(uuid.uuid4())
    with assigned(edge_server, who):
        edge_issuer.rotate("following")
        time.sleep(1.0)
        token = edge_issuer.token("following", oid=who)
        assert eventually(lambda: asked(edge_server, token).status_code == 200, 2.0)
        before = edge_issuer.token(oid=who)
        assert asked(edge_server, before).status_code == 200
        withdrawn = edge_issuer.keys.pop("first")
        time.sleep(1.0)
        assert asked(edge_server, edge_issuer.token("following", header={"kid": "unknown"})).status_code == 401
        assert asked(edge_server, before).status_code == 401  # although it was remembered
        edge_issuer.keys["first"] = withdrawn
        edge_issuer.hangs(2.0)
        began = time.monotonic()
        assert asked(edge_server, edge_server.connection["token"]).status_code == 200
        assert asked(edge_server, token).status_code == 200
        assert time.monotonic() - began < 1.8
        edge_issuer.answers.clear()


@pytest.mark.thorough  # the same in one process: tests/test_auth.py
def test_a_server_without_an_authority_of_its_own_hands_out_nothing(slim_server: SlimServer, tmp_path: Path) -> None:
    """Its endpoints are gone, its tokens refused; what the operator makes goes on, and the commands with it."""
    state = State(tmp_path / "state")
    with slim_server("--no-embedded-authority", state=state.path) as server:
        http, tenant = server.connection["http"], state.tenant
        for path in (
            "/msi/token",
            "/metadata/identity/oauth2/token",
            f"/{tenant}/v2.0/.well-known/openid-configuration",
        ):
            headers = {"X-IDENTITY-HEADER": state.identity_header, "Metadata": "true"}
            assert httpx.get(http + path, headers=headers, trust_env=False).status_code == 404, path
        form = {"grant_type": "client_credentials", "client_id": state.client_id, "client_secret": state.client_secret}
        assert httpx.post(f"{http}/{tenant}/oauth2/v2.0/token", data=form, trust_env=False).status_code == 404

        assert asked(server, state.issue_token(claims={})).status_code == 401
        assert asked(server, state.issue_token()).status_code == 200
        assert managed(server, server.connection["arm_token"]).status_code == 200
        for words in (["sessionpool", "list"], ["role", "assignment", "list"], ["identity", "list"]):
            done = carrel(*words, "--state", str(server.state))
            assert done.returncode == 0, done.stderr
