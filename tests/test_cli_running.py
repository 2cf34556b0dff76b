"""`carrel exec` while it runs, and `carrel session`: what comes when, what Ctrl-C does, and the exit status."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from carrel.client import Client
from conftest import Server, fresh_identifier
from processes import eventually
from test_cli import carrel

pytestmark = pytest.mark.one_level
COMMAND = [sys.executable, "-P", "-m", "carrel.cli"]
FOREVER = "import time; print('on', flush=True)\nwhile True: time.sleep(0.05)"


def begin(server: Server, *arguments: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    command = [*COMMAND, "exec", "--state", str(server.state), *arguments]
    return subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True)


def test_output_is_printed_as_it_is_written(server: Server) -> None:
    """Once, also the value after it; without --stream a pipe gets it at the end, the same."""
    code = "import sys, time; print('first', flush=True); time.sleep(1.5); print('last'); print('e', file=sys.stderr); 6 * 7"
    process = begin(server, "--stream", code)
    assert process.stdout is not None
    line, at = process.stdout.readline(), time.monotonic()
    rest, errors = process.communicate(timeout=30)

    assert (line, rest, errors, process.returncode) == ("first\n", "last\n42\n", "e\n", 0)
    assert time.monotonic() - at > 1
    silent = carrel("exec", "--state", str(server.state), "--no-stream", code)
    assert (silent.stdout, silent.stderr) == ("first\nlast\n42\n", "e\n")


def test_a_terminal_gets_it_as_it_is_written(server: Server) -> None:
    ours, theirs = pty.openpty()
    process = begin(server, "print('seen', flush=True); import time; time.sleep(1.5); 5", stdout=theirs)
    os.close(theirs)
    began = time.monotonic()
    first = os.read(ours, 100)
    at = time.monotonic()
    process.wait(30)
    rest = os.read(ours, 100)
    os.close(ours)

    assert (first, rest) == (b"seen\r\n", b"5\r\n")
    assert time.monotonic() - at > 1, at - began


@pytest.mark.parametrize("option", ["--stream", "--no-stream", "--output=json"])
def test_ctrl_c_cancels_and_tells_what_there_was(server: Server, option: str) -> None:
    """The session goes on with its variables; what was printed until then is printed, once."""
    with server.client() as client:
        client.execute("kept = 1")
        process = begin(server, option, "--session", client.identifier, FOREVER)
        assert eventually(lambda: [each.status for each in client.executions()][-1] == "Running", 20)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=20)

        assert process.returncode == 130
        assert errors.startswith("canceling")
        shown = json.loads(printed)["stdout"] if option == "--output=json" else printed
        assert shown == "on\n"
        assert [each.status for each in client.executions()][-1] == "Canceled"
        assert client.execute("kept").result == 1
        client.end()


def test_a_second_ctrl_c_leaves_at_once(server: Server) -> None:
    """Also while the code does not let itself be interrupted; it is canceled all the same."""
    code = "import time; print('on', flush=True)\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass"
    with server.client() as client:
        client.execute("0")
        process = begin(server, "--stream", "--session", client.identifier, code)
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGINT)
        time.sleep(0.4)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        process.communicate(timeout=20)

        assert (process.returncode, time.monotonic() - began < 8) == (130, True)
        assert eventually(lambda: [each.status for each in client.executions()][-1] == "Canceled", 10)
        client.end()


@pytest.mark.parametrize(("line", "status"), [("echo hi", 0), ("echo hi; exit 3", 3), ("echo hi; kill -9 $$", 137)])
def test_a_command_exits_as_it_would_here(server: Server, line: str, status: int) -> None:
    done = carrel("exec", "--state", str(server.state), "--shell", line)

    assert (done.stdout, done.returncode) == ("hi\n", status)


def test_a_command_past_its_deadline_fails(server: Server) -> None:
    done = carrel("exec", "--state", str(server.state), "--shell", "--timeout", "1", "sleep 10")

    assert done.returncode == 1


@pytest.mark.thorough
def test_sessions_are_listed_shown_restarted_and_stopped(server: Server) -> None:
    identifier = fresh_identifier()

    def session(verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return carrel("session", verb, *arguments, "--state", str(server.state))

    with Client.from_connection(server.state, identifier=identifier) as client:
        client.execute("x = 1")
        listed = json.loads(session("list", "-o", "json").stdout)
        mine = next(each for each in listed if each["identifier"] == identifier)
        shown = json.loads(session("show", identifier, "-o", "json").stdout)
        assert {key: shown[key] for key in mine if key != "lastAccessedAt"} == {
            key: value for key, value in mine.items() if key != "lastAccessedAt"
        }
        assert [each["status"] for each in shown["executions"]] == ["Succeeded"]
        assert identifier in session("list").stdout
        assert "Succeeded" in session("show", identifier).stdout
        started = client.start(FOREVER)
        assert session("cancel", identifier, started.id).stdout == "Canceled\n"
        client.start(FOREVER)
        assert session("cancel", identifier).stdout == "1\n"
        assert session("restart", identifier).returncode == 0
        assert client.execute("'x' in globals()").result is False
    assert session("stop", identifier).returncode == 0
    refused(session, identifier)


def refused(session: Callable[..., subprocess.CompletedProcess[str]], identifier: str) -> None:
    """Of a session that is not there, every command says so in one line."""
    for verb in ("show", "restart", "cancel", "stop"):
        done = session(verb, identifier)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
        assert "NoSessionFoundError" in done.stderr
    assert "no pool nowhere" in session("list", "--pool", "nowhere").stderr
