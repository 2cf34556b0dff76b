"""The shell session's guest alone, without sandbox or agent: what a command gives, keeps and survives."""

from __future__ import annotations

import hashlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.backends import images
from interpreter_fixture import IMAGES, Died, Interpreter
from processes import alive, eventually

COMMAND = ["-m", "carrel.guest.commander"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("commander")


@pytest.fixture(scope="module")
def image() -> images.Image:
    return images.ensure("python-slim", IMAGES, print)


@pytest.fixture(scope="module")
def shell(image: images.Image, folder: Path) -> Iterator[Interpreter]:
    with Interpreter(image, folder, command=COMMAND) as commander:
        yield commander


@pytest.fixture
def fresh(image: images.Image, folder: Path) -> Iterator[Interpreter]:
    """For commands that break their commander or change its environment for good."""
    with Interpreter(image, folder, command=COMMAND) as commander:
        yield commander


def line(text: str, which: str | None = None, stdin: str | None = None) -> dict[str, Any]:
    given = {"command": text, "shell": which, "stdin": stdin}
    return {name: value for name, value in given.items() if value is not None}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (line("echo hello"), ("ok", 0, "hello\n", "")),
        (line("echo oops >&2; exit 3"), ("error", 3, "", "oops\n")),
        (line("exit 255"), ("error", 255, "", "")),
        (line("kill -TERM $$"), ("error", 143, "", "")),
        (line("kill -KILL $$"), ("error", 137, "", "")),
        (line("exec sh -c 'exit 4'"), ("error", 4, "", "")),
        (line("echo $0 $# $-"), ("ok", 0, "bash 0 hBc\n", "")),
        (line("echo $LINENO\necho $LINENO"), ("ok", 0, "1\n2\n", "")),
        (line("echo héllo 🦉"), ("ok", 0, "héllo 🦉\n", "")),
        (line(""), ("ok", 0, "", "")),
        (line("# nothing"), ("ok", 0, "", "")),
        (line("cat"), ("ok", 0, "", "")),
        (line("cat", stdin="given\0"), ("ok", 0, "given\0", "")),
        (line("cat", stdin=""), ("ok", 0, "", "")),
        (line("cat", stdin="\u00e9"), ("ok", 0, "\u00e9", "")),
        (line("echo $0 $#", which="sh"), ("ok", 0, "sh 0\n", "")),
        (line("exit 9", which="sh"), ("error", 9, "", "")),
        (line("read a; echo $a", which="sh", stdin="x\n"), ("ok", 0, "x\n", "")),
        (line("set -e; false; echo no"), ("error", 1, "", "")),
        (line("trap 'echo mine' EXIT"), ("ok", 0, "mine\n", "")),
        (line("nope"), ("error", 127, "", "bash: nope: command not found\n")),
        ({"argv": ["echo", "a b", "$HOME", "*"]}, ("ok", 0, "a b $HOME *\n", "")),
        ({"argv": ["/bin/sh", "-c", "exit 6"]}, ("error", 6, "", "")),
        ({"argv": ["cat"], "stdin": "in"}, ("ok", 0, "in", "")),
        ({"argv": ["no-such-program"]}, ("error", 127, "", "carrel: no-such-program: command not found\n")),
        ({"argv": [""]}, ("error", 127, "", "carrel: : command not found\n")),
        ({"argv": ["/nowhere/x"]}, ("error", 127, "", "carrel: /nowhere/x: No such file or directory\n")),
        ({"argv": ["/etc"]}, ("error", 126, "", "carrel: /etc: Permission denied\n")),
        ({"argv": ["/etc/passwd"]}, ("error", 126, "", "carrel: /etc/passwd: Permission denied\n")),
    ],
)
def test_a_command_gives_its_output_and_exit_code(
    shell: Interpreter, command: dict[str, Any], expected: tuple[str, int, str, str]
) -> None:
    """Codes as a shell has them; the line is run as it is, with nothing of ours to be seen in it."""
    ran = shell.run(command)

    assert (ran.outcome, ran.exit, ran.stdout, ran.stderr.replace("line 1: ", "")) == expected


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"command": None},
        {"argv": []},
        {"command": "a", "argv": ["a"]},
        {"command": 1},
        {"argv": "echo"},
        {"argv": [1]},
        {"command": "a\0b"},
        {"argv": ["echo", "a\0b"]},
        {"command": "a", "shell": "zsh"},
        {"command": "a", "shell": 1},
        {"command": "a", "stdin": 1},
    ],
)
def test_what_is_no_command_is_an_error(shell: Interpreter, body: dict[str, Any]) -> None:
    """Said on stderr, with the exit code of what cannot be run, and the next command runs."""
    if body == {"argv": "echo"}:
        body = {"argv": {"echo": 1}, "command": "x"}
    ran = shell.run(body)

    assert (ran.outcome, ran.exit, ran.stdout) == ("error", 126, "")
    assert ran.stderr.startswith("carrel: not a command: ")
    assert shell.run(line("echo on")).stdout == "on\n"


def test_code_is_run_by_bash(shell: Interpreter) -> None:
    """What a client sends as code has no value and succeeds or fails by its exit code."""
    ran = shell.run("a=(1 2 3); echo ${a[1]}")

    assert (ran.outcome, ran.exit, ran.stdout, ran.value) == ("ok", 0, "2\n", {"kind": "absent"})
    assert (shell.run("exit 2").outcome, shell.run("\0").exit) == ("error", 126)


@pytest.mark.parametrize("which", ["bash", "sh"])
def test_exports_are_there_in_the_next_command(fresh: Interpreter, which: str) -> None:
    """Byte for byte, in every shell and in programs without one; what is unset is gone; variables that are not exported are not kept."""
    awkward = "a'b\"c$d`e\\f\n=g\té"
    fresh.run(line('export KEPT="$(cat)"; LOST=1; export GONE=1', which=which, stdin=awkward))
    fresh.run(line("unset GONE; export ALSO=2; exit 3", which=which))

    for other in ("bash", "sh"):
        shown = fresh.run(line('printf "%s|%s|%s|%s" "$KEPT" "$ALSO" "$LOST" "$GONE"', which=other))
        assert shown.stdout == f"{awkward}|2||"
    assert fresh.run({"argv": ["printenv", "KEPT"]}).stdout == awkward + "\n"


@pytest.mark.parametrize(
    "losing",
    ["export NEW=1; exec true", "export NEW=1; kill -9 $$", "trap : EXIT; export NEW=1", "export NEW=1; exec 254>&-"],
)
def test_a_command_that_hides_its_environment_keeps_nothing(fresh: Interpreter, losing: str) -> None:
    """Its exports are lost; those before it are not, and the session goes on."""
    fresh.run(line("export OLD=1"))
    fresh.run(line(losing))

    assert fresh.run(line("echo $OLD$NEW")).stdout == "1\n"


def test_each_command_starts_in_the_folder(shell: Interpreter, folder: Path) -> None:
    """`cd` is not kept (as on Azure), and neither are PWD, OLDPWD, SHLVL and `_`."""
    shell.run(line("cd /; export X=1"))
    shown = shell.run(line("pwd; echo $OLDPWD $SHLVL; env | grep -c '^_=\\|^BASH_ENV\\|CARREL'"))

    assert shown.stdout == f"{folder}\n1\n1\n"  # `_` is env's own


@pytest.mark.parametrize("name", ["PATH", "HOME", "LD_LIBRARY_PATH", "BASH_ENV", "ENV", "TMPDIR", "LC_ALL"])
def test_no_variable_is_the_end_of_later_commands(fresh: Interpreter, name: str) -> None:
    """A shell is found without PATH, whatever is exported."""
    fresh.run(line(f"export {name}=/nowhere/at/all"))
    assert fresh.run(line(f'echo "${name}"')).stdout == "/nowhere/at/all\n"

    fresh.run(line(f"export {name}=/usr/bin:/bin"))
    assert fresh.run({"argv": ["printenv", name]}).stdout == "/usr/bin:/bin\n"


def test_bash_env_of_the_session_is_read(fresh: Interpreter, folder: Path) -> None:
    """Our own use of the variable does not take the user's away."""
    (folder / "rc").write_text("hello() { echo hi $1; }\n")
    fresh.run(line(f"export BASH_ENV={folder}/rc"))
    for _ in range(2):
        assert fresh.run(line("hello you; bash -c 'hello child'")).stdout == "hi you\nhi child\n"


def test_an_environment_over_the_bound_is_left_as_it_was(fresh: Interpreter) -> None:
    """Said once; kept in full it would keep every later program from starting."""
    grow = "export A=1; for i in $(seq 40); do export V$i=$(head -c 10000 /dev/zero | tr '\\0' x); done"
    ran = fresh.run(line(grow))

    assert ran.exit == 0
    assert ran.stderr == "carrel: the environment is over 262144 bytes, and was left as it was before the command\n"
    assert fresh.run(line("echo ${#V1}$A")).stdout == "0\n"
    big = fresh.run(line("export B=$(head -c 200000 /dev/zero | tr '\\0' x); export C=1; echo ${#B}"))
    assert (big.exit, big.stdout) == (0, "200000\n")  # no program can be given it, so nothing could tell us
    assert fresh.run(line("echo ${#B}$C")).stdout == "0\n"


@pytest.mark.parametrize(
    "noise", ["head -c 1000000 /dev/zero >&254", "yes >&254 2>/dev/null & sleep 0.2", "echo x >&254"]
)
def test_noise_on_the_environments_descriptor_hurts_nobody(fresh: Interpreter, noise: str) -> None:
    """Neither a hang nor memory: at worst the exports of that command are not kept."""
    assert fresh.run(line(noise + "; export A=1; true")).exit == 0
    assert fresh.run(line("pkill -x yes; echo on")).stdout == "on\n"


def test_the_sessions_environment_comes_as_data(fresh: Interpreter) -> None:
    """Set before any command, in pieces where it is large; repeated, the later one holds."""
    large = "x" * 100_000
    fresh.set_environment({"A": "a'$(id)", "B": large, "C": "1"})
    fresh.set_environment({"C": "2"})

    assert fresh.run(line('echo "$A ${#B} $C"')).stdout == "a'$(id) 100000 2\n"


def test_variables_are_variables_of_the_environment(fresh: Interpreter) -> None:
    """In before a command and out after it; text as it is, the rest as JSON, null as none."""
    ran = fresh.run(
        line('echo "$T|$N|$L"; export OUT=done; unset N'),
        variables={"T": "a b\n", "N": 1, "L": [1, "x"], "not a name": 1, "NULL": "\0", "HOME": None},
        get=["T", "N", "OUT", "HOME", "nothing", "\ud800"],
    )

    assert ran.stdout == 'a b\n|1|[1, "x"]\n'
    assert ran.variables == {"T": "a b\n", "OUT": "done"}
    assert ran.stderr.splitlines() == [
        "carrel: 'not a name' cannot be a variable of the environment, and was left out",
        "carrel: 'NULL' cannot be a variable of the environment, and was left out",
    ]


def test_what_is_left_in_the_background_lives_on_and_holds_nothing(fresh: Interpreter, folder: Path) -> None:
    """The call ends with the command's own process; its output so far is there; the background goes on to the session's end."""
    begin = time.monotonic()
    ran = fresh.run(line("export A=1; (sleep 1; echo late >late.txt) & echo $!"))

    assert time.monotonic() - begin < 0.9
    assert alive(int(ran.stdout))
    assert fresh.run(line("echo $A")).stdout == "1\n"
    assert eventually(lambda: (folder / "late.txt").exists())


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (line("sleep 30"), 130),
        (line("sleep 30 | cat"), 130),
        (line("while :; do :; done"), 130),
        (line("trap '' INT; while :; do sleep 1; done"), 137),
        (line("trap '' INT; sleep 30 & sleep 30; wait"), 137),
        (line("kill -STOP $$"), 137),
        (line("sleep 30", which="sh"), 130),
        ({"argv": ["sleep", "30"]}, 130),
        ({"argv": ["python3", "-c", "import signal, time\nsignal.signal(2, signal.SIG_IGN)\ntime.sleep(30)"]}, 137),
    ],
)
def test_an_interrupt_ends_the_whole_group_and_keeps_the_state(
    fresh: Interpreter, command: dict[str, Any], code: int
) -> None:
    """SIGINT first; what ignores it is killed within the host's grace period, so that nothing has to be restarted."""
    fresh.run(line("export KEPT=1"))
    begin = time.monotonic()
    ran = fresh.run(command, interrupt_after=0.2)

    assert (ran.outcome, ran.exit) == ("interrupted", code)
    assert time.monotonic() - begin < 1.1
    assert fresh.run(line("echo $KEPT")).stdout == "1\n"


def test_a_command_that_ends_well_on_the_interrupt_has_ended_well(fresh: Interpreter) -> None:
    ran = fresh.run(line("trap 'export SAVED=1; kill $!; exit 0' INT; sleep 30 & wait"), interrupt_after=0.3)

    assert (ran.outcome, ran.exit) == ("ok", 0)
    assert fresh.run(line("echo $SAVED")).stdout == "1\n"


def test_interrupts_between_runs_are_nobodys(fresh: Interpreter) -> None:
    for _ in range(30):
        fresh.process.send_signal(signal.SIGINT)
        time.sleep(0.001)
        assert fresh.run(line("echo on")).outcome in ("ok", "interrupted")
    fresh.process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    assert fresh.run(line("sleep 0.1; echo on")).stdout == "on\n"


def test_a_line_longer_than_an_argument_may_be(fresh: Interpreter) -> None:
    """128 KiB is what the kernel takes as one; files are written by such commands."""
    text = "x" * 1_000_000
    for which in ("bash", "sh"):
        ran = fresh.run(
            line(f"export A=1; cat >big.txt <<'E'\n{text}\nE\nwc -c <big.txt; echo $0; exit 3", which=which)
        )
        assert (ran.exit, ran.stdout, ran.stderr) == (3, f"1000001\n{which}\n", "")
    assert fresh.run(line("echo $A")).stdout == "1\n"
    ran = fresh.run({"argv": ["echo", "x" * 200_000]})
    assert (ran.exit, ran.stderr) == (126, "carrel: echo: Argument list too long\n")


def test_a_large_input(shell: Interpreter) -> None:
    """More than a pipe holds, to a command that reads it, and to one that does not."""
    data = "0123456789abcde\n" * 300_000
    digest = hashlib.sha256(data.encode()).hexdigest()
    assert shell.run(line("sha256sum", stdin=data)).stdout.split()[0] == digest
    assert shell.run(line("true", stdin=data)).exit == 0
    assert shell.run(line("head -n 1; cat | wc -l", stdin=data)).stdout == "0123456789abcde\n299999\n"


def test_a_flood_goes_through(shell: Interpreter) -> None:
    assert len(shell.run(line("head -c 100000000 /dev/zero | tr '\\0' x")).stdout) == 100_000_000


def test_no_descriptor_of_ours_is_open_in_a_command(shell: Interpreter) -> None:
    """Not the control socket; only where bash tells of its environment."""
    seen = shell.run({"argv": ["python3", "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"]})
    assert seen.stdout == "[0, 1, 2, 3]\n"  # 3 is the listing's own
    inside = shell.run(line("python3 -c \"import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))\""))
    assert inside.stdout == "[0, 1, 2, 3, 254]\n"


def test_a_commands_signals_are_as_a_login_would_have_them(shell: Interpreter) -> None:
    """Nothing ignored, nothing blocked: `yes | head` must end."""
    state = shell.run({"argv": ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]}).stdout
    assert all(int(part.split()[1], 16) & 0x7FFFFFFF == 0 for part in state.splitlines())  # above are libc's own
    assert shell.run(line("yes | head -n 1")).stdout == "y\n"


def test_a_command_may_kill_its_commander(fresh: Interpreter) -> None:
    """It has the same user; the agent sees the end, and the host makes another."""
    with pytest.raises(Died) as died:
        fresh.run(line("kill -9 $PPID; sleep 5"))

    assert died.value.status == -9


def test_a_commander_is_small(fresh: Interpreter) -> None:
    """What comes of importing it is all there is: no thread, and little memory. What commands brought is freed, not given back."""
    assert fresh.run(line("echo ready")).stdout == "ready\n"

    status = dict(
        part.split(":", 1) for part in Path(f"/proc/{fresh.process.pid}/status").read_text().splitlines() if ":" in part
    )
    assert int(status["Threads"]) == 1
    assert int(status["RssAnon"].split()[0]) < 12_000


def test_it_leaves_nothing_in_the_folder(image: images.Image, tmp_path: Path) -> None:
    with Interpreter(image, tmp_path, command=COMMAND) as commander:
        commander.run(line("export A=1"))
        commander.run(line("cat >/dev/null", stdin="x" * 1_000_000))
        descriptors = len(list(Path(f"/proc/{commander.process.pid}/fd").iterdir()))
        for _ in range(50):
            commander.run(line("nope; echo x", stdin="y"))
        assert len(list(Path(f"/proc/{commander.process.pid}/fd").iterdir())) == descriptors
    assert list(tmp_path.rglob("*")) == []
