"""What holds the server together: a dead gateway is replaced, a dead host ends it, signals stop it in order, nothing outlives it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from carrel.client import NotRunning
from carrel.pulse import BEAT_S, SILENT_BEATS
from conftest import Server, SlimServer
from processes import alive, descendants, eventually

pytestmark = pytest.mark.slow


def test_connection_says_who_and_where(server: Server) -> None:
    """The file names every process and the ports that answer; what is not built is null."""
    connection = server.connection

    assert all(alive(pid) for pid in connection["pids"].values())
    assert connection["pids"]["supervisor"] == server.process.pid
    assert (connection["pools"]["node"], connection["pools"]["shell"], connection["arm"]) == (
        None,
        None,
        connection["https"],
    )
    assert (server.state / "connection.json").stat().st_mode & 0o777 == 0o600


def test_listens_on_loopback_only(server: Server) -> None:
    """Both loopback addresses answer on the same port where the machine has both."""
    port = int(server.connection["http"].rsplit(":", 1)[1])

    socket.create_connection(("127.0.0.1", port)).close()
    if socket.has_ipv6 and _has_address("::1"):
        socket.create_connection(("::1", port)).close()


def test_a_dead_gateway_is_replaced_and_sessions_live_on(slim_server: SlimServer) -> None:
    """`kill -9` of the gateway loses no variable; connection.json names the new one."""
    with slim_server() as server, server.client() as client:
        client.execute("x = 41")
        before = server.pids["gateway"]
        os.kill(before, signal.SIGKILL)

        assert eventually(lambda: server.pids["gateway"] != before, 10)
        assert client.execute("x + 1").result == 42
        client.end()


@pytest.mark.thorough
def test_a_store_that_another_program_has_spoilt_ends_no_session(slim_server: SlimServer) -> None:
    """The supervisor looks at it twice a second, for connection.json."""
    with slim_server() as server, server.client() as client:
        client.execute("x = 41")
        with sqlite3.connect(server.state / "store" / "carrel.db", timeout=10) as other:
            other.execute("UPDATE pools SET properties = '{'")
            other.execute("UPDATE meta SET value = value + 1 WHERE name LIKE 'generation%'")
        time.sleep(2)

        assert client.execute("x + 1").result == 42
        client.end()


@pytest.mark.thorough
def test_a_gateway_that_cannot_be_started_for_a_while_is_no_end(slim_server: SlimServer) -> None:
    """No descriptors, no processes to be had: it is tried again, and the sessions live on."""
    with slim_server() as server, server.client() as client:
        client.execute("x = 41")
        before = server.pids["gateway"]
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(before, signal.SIGKILL)
        time.sleep(1)
        assert server.process.poll() is None
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, limits)

        assert eventually(lambda: server.pids["gateway"] != before, 15)
        assert client.execute("x + 1").result == 42
        client.end()


def test_a_dead_host_ends_the_server_and_everything_in_it(slim_server: SlimServer) -> None:
    """Status 1, so that a service manager starts it again; no process is left."""
    with slim_server() as server:
        family = descendants(server.process.pid)
        os.kill(server.pids["host"], signal.SIGKILL)

        assert server.process.wait(15) == 1
        assert eventually(lambda: not any(alive(pid) for pid in family))
        assert not (server.state / "connection.json").exists()


@pytest.mark.thorough
def test_whoever_hangs_is_treated_as_dead(slim_server: SlimServer) -> None:
    """A gateway that falls silent is replaced and sessions live on; a host that does ends the server. Stopped processes stand for both."""
    patience = BEAT_S * (SILENT_BEATS + 5)
    with slim_server() as first, slim_server() as second, first.client() as client:
        client.execute("x = 41")
        gateway = first.pids["gateway"]
        os.kill(gateway, signal.SIGSTOP)
        os.kill(second.pids["host"], signal.SIGSTOP)

        assert eventually(lambda: first.pids["gateway"] != gateway, patience)
        assert client.execute("x + 1").result == 42
        client.end()
        assert second.process.wait(patience) == 1


def test_a_dead_supervisor_leaves_nothing_running(slim_server: SlimServer) -> None:
    """`kill -9` of the supervisor: the kernel ends the rest."""
    with slim_server() as server:
        family = descendants(server.process.pid)
        server.process.kill()

        assert eventually(lambda: not any(alive(pid) for pid in family), 10)
        server.process.wait(5)
        # What nobody was left to remove, the next start sweeps.
        with slim_server(state=server.state) as following, following.client() as client:
            assert client.execute("1").is_ok


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_in_order(slim_server: SlimServer, number: signal.Signals) -> None:
    """Status 0, no process, no connection file."""
    with slim_server() as server:
        family = descendants(server.process.pid)
        server.process.send_signal(number)

        assert server.process.wait(12) == 0
        assert not any(alive(pid) for pid in family)
        with pytest.raises(NotRunning):
            server.client()


@pytest.mark.thorough
def test_a_second_server_on_the_same_folder_is_refused(slim_server: SlimServer) -> None:
    with slim_server() as server:
        command = [
            sys.executable,
            "-P",
            "-m",
            "carrel.cli",
            "serve",
            "--state",
            str(server.state),
            "--port",
            "0",
            "--tls-port",
            "0",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        assert done.returncode == 1
        assert f"process {server.process.pid}" in done.stderr
        assert (server.state / "connection.json").exists()


def _has_address(address: str) -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True
