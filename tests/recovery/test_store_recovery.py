"""A server and its store: what it acknowledged outlives its gateway and its database, whose password stays with the gateway."""

from __future__ import annotations

import os
import shutil
import signal
import time
import uuid
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from click.testing import CliRunner

from carrel.cli import cli
from carrel.storage import State
from carrel.store import GrantRecord, OperationRecord, Store
from conftest import SLIM, Server, SlimServer
from postgresql import running
from processes import command, descendants, eventually

READER = "acdd72a7-3385-48ef-bd42-f606fba81ae7"


POOL = "resourceGroups/default/providers/Microsoft.App/sessionPools/shared"


def manage(server: Server, method: str, path: str, body: object = None, version: str = "2025-01-01") -> httpx.Response:
    """A call of the control plane, below the subscription."""
    fields = server.connection
    url = f"{fields['http']}/subscriptions/{fields['subscription']}/{path}"
    headers = {"Authorization": f"Bearer {fields['arm_token']}"}
    query = {"api-version": version}
    return httpx.request(method, url, params=query, headers=headers, json=body, trust_env=False, timeout=20)


def assign(server: Server, name: str) -> httpx.Response:
    """Make somebody a Reader of the subscription."""
    role = (
        f"/subscriptions/{server.connection['subscription']}/providers/Microsoft.Authorization/roleDefinitions/{READER}"
    )
    body = {"properties": {"roleDefinitionId": role, "principalId": name, "principalType": "ServicePrincipal"}}
    return manage(server, "PUT", f"providers/Microsoft.Authorization/roleAssignments/{name}", body, "2022-04-01")


@pytest.mark.thorough
def test_a_server_on_postgresql(slim_server: SlimServer) -> None:
    """While the database is away sessions go on and changes are 503; a killed gateway and a killed database lose nothing."""
    names = [str(uuid.uuid4()) for _ in range(3)]
    with running() as database, slim_server(config=f'store = "{database.url}"\n{SLIM}') as server:
        assert assign(server, names[0]).status_code == 201
        gateway = server.pids["gateway"]
        os.kill(gateway, signal.SIGKILL)
        assert eventually(lambda: server.pids["gateway"] != gateway, 20)
        with server.client() as client:
            client.execute("x = 1")
            database.stop(signal.SIGQUIT)
            time.sleep(2)  # all that look at the store now and then have noticed

            assert client.execute("x + 1").result == 2
            reply = assign(server, names[1])
            assert (reply.status_code, reply.json()["error"]["code"]) == (503, "StoreUnavailable")
            assert reply.headers["retry-after"] == "1"

            database.start()
            assert assign(server, names[2]).status_code == 201
            assert client.execute("x + 2").result == 3
        _check_secrecy(server, database.password)
        store = Store.open(database.url, State(server.state).store_keys())
        with store.transaction() as transaction:
            held = {each.principal_id for each in transaction.assignments.list()}
        store.close()

    assert names[0] in held
    assert names[2] in held
    assert names[1] not in held


def _shown(pid: int, name: str) -> bytes:
    """What we may read of a process; nothing where it does not even let its own user."""
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except (PermissionError, ProcessLookupError, FileNotFoundError):
        return b""


def _check_secrecy(server: Server, password: str) -> None:
    """Neither as it is nor as it stands in an address: not for ps, not in an environment, not in a file of the state folder."""
    words = [password.encode(), quote(password, safe="").encode()]
    for pid in [server.process.pid, *descendants(server.process.pid)]:
        for name in ("cmdline", "environ"):
            content = _shown(pid, name)
            assert not [word for word in words if word in content], command(pid)
    for file in server.state.rglob("*"):
        if file.is_file() and "images" not in file.parts:
            assert not [word for word in words if word in file.read_bytes()], file


@pytest.mark.thorough
def test_a_password_given_by_variable_is_in_no_childs_environment(
    slim_server: SlimServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as database:
        monkeypatch.setenv("CARREL_STORE", database.url)
        with slim_server() as server:
            word = quote(database.password, safe="").encode()
            environments = [_shown(pid, "environ") for pid in descendants(server.process.pid)]

            assert len(environments) > 3
            assert not [each for each in environments if word in each]
            assert not [each for each in environments if b"CARREL_STORE" in each]


@pytest.mark.thorough
def test_what_is_over_is_pruned_by_a_server_that_starts(slim_server: SlimServer, tmp_path: Path) -> None:
    state, now = tmp_path / "state", time.time()
    store = Store.open(f"sqlite:///{state}/store/carrel.db", State(state).store_keys())
    with store.transaction() as transaction:
        for name, expires_at in (("over", now - 1), ("good", now + 3600)):
            transaction.grants.put(GrantRecord(name, "refresh", "c", "p", "s", "active", 1.0, expires_at))
            transaction.operations.put(OperationRecord(name, None, "put", "Succeeded", 1.0, "", expires_at - 86_400))
    with slim_server(state=state):

        def left() -> set[str]:
            with store.transaction() as books:
                return {*(each.digest for each in books.grants.list()), *(each.id for each in books.operations.list())}

        assert eventually(lambda: left() == {"good"})
    store.close()


@pytest.mark.thorough
def test_two_servers_share_a_store(slim_server: SlimServer, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the same keys: what one is told the other knows, pools and rights, and what is deleted with one is gone from both."""
    state = tmp_path_factory.mktemp("one")
    State(state)
    other = Path(shutil.copytree(state, tmp_path_factory.mktemp("two") / "s"))
    with running() as database:
        config = f'store = "{database.url}"\n{SLIM}'
        with slim_server(config=config, state=state) as first, slim_server(config=config, state=other) as second:
            name = str(uuid.uuid4())
            assert assign(first, name).status_code == 201
            assert assign(second, name).status_code == 200

            small = {"image": "python-slim", "memory": "256MiB", "disk": "64MiB", "tmp": "16MiB"}
            body = {"location": "local", "properties": {"containerType": "PythonLTS", "carrel": small}}
            assert manage(first, "PUT", POOL, body).status_code == 201
            assert eventually(lambda: manage(second, "GET", POOL).status_code == 200)
            assert eventually(lambda: _runs(second, "shared"), 20)

            assert manage(second, "DELETE", POOL).status_code == 202
            assert eventually(lambda: manage(first, "GET", POOL).status_code == 404, 20)
            assert not _runs(first, "shared")


def _runs(server: Server, pool: str) -> bool:
    fields = server.connection
    endpoint = server.endpoint.replace("/sessionPools/python", f"/sessionPools/{pool}")
    query = {"api-version": "2025-10-02-preview", "identifier": "shared-session"}
    headers = {"Authorization": f"Bearer {fields['token']}"}
    body = {"code": "6 * 7"}
    reply = httpx.post(f"{endpoint}/executions", params=query, headers=headers, json=body, trust_env=False, timeout=30)
    return reply.status_code == 200 and "42" in reply.text


@pytest.mark.one_level
def test_a_running_servers_state_is_backed_up(server: Server, tmp_path: Path) -> None:
    """Rights that were acknowledged are in the backup, and the server does not notice."""
    name = str(uuid.uuid4())
    assert assign(server, name).status_code == 201
    words = ["backup", str(tmp_path / "backup.tgz"), "--state", str(server.state)]
    refused = CliRunner().invoke(
        cli, ["restore", str(tmp_path / "backup.tgz"), "--force", "--state", str(server.state)]
    )

    assert CliRunner().invoke(cli, words).exit_code == 0
    assert refused.exit_code != 0
    assert CliRunner().invoke(cli, ["restore", words[1], "--state", str(tmp_path / "other")]).exit_code == 0
    keys = State(tmp_path / "other")
    store = Store.open(f"sqlite:///{tmp_path}/other/store/carrel.db", keys.store_keys())
    with store.transaction() as transaction:
        assert name in {each.principal_id for each in transaction.assignments.list()}
        assert transaction.pools.list()
    store.close()
    assert keys.tenant == server.connection["tenant"]
    assert assign(server, str(uuid.uuid4())).status_code == 201
