"""The audit log where processes are killed: what callers were answered for is in it, once, in a chain that is whole."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from carrel.cli import cli
from carrel.client import ApiError, Management
from carrel.client.connection import NotRunning
from carrel.server.audit.endings import BY_CALLERS
from carrel.sessions.link import DELETED
from carrel.storage import State
from conftest import SLIM, Server, SlimServer, fresh_identifier
from processes import eventually

ONE_FILE = f"audit-file-mb = 1\n{SLIM}"


def lines_of(state: Path) -> list[dict[str, Any]]:
    files = sorted((state / "audit").glob("audit-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def is_whole(state: Path) -> bool:
    done = CliRunner().invoke(cli, ["audit", "verify", "--state", str(state)])
    print(done.output)
    return done.exit_code == 0


def runs_of(lines: list[dict[str, Any]]) -> Counter[str]:
    return Counter(each["details"]["execution"] for each in lines if each["action"] == "executions/run")


class Load:
    """Callers that run code until told to end; `answered` are the ids of what they had an answer for."""

    def __init__(self, server: Server, callers: int = 3) -> None:
        self.server = server
        self.answered: list[str] = []
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._call) for _ in range(callers)]

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for each in self._threads:
            each.join()

    def _call(self) -> None:
        identifier = fresh_identifier()
        while not self._end.is_set():
            try:
                with self.server.client(identifier) as client:
                    while not self._end.is_set():
                        self.answered.append(client.execute("1").id)
            except (ApiError, httpx.HTTPError, NotRunning, OSError):
                time.sleep(0.05)


@pytest.mark.thorough
def test_what_was_answered_is_in_the_log_whoever_is_killed(slim_server: SlimServer, tmp_path: Path) -> None:
    """Gateway and auditor, one after the other and at once, under load."""
    with slim_server(config=ONE_FILE, state=tmp_path / "state") as server:
        with Load(server) as load:
            for victims in (["auditor"], ["gateway"], ["auditor"], ["gateway", "auditor"]):
                so_far = len(load.answered)
                assert eventually(lambda so_far=so_far: len(load.answered) > so_far + 30, 60)  # type: ignore[misc]
                before = server.pids
                for name in victims:
                    os.kill(before[name], signal.SIGKILL)
                assert eventually(
                    lambda before=before, victims=victims: all(server.pids[each] != before[each] for each in victims),  # type: ignore[misc]
                    60,
                )
        state = server.state
        with Management.from_connection(state) as management:
            next(management.audit())
        counts = runs_of(lines_of(state))
        read = {
            each.get("details", {}).get("execution") for each in lines_of(state) if each["action"] == "executions/read"
        }
        assert not {*load.answered} - {*counts} - read, "whose gateway was killed asked the next one for the result"
        assert max(counts.values()) == 1
        assert is_whole(state)
    assert is_whole(state)


@pytest.mark.thorough
def test_a_killed_supervisor_loses_nothing_that_was_answered(slim_server: SlimServer, tmp_path: Path) -> None:
    """Everything dies with it; the auditor writes what it was sent first, and the next server goes on with the chain."""
    state = tmp_path / "state"
    with slim_server(state=state) as server:
        with Load(server) as load:
            assert eventually(lambda: len(load.answered) > 50, 60)
            os.kill(server.process.pid, signal.SIGKILL)
            server.process.wait()
            answered = list(load.answered)
        assert is_lock_free(state)
    with slim_server(state=state):
        pass

    assert set(answered) <= set(runs_of(lines_of(state)))
    assert is_whole(state)


def is_lock_free(state: Path) -> bool:
    """The auditor of the server before has ended."""
    import fcntl

    def free() -> bool:
        with (state / "audit" / "lock").open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    return eventually(free, 20)


@pytest.mark.thorough
def test_nothing_is_done_that_cannot_be_recorded(slim_server: SlimServer, tmp_path: Path) -> None:
    """`block`: with an auditor that takes nothing, changes and tokens are 503, nothing has changed, and health answers."""
    starting = slim_server("--audit-full", "block", state=tmp_path / "state")
    with starting as server, Management.from_connection(server.state) as management:
        principal = str(uuid.uuid4())
        management.assign_role("Reader", principal, kind="ServicePrincipal")
        fields = server.connection
        form = {
            "grant_type": "client_credentials",
            "client_id": fields["client_id"],
            "client_secret": fields["client_secret"],
            "scope": "https://management.azure.com/.default",
        }
        url = f"{fields['http']}/{fields['tenant']}/oauth2/v2.0/token"
        with server.client() as client:
            client.execute("1")
            os.kill(server.pids["auditor"], signal.SIGSTOP)
            put = put_group(server, "unrecorded")
            token = httpx.post(url, data=form, trust_env=False, timeout=30)
            assert (put.status_code, put.json()["error"]["code"]) == (503, "AuditUnavailable"), put.text
            assert token.status_code == 503 and "access_token" not in token.text
            assert httpx.get(f"{fields['http']}/health", trust_env=False).status_code == 200
            assert client.execute("1 + 1").result == 2, "there is room for records still"
            os.kill(server.pids["auditor"], signal.SIGCONT)

        assert eventually(lambda: put_group(server, "recorded").status_code == 201, 30)
        assert httpx.post(url, data=form, trust_env=False, timeout=30).status_code == 200
        assert {each.name for each in management.groups()} >= {"recorded"}
        assert "unrecorded" not in {each.name for each in management.groups()}
        outcomes = [each.outcome for each in management.audit(action="groups/write")]
        assert outcomes[:2] == ["Succeeded", "Begun"]
    assert is_whole(server.state)


def put_group(server: Server, name: str) -> httpx.Response:
    fields = server.connection
    path = f"/subscriptions/{fields['subscription']}/resourceGroups/{name}"
    return httpx.put(
        f"{fields['http']}{path}",
        params={"api-version": "2024-11-01"},
        headers={"Authorization": f"Bearer {fields['arm_token']}"},
        json={"location": "local"},
        trust_env=False,
        timeout=30,
    )


@pytest.mark.thorough
def test_ends_that_nobody_asked_for_are_recorded(slim_server: SlimServer) -> None:
    """A session whose code ends it, and sessions of a pool that is deleted: with the reason, also across a gateway that is killed."""
    with slim_server() as server, Management.from_connection(server.state) as management:
        digest = State(server.state).digest
        names = [fresh_identifier() for _ in range(3)]
        with server.client(names[0]) as client:
            client.execute("1")
            client.end()
        with server.client(names[1]) as client:
            client.execute("1")
        os.kill(server.pids["gateway"], signal.SIGKILL)
        assert eventually(lambda: is_serving(server), 30)
        with server.client(names[2]) as client:
            client.execute("1")
        management.delete_pool("python")

        def ends() -> dict[str, list[str]]:
            found = list(management.audit(action="sessions/end"))
            told = [(each.session, each.details.get("reason", "by its caller")) for each in found]
            return {name: [reason for session, reason in told if session == digest(name)] for name in names}

        by_pool = "its session pool was deleted"
        wanted = {names[0]: ["by its caller"], names[1]: [by_pool], names[2]: [by_pool]}
        assert eventually(lambda: ends() == wanted, 30), ends()
    assert BY_CALLERS == DELETED


def is_serving(server: Server) -> bool:
    try:
        return httpx.get(f"{server.connection['http']}/health", trust_env=False, timeout=5).status_code == 200
    except (httpx.HTTPError, NotRunning):
        return False


@pytest.mark.thorough
def test_a_server_whose_disk_is_full_goes_on(slim_server: SlimServer, tmp_path: Path) -> None:
    """`drop`, the default: code runs, and what does not fit into the log waits for room."""
    with slim_server(state=tmp_path / "state") as server, server.client() as client:
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        try:
            resource.prlimit(server.pids["auditor"], resource.RLIMIT_FSIZE, (500, limits[1]))
        except PermissionError:
            pytest.skip("limits of a process of another user cannot be set here")
        ran = [client.execute("1").id for _ in range(50)]
        resource.prlimit(server.pids["auditor"], resource.RLIMIT_FSIZE, limits)
        assert eventually(lambda: set(ran) <= set(runs_of(lines_of(server.state))), 30)
    assert is_whole(server.state)


@pytest.mark.thorough
def test_without_the_log_there_is_no_auditor(slim_server: SlimServer) -> None:
    """`audit = "off"`: no process, no folder, and the route says so."""
    with slim_server("--audit", "off") as server:
        assert "auditor" not in server.pids and not (server.state / "audit").exists()
        fields = server.connection
        headers = {"Authorization": f"Bearer {fields['arm_token']}"}
        reply = httpx.get(f"{fields['http']}/.carrel/audit", headers=headers, trust_env=False)
        assert reply.status_code == 404 and "setting audit" in reply.text
        with server.client() as client:
            assert client.execute("6 * 7").result == 42
