"""What a Python session takes beside code, by its interpreter alone: commands, variables of the environment, variables in and out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.backends import images
from interpreter_fixture import IMAGES, Interpreter
from processes import alive


@pytest.fixture(scope="module")
def image() -> images.Image:
    return images.ensure("python-slim", IMAGES, print)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("session")


@pytest.fixture(scope="module")
def slim(image: images.Image, folder: Path) -> Iterator[Interpreter]:
    with Interpreter(image, folder) as interpreter:
        yield interpreter


@pytest.fixture
def fresh(image: images.Image, folder: Path) -> Iterator[Interpreter]:
    """For code that breaks its interpreter."""
    with Interpreter(image, folder) as interpreter:
        yield interpreter


# Commands


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ({"command": "echo out; echo err >&2; exit 3"}, ("error", 3, "out\n", "err\n")),
        ({"command": "cat", "stdin": "in"}, ("ok", 0, "in", "")),
        ({"command": "kill -9 $$", "shell": "sh"}, ("error", 137, "", "")),
        ({"argv": ["echo", "$HOME"]}, ("ok", 0, "$HOME\n", "")),
        ({"argv": ["nope"]}, ("error", 127, "", "carrel: nope: command not found\n")),
        ({"command": "a\0b"}, ("error", 126, "", "carrel: not a command: it holds a null character\n")),
        ({"command": "export A=1; env | grep -c 'BASH_ENV\\|^CARREL'"}, ("error", 1, "0\n", "")),
    ],
)
def test_commands_run_beside_the_code(
    slim: Interpreter, command: dict[str, Any], expected: tuple[str, int, str, str]
) -> None:
    """A process of its own, with an exit code and no value; Python's variables are not touched."""
    slim.run("kept = 1")
    ran = slim.run(command)

    assert (ran.outcome, ran.exit, ran.stdout, ran.stderr) == expected
    assert ran.value == {"kind": "absent"}
    assert slim.value("kept") == 1


def test_commands_start_in_the_data_folder_with_pythons_environment(fresh: Interpreter, folder: Path) -> None:
    """Wherever the code has gone, and also where it has thrown its directory away. What a command exports is its own."""
    fresh.run("import os, shutil; os.environ['MINE'] = 'yes'; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')")
    for command in ({"command": "pwd; echo $MINE"}, {"argv": ["sh", "-c", "pwd; echo $MINE"]}):
        assert fresh.run(command).stdout == f"{folder}\nyes\n"
    fresh.run({"command": "export MINE=no"})
    assert fresh.value("os.environ['MINE']") == "yes"


@pytest.mark.parametrize(
    "sabotage",
    [
        "import os, subprocess; os.posix_spawn = os.pipe = os.waitpid = subprocess.Popen = os.killpg = None; os.environ = {}",
        "import json, time, tempfile; json.loads = json.dumps = time.sleep = time.monotonic = tempfile.TemporaryFile = None",
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
        "import signal, os\ndef reap(*_):\n  while True: os.waitpid(-1, 0)\nsignal.signal(signal.SIGCHLD, reap)",
        "import os; [os.close(fd) for fd in (0,)]",
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
        "import socket, threading; socket.socket.sendall = threading.RLock = None",
    ],
)
def test_commands_survive_what_code_makes_of_the_process(fresh: Interpreter, sabotage: str) -> None:
    """Names are bound before user code runs; signals and the standard input are the command's own."""
    fresh.run(sabotage)
    for stdin in ("x", "y" * 200_000):
        ran = fresh.run({"command": "wc -c; exit 5", "stdin": stdin})
        assert (ran.outcome, ran.exit, ran.stdout, ran.stderr) == ("error", 5, f"{len(stdin)}\n", "")
    assert fresh.run({"command": "sleep 30"}, interrupt_after=0.2).exit == 130


@pytest.mark.parametrize(
    ("command", "code"), [("sleep 30 | cat", 130), ("trap '' INT; sleep 30 & sleep 30; wait", 137)]
)
def test_commands_are_interrupted_as_a_group(slim: Interpreter, command: str, code: int) -> None:
    """SIGINT, then SIGKILL within the host's grace period; variables stay."""
    slim.run("kept = 2")
    begin = time.monotonic()
    ran = slim.run({"command": command}, interrupt_after=0.2)

    assert (ran.outcome, ran.exit) == ("interrupted", code)
    assert time.monotonic() - begin < 10
    assert slim.value("kept") == 2


def test_what_a_command_leaves_behind_lives_on(slim: Interpreter) -> None:
    ran = slim.run({"command": "sleep 20 & echo $!"})

    assert alive(int(ran.stdout))
    slim.run({"argv": ["kill", ran.stdout.strip()]})


def test_what_a_command_installs_can_be_imported(slim: Interpreter) -> None:
    """No stale cache of what there was to import."""
    assert slim.run("import brand_new_module").outcome == "error"
    slim.run({"command": "echo 'x = 41' >brand_new_module.py"})
    assert slim.value("import brand_new_module; brand_new_module.x + 1") == 42


# The session's environment


def test_the_environment_is_there_for_code_and_commands(slim: Interpreter) -> None:
    """As data, whatever is in it."""
    awkward = "a'b\"c$(id)\\n\n\t🦉"
    slim.set_environment({"TOKEN": awkward, "LARGE": "x" * 100_000, "A": "1"})
    slim.set_environment({"A": "2"})

    assert slim.value("import os; os.environ['TOKEN']") == awkward
    assert slim.value("len(os.environ['LARGE']), os.environ['A']") == [100_000, "2"]
    assert slim.run("!echo -n $A").stdout == "2"


# Variables


def test_variables_go_in_as_data(slim: Interpreter) -> None:
    """Never as code; what no variable can be called is said and left out."""
    given: dict[str, Any] = {
        "text": "'); import os  # \ud800",
        "numbers": [1, 2.5, None, True],
        "nested": {"a": {"b": []}},
        "λ": 1,
    }
    ran = slim.run(
        "[text, numbers, nested, λ]",
        variables={**given, "not a name": 1, "class": 2, "": 3, "a.b": 4, "os.environ": 5},
    )

    assert ran.value["json"] == list(given.values())
    assert [line.split(" cannot")[0] for line in ran.stderr.splitlines()] == [
        f"carrel: {name!r}" for name in ("not a name", "class", "", "a.b", "os.environ")
    ]


def test_large_variables_come_in_pieces(slim: Interpreter) -> None:
    assert slim.run("len(big)", variables={"big": "x" * 3_000_000}).value["json"] == 3_000_000


def test_variables_come_out_as_json(slim: Interpreter) -> None:
    """Of those asked for the ones that are there; the others that are there are named."""
    ran = slim.run(
        "a = 1; b = [1, {'x': (2, 3)}]; c = float('nan'); d = object(); e = []; e.append(e); f = 'é\\ud800'",
        get=["a", "b", "c", "d", "e", "f", "missing", "__builtins__", "no name"],
    )

    assert ran.variables == {"a": 1, "b": [1, {"x": [2, 3]}], "c": "nan", "f": "é\ud800"}
    assert [line.split("'")[1] for line in ran.stderr.splitlines()] == ["d", "e", "__builtins__"]


def test_variables_come_out_after_an_error_too(slim: Interpreter) -> None:
    ran = slim.run("reached = 1\n1 / 0\nreached = 2", get=["reached"])

    assert (ran.outcome, ran.variables) == ("error", {"reached": 1})
    assert slim.run("while True: pass", get=["reached"], interrupt_after=0.2).variables == {"reached": 1}
    assert slim.run({"command": "exit 3"}, get=["reached"], variables={"reached": 7}).variables == {"reached": 7}


def test_variables_that_do_not_fit_are_left_out(slim: Interpreter) -> None:
    """Each alone, so that one that is too large takes nothing from the rest."""
    ran = slim.run("huge = ['x' * 1000] * 20_000; small = 1; also = ['y'] * 1000", get=["huge", "small", "also"])

    assert ran.variables == {"small": 1, "also": ["y"] * 1000}
    assert "'huge' is not JSON or is too large" in ran.stderr


def test_a_name_that_code_has_put_a_trap_in_hurts_nobody(slim: Interpreter) -> None:
    """Subclasses of the built-in types are read by the built-in types' own methods."""
    code = (
        "class D(dict):\n  def items(self): raise SystemExit\n  __iter__ = keys = items\n"
        "class L(list):\n  __iter__ = None\ntrap = D(a=L([1]))"
    )
    assert slim.run(code, get=["trap"]).variables == {"trap": {"a": [1]}}
