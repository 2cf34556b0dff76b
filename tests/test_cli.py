"""The command line: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import jwt
import pytest

from carrel.cli import listeners, statefolder
from carrel.storage import State
from conftest import Server, fresh_identifier


def carrel(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "carrel.cli", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


# ---- without a server ----------------------------------------------------------------------------------------------------------


def test_version() -> None:
    from carrel import __version__

    assert carrel("--version").stdout == f"carrel {__version__}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(shell: str) -> None:
    """A script that asks carrel itself, so that it knows every command and option."""
    script = carrel("completion", shell).stdout

    assert "_CARREL_COMPLETE" in script


def test_a_bad_setting_is_a_usage_error() -> None:
    """Exit status 2 and a line that names setting, value and what is allowed."""
    done = carrel("serve", "--port", "70000")

    assert done.returncode == 2
    assert "--port: '70000' is not allowed; a whole number from 0 to 65535" in done.stderr


def test_a_command_that_needs_a_server_says_how_to_start_one(tmp_path: Path) -> None:
    done = carrel("sessionpool", "list", "--state", str(tmp_path))

    assert done.returncode == 1
    assert "carrel serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_token_is_signed_with_the_state_folders_key(tmp_path: Path) -> None:
    """Lifetime, role, pools and audience are as asked for."""
    options = ["--ttl", "15m", "--role", "Reader", "--pool", "a", "--pool", "b", "--audience", "https://acasessions.io"]

    text = carrel("token", "--state", str(tmp_path), *options).stdout.strip()

    state = State(tmp_path)
    claims = jwt.decode(
        text, state.public_key, algorithms=["RS256"], audience="https://acasessions.io", issuer=state.issuer
    )
    assert claims["exp"] - claims["iat"] == 900
    assert (claims["roles"], claims["carrel_pools"]) == (["Reader"], ["a", "b"])


def test_a_token_for_one_session_names_it(tmp_path: Path) -> None:
    text = carrel("token", "--state", str(tmp_path), "--identifier", "alice", "--pool", "node").stdout.strip()

    claims = jwt.decode(text, options={"verify_signature": False})
    assert (claims["carrel_identifier"], claims["carrel_pools"]) == ("alice", ["node"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--identifier", "abc"], "--identifier: The session identifier must have 4 to 128"),
        (["--identifier", "alice", "--role", "Owner"], "leave --role out"),
        (["--identifier", "alice", "--audience", "https://management.azure.com"], "leave --audience out"),
        (["--identifier", "alice", "--pool", "a", "--pool", "b"], "name one --pool"),
        (["--role", "King"], "--role: there is no role 'King'"),
    ],
)
def test_a_token_that_would_open_nothing_is_not_made(tmp_path: Path, options: list[str], words: str) -> None:
    done = carrel("token", "--state", str(tmp_path), *options)

    assert (done.returncode, done.stdout) == (2, "")
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize("pool", ["", "/", "a/b", " "])
def test_a_token_for_no_pool_is_not_made(pool: str, tmp_path: Path) -> None:
    """It would be for all of them."""
    done = carrel("token", "--state", str(tmp_path), "--pool", pool)

    assert (done.returncode, done.stdout) == (2, "")
    assert "--pool" in done.stderr


def test_exec_wants_code_from_one_place(tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("1")

    done = carrel("exec", "1", "-f", str(file))

    assert done.returncode == 2
    assert "not both" in done.stderr


def test_both_addresses_get_the_same_free_port() -> None:
    sockets = listeners.listen(("127.0.0.1", "127.0.0.2"), 0, "port")

    assert len({each.getsockname()[1] for each in sockets}) == 1
    for each in sockets:
        each.close()


def test_a_taken_port_is_named_with_what_to_do() -> None:
    (holder,) = listeners.listen(("127.0.0.1",), 0, "port")

    with (
        holder,
        pytest.raises(listeners.ListenError, match=rf"port {listeners.port_of([holder])} is taken.*--tls-port N"),
    ):
        listeners.listen(("127.0.0.1",), listeners.port_of([holder]), "tls-port")


def test_a_state_folder_serves_one(tmp_path: Path) -> None:
    """The second server is told which process has the folder."""
    with statefolder.exclusive(tmp_path):
        assert statefolder.is_held(tmp_path)
        with pytest.raises(statefolder.FolderError, match=rf"process {os.getpid()}"), statefolder.exclusive(tmp_path):
            pass

    assert not statefolder.is_held(tmp_path)


def test_a_path_too_long_for_a_socket_is_refused_beforehand(tmp_path: Path) -> None:
    with pytest.raises(statefolder.FolderError, match="too long"), statefolder.exclusive(tmp_path / ("x" * 100)):
        pass


def test_connection_is_private_and_replaced_whole(tmp_path: Path) -> None:
    """It holds a token: its owner alone may read it, from its first moment on."""
    statefolder.write_connection(tmp_path, {"token": "a"})
    statefolder.write_connection(tmp_path, {"token": "b"})

    file = tmp_path / "connection.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {"token": "b"}
    assert [path.name for path in tmp_path.iterdir()] == ["connection.json"]


# ---- with one ------------------------------------------------------------------------------------------------------------------


def test_exec_prints_output_and_value(server: Server) -> None:
    """stdout to stdout, stderr to stderr, then the value."""
    code = "import sys; print('out'); print('err', file=sys.stderr); 6 * 7"

    done = carrel("exec", "--state", str(server.state), code)

    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n42\n", "err\n")


def test_exec_takes_code_from_stdin_and_file(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "code.py"
    file.write_text("print('from a file')")

    assert carrel("exec", "--state", str(server.state), stdin="print('from stdin')").stdout == "from stdin\n"
    assert carrel("exec", "--state", str(server.state), "-f", str(file)).stdout == "from a file\n"


def test_exec_tells_what_was_used(server: Server) -> None:
    """One line on stderr, so that stdout stays the program's."""
    done = carrel("exec", "--state", str(server.state), "--usage", "print('four'); 5")

    assert done.stdout == "four\n5\n"
    assert done.stderr.startswith("ok: wall ")
    assert " ms, cpu " in done.stderr and "printed 5 bytes" in done.stderr


def test_exec_fails_when_the_program_does(server: Server) -> None:
    """Exit status 1, the traceback on stderr."""
    done = carrel("exec", "--state", str(server.state), "1/0")

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr


def test_exec_keeps_a_named_session(server: Server) -> None:
    session = fresh_identifier()
    carrel("exec", "--state", str(server.state), "--session", session, "x = 41")

    assert carrel("exec", "--state", str(server.state), "--session", session, "x + 1").stdout == "42\n"
    with server.client(session) as client:
        client.end()


def test_exec_without_a_session_leaves_none(server: Server) -> None:
    """A call for itself alone does not use up the pool."""
    with server.client() as client:
        before = {each.identifier for each in client.sessions()}
        carrel("exec", "--state", str(server.state), "1")
        assert {each.identifier for each in client.sessions()} <= before


@pytest.mark.packages
def test_exec_saves_an_image(server: Server, tmp_path: Path) -> None:
    """A figure becomes a file; one that is there is not replaced."""
    code = "import matplotlib.pyplot as plt; _ = plt.plot([1, 2])"

    for number in (1, 2):
        done = carrel("exec", "--state", str(server.state), "--images", str(tmp_path), code)
        assert done.stdout.strip() == str(tmp_path / f"image-{number}.png"), done.stderr
        assert (tmp_path / f"image-{number}.png").read_bytes().startswith(b"\x89PNG")


def test_exec_json(server: Server) -> None:
    done = carrel("exec", "--state", str(server.state), "-o", "json", "print('x'); [1, None]")

    fields = json.loads(done.stdout)
    assert {key: fields[key] for key in ("status", "stdout", "result")} == {
        "status": "Succeeded",
        "stdout": "x\n",
        "result": [1, None],
    }


def test_exec_names_an_unknown_pool(server: Server) -> None:
    done = carrel("exec", "--state", str(server.state), "--pool", "none", "1")

    assert done.returncode == 1
    assert "no pool none" in done.stderr


@pytest.mark.packages
def test_sessionpool_status(server: Server) -> None:
    listed = json.loads(carrel("sessionpool", "status", "--state", str(server.state), "-o", "json").stdout)
    shown = json.loads(carrel("sessionpool", "status", "python", "--state", str(server.state), "-o", "json").stdout)

    assert [(each["name"], each["poolManagementEndpoint"]) for each in listed] == [("python", server.endpoint)]
    assert [listed[0]["isolation"], shown["isolation"]] == [server.level, server.level]
    assert "numpy" in {each["name"] for each in shown["packages"]}
    assert carrel("sessionpool", "status", "--state", str(server.state)).stdout.startswith("Name")


def test_env_is_what_a_shell_takes(server: Server) -> None:
    """Its exports are those of connection.json, quoted."""
    script = 'eval "$("$0" -P -m carrel.cli env --state "$1")" && printf %s "$CARREL_POOL_PYTHON $IDENTITY_ENDPOINT"'

    done = subprocess.run(
        ["bash", "-c", script, sys.executable, server.state], capture_output=True, text=True, check=True
    )

    assert done.stdout == f"{server.endpoint} {server.connection['identity_endpoint']}"


@pytest.mark.thorough
@pytest.mark.slow
def test_exec_without_a_server_starts_one_and_stops_it(tmp_path: Path, server: Server) -> None:
    """`carrel exec` works on its own; nothing of it is left (the run's own check sees to that)."""
    done = carrel("exec", "1 + 1", CARREL_STATE=str(tmp_path), CARREL_ISOLATION=server.level)

    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr


@pytest.mark.thorough
@pytest.mark.slow
def test_doctor_says_what_works(server: Server) -> None:
    """The level that a server is running at works, says the doctor."""
    done = carrel("doctor", "-o", "json", "--isolation", server.level)

    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert server.level in [each["level"] for each in report["levels"] if each["works"]]
    pools = {pool["name"]: pool["isolation"] for pool in report["pools"]}
    assert pools == dict.fromkeys(("python", "node", "shell"), server.level)


@pytest.mark.thorough
def test_json_logs_are_json(server: Server, tmp_path: Path) -> None:
    """Every line on stderr is an object with time, level, part and event."""
    script = [
        sys.executable,
        "-P",
        "-m",
        "carrel.cli",
        "serve",
        "--state",
        str(tmp_path),
        "--port",
        "0",
        "--tls-port",
        "0",
    ]
    process = subprocess.Popen(
        [*script, "--log-format", "json", "--isolation", server.level], stderr=subprocess.PIPE, text=True
    )
    try:
        while process.poll() is None and not (tmp_path / "connection.json").exists():
            time.sleep(0.02)
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=20)

    events = [json.loads(line) for line in errors.splitlines()]
    assert {"time", "level", "part", "event"} <= set(events[-1])
    assert process.returncode == 0
