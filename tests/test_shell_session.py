"""Sessions of a Shell pool through the front door: what one command leaves for the next, and what it cannot break."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from carrel.client import Client
from carrel.models import Level
from conftest import LEVELS, Server, SlimServer

POOL = """
[pools.shell]
containerType = "Shell"
scaleConfiguration = {maxConcurrentSessions = 10, readySessionInstances = 2}
carrel = {memory = "256MiB", disk = "64MiB", tmp = "16MiB", pids = 64}
"""


def _marked(level: Level) -> object:
    """Once in `make check`; the same again at every other level."""
    return pytest.param(level, marks=[] if level is Level.NAMESPACE else [pytest.mark.thorough], id=str(level))


@pytest.fixture(scope="module", params=[_marked(level) for level in LEVELS])
def serving(request: pytest.FixtureRequest, slim_server: SlimServer) -> Iterator[Server]:
    with slim_server(level=request.param, config=POOL) as server:
        yield server


@pytest.fixture
def shell(serving: Server) -> Iterator[Client]:
    with Client.from_connection(serving.state, pool="shell", identifier=f"shell-{time.monotonic_ns()}") as client:
        yield client
        client.end()


def test_exports_and_files_are_kept_and_the_directory_is_not(shell: Client) -> None:
    """Each command is a fresh process in the data folder."""
    home = shell.shell('pwd; export A="it\'s" B=1; C=2; echo x >f; cd /; unset B').stdout
    ran = shell.shell('printf "%s|%s|%s|" "$A" "$B" "$C"; cat f; pwd')

    assert ran.stdout == f"it's|||x\n{home}"
    assert shell.shell(["printenv", "A"]).stdout == "it's\n"
    assert shell.shell('echo "$A"', shell_type="sh").stdout == "it's\n"


def test_code_is_run_by_bash(shell: Client) -> None:
    """Succeeded or Failed as other code, with nothing as its result; exports are kept between code and commands."""
    ran = shell.execute("export D=4; echo out; [[ 1 == 1 ]]")
    assert (ran.status, ran.stdout, ran.result) == ("Succeeded", "out\n", "")
    ran = shell.execute("echo err >&2; exit 3")
    assert (ran.status, ran.stderr, ran.outcome) == ("Failed", "err\n", "error")
    assert shell.shell("echo $D").stdout == "4\n"


def test_what_is_too_large_for_the_environment_is_not_kept(shell: Client) -> None:
    """All together, which is said; and one that no program can be given. What was there before stays."""
    shell.shell("export KEPT=1")
    each = "export $v=$(head -c 100000 /dev/zero | tr '\\0' x)"
    assert "was left as it was" in shell.shell(f"for v in A B C; do {each}; done").stderr
    assert shell.shell(f"v=A; {each.replace('100000', '140000')}; export LOST=1").exit_code == 0

    assert shell.shell("echo $KEPT[$LOST]${#A}").stdout == "1[]0\n"


def test_variables_are_variables_of_the_environment(shell: Client) -> None:
    ran = shell.execute("OUT=1; export OUT=$IN$IN", variables={"IN": "a'b "}, return_variables=["OUT", "MISSING"])

    assert ran.variables == {"OUT": "a'b a'b "}


def test_a_background_process_lives_on_and_holds_no_call(shell: Client) -> None:
    began = time.monotonic()
    ran = shell.shell("(sleep 2; echo done >late) & echo started")
    assert ran.stdout == "started\n"
    assert time.monotonic() - began < 1.9
    assert shell.shell("while [ ! -e late ]; do sleep 0.1; done; cat late", timeout=20).stdout == "done\n"


@pytest.mark.parametrize("command", ["sleep 60", "trap '' INT TERM; while :; do sleep 1; done", "kill -STOP $$"])
def test_a_command_past_its_time_is_ended_with_its_group(shell: Client, command: str) -> None:
    """-1, and what was exported before is there still; nothing that the command began goes on."""
    shell.shell("export KEPT=1")
    ran = shell.shell(f"(while :; do sleep 1; done) & {command}", timeout=1)

    assert (ran.exit_code, ran.outcome) == (-1, "timeout")
    assert shell.shell("echo $KEPT; pgrep -c sleep").stdout == "1\n0\n"


@pytest.mark.parametrize("command", ["kill -9 $PPID; sleep 5", "kill -STOP $PPID; kill -9 $PPID; sleep 5"])
def test_a_command_that_kills_its_commander_has_lost_the_exports(shell: Client, command: str) -> None:
    """The session goes on, with its files."""
    shell.shell("export LOST=1; echo x >f")
    ran = shell.shell(command)

    assert (ran.outcome, ran.is_ok) == ("killed", False)
    assert shell.shell("echo $LOST; cat f").stdout == "\nx\n"


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 3", 3), ("nope", 127), ("kill -9 $$", 137), ("/etc", 126), ("if", 2), ("false | true", 0)],
)
def test_exit_codes(shell: Client, command: str, code: int) -> None:
    assert shell.shell(command).exit_code == code


def test_a_command_that_the_kernel_kills_for_memory_says_so(serving: Server, shell: Client) -> None:
    """Where the kernel counts such kills: by the count during this very command, not by its exit code alone. The status stays that code."""
    hoard = "a=xxxxxxxx; while :; do a=$a$a; done"
    killed = shell.shell(hoard)
    counted = killed.usage is not None and "peak_memory_bytes" in killed.usage.sources
    if serving.level is not Level.NAMESPACE or not counted:
        pytest.skip("no memory control group bounds commands at this level on this machine")
    own, coded = shell.shell("exit 137"), shell.execute(hoard)

    assert (killed.exit_code, killed.outcome) == (137, "memory")
    assert (own.exit_code, own.outcome) == (137, "error")
    assert (coded.status, coded.outcome) == ("Failed", "memory")


def test_a_line_longer_than_an_argument(shell: Client) -> None:
    """As agents write files."""
    ran = shell.shell(f"cat >big <<'E'\n{'é' * 200_000}\nE\nwc -c <big")
    assert (ran.exit_code, ran.stdout) == (0, "400001\n")


def test_a_fork_bomb_ends_with_its_call(shell: Client) -> None:
    """The commander needs no process of its own to answer, and the next command starts."""
    shell.shell("b() { b | b & }; b; sleep 30", timeout=1)
    shell.restart()

    assert shell.shell("echo on").stdout == "on\n"


def test_a_full_disk_stops_no_command(shell: Client) -> None:
    """Nothing of ours is written to it: not the environment, not what is read from standard input."""
    filled = shell.shell("head -c 100000000 /dev/zero >fill; head -c 50000000 /dev/zero >/tmp/fill; export A=1; true")
    assert filled.exit_code == 0
    ran = shell.shell("cat | wc -c; echo $A", stdin="x" * 60_000)
    assert (ran.exit_code, ran.stdout) == (0, "60000\n1\n")
