"""Least privilege of Carrel itself: who each process of a running server is, as /proc tells it.

As root only the supervisor and what it starts for the spawner's work are root. As an ordinary user nobody is anybody else, and what holds
is that no process could become more.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import carrel
from carrel.backends import ids
from carrel.cli.capabilities import KEPT
from carrel.client import ApiError, Client
from carrel.signing import SigningFolder
from carrel.storage import State
from conftest import SLIM, Server, SlimServer, fresh_identifier
from edged import ISSUER, MAPPED
from oidc import AUDIENCE, LocalIssuer, serving
from processes import command, descendants, eventually

LISTED = """
[pools.python]
scaleConfiguration = {maxConcurrentSessions = 5, readySessionInstances = 1}
sessionNetworkConfiguration = {status = "EgressEnabled"}
carrel = {image = "python-slim", memory = "256MiB", disk = "64MiB", tmp = "16MiB", egress = {allow = ["example.com"]}}
"""
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@dataclass(frozen=True)
class Process:
    """A process of the server, from outside."""

    pid: int
    part: str
    status: dict[str, str]

    @property
    def uids(self) -> set[int]:
        return {int(each) for each in self.status["Uid"].split()}

    @property
    def gids(self) -> set[int]:
        return {int(each) for each in (self.status["Gid"] + " " + self.status["Groups"]).split()}

    @property
    def capabilities(self) -> set[int]:
        """Every set as one number."""
        return {int(self.status[name], 16) for name in SETS}


def part_of(pid: int, status: dict[str, str]) -> str:
    """What a process is. What is confined by seccomp is a session's: agent or interpreter, forked from a template whose name it has."""
    words = command(pid)
    if status["Seccomp"] == "2":
        return "sandbox"
    modules = {
        "carrel.cli": "supervisor",
        "carrel.host.spawner": "spawner",
        "carrel.guest.init": "cell block",
        "carrel.guest.template": "template",
        "carrel.auditor": "auditor",
        "carrel.server": "gateway",
        "carrel.egress": "egress",
        "carrel.host": "host",
    }
    return next((part for module, part in modules.items() if module in words), f"unknown: {words}")


def user_namespace(pid: int) -> str | None:
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/user").readlink())
    return None


def family(server: Server) -> list[Process]:
    found = []
    for pid in [server.process.pid, *descendants(server.process.pid)]:
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            continue
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
        part = part_of(pid, status)
        if part == "spawner" and user_namespace(pid) != user_namespace(server.process.pid):
            part = "cell block"  # the spawner's child that waits for its init
        found.append(Process(pid, part, status))
    return found


@pytest.fixture(scope="module")
def running(slim_server: SlimServer) -> Iterator[Server]:
    with slim_server(config=LISTED) as server, server.client() as client:
        client.execute("1 + 1")
        yield server


@pytest.fixture(scope="module")
def processes(running: Server) -> list[Process]:
    """Of a server that runs a session."""
    return family(running)


@pytest.fixture(scope="module")
def is_root(running: Server) -> bool:
    return Path(f"/proc/{running.process.pid}").stat().st_uid == 0


def of(processes: list[Process], *parts: str) -> list[Process]:
    found = [each for each in processes if each.part in parts]
    assert {each.part for each in found} == set(parts)
    return found


def test_every_process_is_one_we_know(processes: list[Process]) -> None:
    known = {"supervisor", "auditor", "host", "spawner", "gateway", "egress", "cell block", "template", "sandbox"}

    assert {each.part for each in processes} == known


def test_what_reads_strangers_bytes_has_no_capability_and_gets_none(processes: list[Process], is_root: bool) -> None:
    """In none of the five sets; and no program that is set-uid or has capabilities gives it one. (Only root may empty a bounding set.)"""
    for each in of(processes, "auditor", "host", "gateway", "egress", "sandbox"):
        sets = SETS if is_root or each.part == "sandbox" else [name for name in SETS if name != "CapBnd"]

        assert [int(each.status[name], 16) for name in sets] == [0] * len(sets), each
        assert each.status["NoNewPrivs"] == "1", each


def test_as_root_each_part_has_an_id_of_its_own(processes: list[Process], running: Server, is_root: bool) -> None:
    """Its own user and group and no other group: none is root, none is another's or a session's."""
    if not is_root:
        pytest.skip("the server runs as an ordinary user, who cannot be another")
    own = {each.part: each for each in of(processes, "auditor", "host", "gateway", "egress")}

    for part, each in own.items():
        assert each.uids == each.gids == {ids.service(running.state, part)}
    assert len({uid for each in own.values() for uid in each.uids}) == 4
    inside = ids.sessions(running.state)
    for each in own.values():
        assert not each.uids & ({0} | set(inside))
    for each in of(processes, "cell block", "template", "sandbox"):
        assert all(uid in inside for uid in each.uids | each.gids), each
    for each in of(processes, "sandbox"):
        assert inside.start not in each.uids, "0 of the cell block is its root's"


def test_only_supervisor_and_spawner_are_root(processes: list[Process], is_root: bool) -> None:
    """As an ordinary user nobody is."""
    roots = {each.part for each in processes if 0 in each.uids | each.gids}

    assert roots == ({"supervisor", "spawner"} if is_root else set())


def test_root_keeps_what_the_list_has(processes: list[Process], is_root: bool) -> None:
    """Supervisor and spawner: no capability but those with a reason, now or by an exec."""
    if not is_root:
        pytest.skip("the server runs as an ordinary user, who has none")
    kept = sum(1 << number for number, _reason in KEPT.values())
    for each in of(processes, "supervisor", "spawner"):
        assert all(int(each.status[name], 16) & ~kept == 0 for name in SETS), each


def test_no_part_holds_another_part_s_descriptors(running: Server, is_root: bool) -> None:
    """Of the state folder the gateway has open the store, the way to the host, and a mark by which it asks how full the disk is, both of
    which list nothing; the auditor its own folder; the host its journal, besides sockets, pipes and namespaces."""
    if os.geteuid() != 0:
        pytest.skip("only root sees which files they have open")
    state = str(running.state)
    store = {f"{state}/store/carrel.db{part}" for part in ("", "-wal", "-shm")}
    folders = {state, f"{state}/run"}
    for part in ("gateway", "host", "auditor"):
        opened = [target(link) for link in Path(f"/proc/{running.pids[part]}/fd").iterdir()]
        below = {path for path in opened if path.startswith(state)}

        if part == "gateway":
            assert below == {*folders, *store}
        else:
            own = {"auditor": f"{state}/audit", "host": f"{state}/journal"}[part]
            assert below and all(path == own or path.startswith(f"{own}/") for path in below)
    for link in Path(f"/proc/{running.pids['gateway']}/fd").iterdir():
        if target(link) in folders:
            flags = (
                Path(f"/proc/{running.pids['gateway']}/fdinfo/{link.name}").read_text().split("flags:")[1].split()[0]
            )
            assert int(flags, 8) & os.O_PATH


def target(link: Path) -> str:
    """Where it leads; nowhere if it was closed since."""
    try:
        return str(link.readlink())
    except FileNotFoundError:
        return ""


def test_the_host_serves_nobody_but_its_gateway(running: Server, is_root: bool) -> None:
    """Another user does not get to its socket: not by the path, and not where he is handed the folder."""
    path = running.state / "run" / "hostlink.sock"
    owner = ids.service(running.state, "gateway") if is_root else Path(f"/proc/{running.process.pid}").stat().st_uid

    assert path.stat().st_uid == owner
    assert path.stat().st_mode & 0o777 == 0o600
    if os.geteuid() != 0:
        pytest.skip("only root can try as somebody else")
    folder = os.open(path.parent, os.O_RDONLY)
    program = f"import os, socket; os.fchdir({folder}); socket.socket(socket.AF_UNIX).connect('hostlink.sock')"
    try:
        done = subprocess.run(
            ["/usr/bin/python3", "-c", program],
            user=65533,
            group=65533,
            extra_groups=[],
            pass_fds=[folder],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(folder)
    assert "PermissionError" in done.stderr


@pytest.mark.thorough
@pytest.mark.slow
def test_a_gateway_and_a_spawner_that_are_replaced_have_no_more(slim_server: SlimServer) -> None:
    """What is started later is who its predecessor was."""
    with slim_server(config=SLIM) as server, server.client() as client:
        client.execute("1 + 1")
        before = {each.part: each.status for each in family(server)}
        os.kill(server.pids["gateway"], signal.SIGKILL)
        os.kill(next(each.pid for each in family(server) if each.part == "spawner"), signal.SIGKILL)

        def is_back() -> bool:
            try:
                return bool(client.execute("1 + 1").result == 2)
            except (ApiError, httpx.HTTPError):
                return False

        assert eventually(is_back, 60)
        after = {each.part: each.status for each in family(server)}
        for part in ("gateway", "spawner", "template", "host"):
            names = ("Uid", "Gid", "Groups", "NoNewPrivs", *SETS)
            assert [after[part][name] for name in names] == [before[part][name] for name in names], part


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be where nobody else may go, and make mounts")
def test_it_serves_where_nobody_else_may_read(request: pytest.FixtureRequest) -> None:
    """Carrel and its state below a folder that is root's alone, as /root is: processes that are not root any more open nothing late."""
    if request.config.getoption("--user"):
        pytest.skip("about a server of root's")
    with tempfile.TemporaryDirectory() as folder:  # of mode 0700
        use_below(Path(folder))


def use_below(closed: Path) -> None:
    for name in ("src", "venv", "state"):
        (closed / name).mkdir()
    with serving() as issuer:
        use_installed(closed, issuer)


def use_installed(closed: Path, issuer: LocalIssuer) -> None:
    table = ISSUER.format(issuer=issuer.issuer, audience=AUDIENCE, mapped=MAPPED)
    (closed / "config.toml").write_text(SLIM + table)
    source, environment = Path(carrel.__file__).parents[1], Path(sys.prefix)
    script = f"""
mount --make-rprivate / && mount --bind {source} {closed}/src && mount --bind {environment} {closed}/venv
exec {closed}/venv/bin/python -P -m carrel.cli serve --state {closed}/state --port 0 --tls-port 0 --config {closed}/config.toml
"""
    variables = {**os.environ, "PYTHONPATH": f"{closed}/src"}
    process = subprocess.Popen(["unshare", "-m", "sh", "-c", script], env=variables, stdout=subprocess.DEVNULL)
    try:
        assert eventually((closed / "state" / "connection.json").exists, 60), "it does not start"
        with Client.from_connection(closed / "state", identifier=fresh_identifier()) as client:
            use_everything(client)
        fields = json.loads((closed / "state" / "connection.json").read_text())
        assert httpx.get(fields["https"] + "/health", verify=fields["ca"]).status_code == 200
        pool = fields["pools"]["python"]
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}  # what it needs is imported now
        mcp = httpx.post(pool["mcp"], json=hello, headers={"x-ms-apikey": pool["mcp_key"]}, timeout=30)
        assert mcp.json()["result"]["capabilities"]["tools"] is not None
        refused = httpx.post(
            fields["pools"]["python"]["endpoint"] + "/executions", content=b"{", params={"identifier": "x"}
        )
        assert refused.status_code == 401
        renewed_and_rotated(closed / "state", issuer)
        with socket.create_connection(("127.0.0.1", httpx.URL(fields["http"]).port), 5) as raw:
            raw.sendall(b"\x00\xff nonsense\r\n\r\n")
            assert b"400" in raw.recv(4096)
    finally:
        process.terminate()
        assert process.wait(20) == 0


def renewed_and_rotated(state: Path, issuer: LocalIssuer) -> None:
    """Keys and a certificate that are handed over while it serves, and a token whose key has to be fetched."""
    fields = json.loads((state / "connection.json").read_text())
    SigningFolder(state / "keys/signing", state / "none").rotate()
    (state / "tls/server.pem").unlink()
    issuer.rotate("following")
    time.sleep(2.5)

    def status_of(token: str) -> int:
        url = fields["pools"]["python"]["endpoint"] + "/metadata"
        headers, query = {"Authorization": f"Bearer {token}"}, {"api-version": "2025-10-02-preview"}
        return httpx.get(url, params=query, headers=headers).status_code

    assert status_of(State(state).issue_token()) == 200
    assert (
        httpx.get(fields["https"] + "/health", verify=ssl.create_default_context(cafile=fields["ca"])).status_code
        == 200
    )
    assert eventually(lambda: status_of(issuer.token("following")) == 403, 5)  # known, without a right


def use_everything(client: Client) -> None:
    """What takes the less trodden ways too: each of them may want a module that nobody has wanted before."""
    assert client.execute("1 + 1").result == 2
    client.upload("a.txt", b"abc" * 100_000)
    assert client.download("a.txt") == b"abc" * 100_000
    assert [file.name for file in client.list_files()] == ["a.txt"]
    client.delete_file("a.txt")
    with pytest.raises(ApiError) as refused:
        client.upload("../a\N{SNOWMAN}\n.txt", b"")
    assert refused.value.status == 400
    with pytest.raises(ApiError):
        client.download("a.txt")
    assert not client.execute("1 / 0").is_ok
    assert not client.execute("while True: pass", timeout=1).is_ok
    client.execute("import os; os._exit(3)")
    assert client.execute("2 + 2").result == 4
    client.end()
    assert client.execute("3 + 3").result == 6
