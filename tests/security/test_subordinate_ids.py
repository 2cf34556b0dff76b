"""An ordinary user's server: sessions with host uids of their own where /etc/subuid gives some, and a plain word where it does not."""

from __future__ import annotations

import ctypes
import os
import pwd
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from carrel.host.subids import SUBUID
from carrel.models import Level
from conftest import Server, SlimServer, fresh_identifier
from fortress import Attacker, real_uid

_PR_SET_NO_NEW_PRIVS = 38


@pytest.fixture(scope="module")
def user(request: pytest.FixtureRequest) -> str:
    """The name of the ordinary user that servers run as."""
    name: str | None = request.config.getoption("--user")
    if name is None and os.geteuid() == 0:
        pytest.skip("the servers of this run are root's: pytest --user NAME")
    return name or pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture(scope="module")
def without_new_privileges(slim_server: SlimServer, user: str) -> Iterator[Server]:
    """A server that no set-uid program helps: started by a thread with no_new_privs, which its children inherit."""
    with ExitStack() as stack, ThreadPoolExecutor(1) as thread:
        thread.submit(ctypes.CDLL(None).prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).result()
        yield thread.submit(stack.enter_context, slim_server(level=Level.NAMESPACE)).result()


def test_sessions_have_ids_of_the_users_range(user: str, slim_server: SlimServer) -> None:
    """One each, in user and group, without the groups of whoever started the server; files, calls and the kill work across them."""
    entry = next((line for line in SUBUID.read_text().splitlines() if line.startswith(f"{user}:")), None)
    if entry is None:
        pytest.skip(f"{SUBUID} has no range for {user}")
    first, count = map(int, entry.split(":")[1:])
    with slim_server(level=Level.NAMESPACE) as server, ExitStack() as stack:
        seen = set()
        for _ in range(2):
            client = stack.enter_context(server.client(fresh_identifier()))
            client.upload("a.txt", b"one")
            client.execute("open('b.txt', 'w').write(open('a.txt').read())")
            assert client.download("b.txt") == b"one"
            pid = Attacker(server, client).host_pid()
            seen.add(real_uid(pid))
            assert "Groups:\t \n" in Path(f"/proc/{pid}/status").read_text()
            stack.callback(client.end)

        assert len(seen) == 2
        assert all(first <= uid < first + count for uid in seen)


def test_where_newuidmap_cannot_help_sessions_share_the_servers_id(without_new_privileges: Server) -> None:
    """It starts all the same, with the weaker promise: everything runs as the server's user, and never as more."""
    with without_new_privileges.client(fresh_identifier()) as client:
        pid = Attacker(without_new_privileges, client).host_pid()

        assert real_uid(pid) == real_uid(without_new_privileges.process.pid)
        client.end()
