"""`carrel top`: one snapshot for scripts, and a screen that follows, takes two keys and leaves the terminal as it was."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from carrel.cli.top_sampling import PoolLine, SessionLine, Snapshot
from carrel.cli.top_view import screen
from carrel.client import Client
from conftest import Server, SlimServer, fresh_identifier
from test_cli import carrel

pytestmark = pytest.mark.one_level
COMMAND = [sys.executable, "-P", "-m", "carrel.cli", "top", "--interval", "0.5"]
OTHER_SCREEN, OWN_SCREEN, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


class Screen:
    """`carrel top` on a terminal of its own."""

    def __init__(self, state: Path, *arguments: str) -> None:
        self._ours, self.terminal = pty.openpty()
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        self.before = termios.tcgetattr(self.terminal)
        self.written = b""
        environment = {**os.environ, "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            [*COMMAND, "--state", str(state), *arguments],
            stdin=self.terminal,
            stdout=self.terminal,
            stderr=self.terminal,
            env=environment,
            start_new_session=True,
        )

    def press(self, key: str) -> None:
        os.write(self._ours, key.encode())

    def shows(self, text: str, seconds: float = 60) -> bool:
        """Whether it comes to show it, from now on."""
        begin, until = len(self.written), time.monotonic() + seconds
        while time.monotonic() < until:
            if text in self._plain(self.written[begin:]):
                return True
            self._read(0.1)
        return False

    def ended(self) -> int:
        """Its exit status. What it writes to its end is read, or it would wait for a reader."""
        until = time.monotonic() + 60
        while self.process.poll() is None and time.monotonic() < until:
            self._read(0.05)
        while self._read(0.0):
            pass
        return self.process.wait(1)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._ours)
        os.close(self.terminal)

    def _read(self, seconds: float) -> bool:
        readable, _, _ = select.select([self._ours], [], [], seconds)
        if readable:
            self.written += os.read(self._ours, 65_536)
        return bool(readable)

    def _plain(self, data: bytes) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", data.decode(errors="replace"))


@contextmanager
def top(server: Server, *arguments: str) -> Iterator[Screen]:
    screen = Screen(server.state, *arguments)
    try:
        yield screen
    finally:
        screen.close()


def is_left_as_it_was(screen: Screen) -> bool:
    written = screen.written
    is_back = written.count(OTHER_SCREEN) == written.count(OWN_SCREEN) == 1 and written.rstrip().endswith(
        (CURSOR, OWN_SCREEN)
    )
    return is_back and CURSOR in written and termios.tcgetattr(screen.terminal) == screen.before


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160])
def test_a_narrow_terminal_has_fewer_columns_and_none_cut_short(width: int) -> None:
    """And what a server says is text: neither markup nor something for the terminal."""
    pool = PoolLine("python", "default", None, message="why\x1b[2J [bold]not[/bold]")
    session = SessionLine("python", "[red]alice[/]", "Idle", 12.5, 812.4, 48_000_000, 4096, 4, "Succeeded", 3.0, 297.0)
    console = Console(width=width, height=10, force_terminal=True, color_system=None)
    with console.capture() as text:
        console.print(screen(Snapshot(0.0, (pool,), (session,)), "memory", width, 10))
    lines = text.get().splitlines()

    assert "\x1b[2J" not in text.get()
    assert "[red]alice[/]" in text.get()
    assert "python: why" in text.get()
    assert not any("…" in line for line in lines if not line.startswith(("carrel top", "python: why")))
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()) <= width for line in lines)


def test_a_snapshot_says_what_a_session_uses(server: Server, client: Client) -> None:
    client.execute("1 / 0")
    found = carrel("top", "--state", str(server.state), "-o", "json")
    told = json.loads(found.stdout)
    session = next(each for each in told["sessions"] if each["identifier"] == client.identifier)
    pool = next(each for each in told["pools"] if each["name"] == server.pool)

    assert (session["state"], session["executions"], session["lastStatus"]) == ("Idle", 1, "Failed")
    assert session["cpuMs"] > 0
    assert session["cpuPercent"] is not None
    assert pool["live"] >= 1
    assert pool["executionsPerSecond"] is not None


@pytest.mark.thorough
def test_a_pipe_gets_one_table(server: Server) -> None:
    """With nothing of a terminal's in it, and an identifier that is markup as it is."""
    with server.client("[bold red]/home[/]") as client:
        client.execute("1")
        found = carrel("top", "--state", str(server.state), "--pool", server.pool, "--sort", "name")
        client.end()

    assert "\x1b" not in found.stdout
    assert "[bold red]/home[/]" in found.stdout
    assert found.stdout.startswith("Pool ")


def test_it_follows_sorts_and_quits(server: Server, client: Client) -> None:
    client.execute("1")
    with top(server) as screen:
        assert screen.shows("sorted by cpu")
        screen.press("s")
        assert screen.shows("sorted by memory")
        later = fresh_identifier()
        with server.client(later) as another:
            another.execute("2")
            assert screen.shows(later)
            another.end()
        screen.press("q")

        assert screen.ended() == 0
        assert is_left_as_it_was(screen)
        assert screen.written.count(b"\x1b[2J") <= 1, "it would flicker"


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 0), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.thorough)],
    ids=["ctrl-c", "sigterm"],
)
def test_a_signal_leaves_the_terminal_as_it_was(server: Server, number: signal.Signals, status: int) -> None:
    with top(server) as screen:
        assert screen.shows("carrel top")
        screen.process.send_signal(number)

        assert screen.ended() == status
        assert is_left_as_it_was(screen)


@pytest.mark.thorough
def test_a_server_that_goes_away_is_told_and_waited_for(slim_server: SlimServer) -> None:
    with slim_server() as running:
        screen = Screen(running.state)
        try:
            assert screen.shows("carrel top")
            running.process.send_signal(signal.SIGTERM)
            assert screen.shows("The server does not answer")
            screen.press("q")
            assert screen.ended() == 0
            assert is_left_as_it_was(screen)
        finally:
            screen.close()


@pytest.mark.thorough
def test_another_server_is_reached_by_its_endpoint(server: Server, client: Client) -> None:
    client.execute("1")
    connection = server.connection
    environment = {
        **{name: value for name, value in os.environ.items() if name != "CARREL_STATE"},
        "CARREL_ARM_TOKEN": connection["arm_token"],
        "CARREL_TOKEN": connection["token"],
    }
    done = subprocess.run(
        [*COMMAND[:-2], "--endpoint", connection["http"], "-o", "json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert client.identifier in done.stdout


@pytest.mark.thorough
def test_a_pool_that_is_not_there_is_an_error(server: Server) -> None:
    found = carrel("top", "--state", str(server.state), "--pool", "nothing-here", "--once")

    assert found.returncode == 3
    assert "nothing-here" in found.stderr
