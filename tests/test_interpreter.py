"""The interpreter alone, without sandbox or agent: what code gives, shows and survives."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.backends import images
from interpreter_fixture import IMAGES, SOURCE, Died, Interpreter
from processes import alive, eventually

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("interpreter")


@pytest.fixture(scope="module")
def slim_image() -> images.Image:
    return images.ensure("python-slim", IMAGES, print)


@pytest.fixture(scope="module")
def heavy_image() -> images.Image:
    return images.ensure("python", IMAGES, print)


@pytest.fixture(scope="module")
def slim(slim_image: images.Image, folder: Path) -> Iterator[Interpreter]:
    with Interpreter(slim_image, folder) as interpreter:
        yield interpreter


@pytest.fixture(scope="module")
def heavy(heavy_image: images.Image, folder: Path) -> Iterator[Interpreter]:
    with Interpreter(heavy_image, folder) as interpreter:
        yield interpreter


@pytest.fixture
def fresh(slim_image: images.Image, folder: Path) -> Iterator[Interpreter]:
    """For code that breaks or ends its interpreter."""
    with Interpreter(slim_image, folder) as interpreter:
        yield interpreter


# Values


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("6 * 7", {"kind": "scalar", "json": 42}),
        ("2 ** 70", {"kind": "scalar", "json": 2**70}),
        ("1.5", {"kind": "scalar", "json": 1.5}),
        ("True", {"kind": "scalar", "json": True}),
        ("None", {"kind": "scalar", "json": None}),
        ("float('nan')", {"kind": "scalar", "json": "nan"}),
        ("-float('inf')", {"kind": "scalar", "json": "-inf"}),
        ("'it\\'s'", {"kind": "scalar", "json": "it's"}),
        ("'\\ud800'", {"kind": "scalar", "json": "\ud800"}),
        ("class S(str): __str__ = None\nS('s')", {"kind": "scalar", "json": "s"}),
        (
            "[1, 'a', None, float('nan')]",
            {"kind": "container", "json": [1, "a", None, "nan"], "text": "[1, 'a', None, nan]"},
        ),
        (
            "{'a': (1, {'b': []})}",
            {"kind": "container", "json": {"a": [1, {"b": []}]}, "text": "{'a': (1, {'b': []})}"},
        ),
        ("{1: 2}", {"kind": "text", "text": "{1: 2}"}),
        ("[object]", {"kind": "text", "text": "[object]"}),
        ("l = []; l.append(l); l", {"kind": "text", "text": "[[...]]"}),
        ("from fractions import Fraction\nFraction(1, 3)", {"kind": "text", "text": "Fraction(1, 3)"}),
        ("x = 1", {"kind": "absent"}),
        ("1;", {"kind": "absent"}),
        ("'a;b'", {"kind": "scalar", "json": "a;b"}),
        ("print('x')", {"kind": "absent"}),
        ("# nothing", {"kind": "absent"}),
        ("", {"kind": "absent"}),
        ("import asyncio\nawait asyncio.sleep(0, 'waited')", {"kind": "scalar", "json": "waited"}),
        ("await asyncio.sleep(0)", {"kind": "absent"}),
        ("__name__", {"kind": "scalar", "json": "__main__"}),
        ("%time 1 + 1", {"kind": "scalar", "json": 2}),
        ("%%time\n3 * 3", {"kind": "scalar", "json": 9}),
    ],
)
def test_the_last_expression_is_the_value(slim: Interpreter, code: str, value: dict[str, Any]) -> None:
    """Scalars are JSON, containers JSON and text, the rest IPython's text; what has no value is absent."""
    ran = slim.run(code)

    assert (ran.outcome, ran.stderr, ran.value) == ("ok", "", value)


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("np.int64(3)", {"kind": "scalar", "json": 3}),
        ("np.bool_(True)", {"kind": "scalar", "json": True}),
        ("np.float64('nan')", {"kind": "scalar", "json": "nan"}),
        ("np.longdouble(1.5)", {"kind": "scalar", "json": 1.5}),
        ("np.timedelta64(3, 'D')", {"kind": "text", "text": "np.timedelta64(3,'D')"}),
        ("np.arange(3)", {"kind": "text", "text": "array([0, 1, 2])"}),
        ("[np.int64(1)]", {"kind": "container", "json": [1], "text": "[np.int64(1)]"}),
        ("{'a': np.bool(0)}", {"kind": "container", "json": {"a": False}, "text": "{'a': np.False_}"}),
    ],
)
def test_numpy_scalars_are_json(heavy: Interpreter, code: str, value: dict[str, Any]) -> None:
    """Numbers of numpy are numbers; what only looks like one keeps its unit and its text."""
    heavy.run("import numpy as np")

    assert heavy.run(code).value == value


def test_state_lives_on(slim: Interpreter) -> None:
    """A cell sees what earlier ones left, the last value as `_` among it, also after an error."""
    slim.run("a = 40")
    slim.run("1 / 0")
    assert slim.value("a + 2") == 42
    assert slim.value("_ + 1") == 43


def test_huge_values_are_cut(slim: Interpreter) -> None:
    """No value takes more memory than its bounds on the way out, and a container too large for JSON goes as text."""
    assert len(slim.value("'x' * 30_000_000")) <= 1024 * 1024
    ran = slim.run("[10 ** 30] * 1_000_000")
    assert ran.value["kind"] == "text"
    assert len(ran.value["text"]) < 1024 * 1024
    assert len(slim.run("class Big:\n  def __repr__(self): return 'y' * 5_000_000\nBig()").value["text"]) == 1024 * 1024


@pytest.mark.parametrize("expression", ["R()", "[R()]", "{'a': R()}"])
def test_a_repr_that_raises_is_an_error(slim: Interpreter, expression: str) -> None:
    """The traceback is the user's own, shown once, without a frame of ours."""
    ran = slim.run(f"class R:\n  def __repr__(self): raise ValueError('bad repr')\n{expression}")

    assert (ran.outcome, ran.value) == ("error", {"kind": "absent"})
    assert ran.stderr.count("ValueError: bad repr") == 1
    assert "carrel" not in ran.stderr


@pytest.mark.parametrize("expression", ["H()", "[H()]"])
def test_a_repr_that_hangs_is_interrupted(slim: Interpreter, expression: str) -> None:
    """Making a value is the user's time, too."""
    code = f"class H:\n  def __repr__(self):\n    while True: pass\n{expression}"

    assert slim.run(code, interrupt_after=0.2).outcome == "interrupted"


def test_an_object_that_lies_about_its_class_has_text(slim: Interpreter) -> None:
    """A proxy or mock of a string is not taken for one."""
    assert slim.value("from unittest.mock import Mock\nMock(spec=str)").startswith("<Mock spec='str'")


# Images


def decoded(value: dict[str, Any]) -> bytes:
    assert value["kind"] == "image"
    assert value["json"]["type"] == "image"
    return base64.b64decode(value["json"]["base64_data"], validate=True)


@pytest.mark.parametrize(
    "code",
    [
        "plt.plot([1, 2])",
        "plt.plot([1, 2])\nplt.show()",
        "plt.plot([1, 2])\nplt.show()\nNone",
        "fig, ax = plt.subplots(); fig",
        "import pandas as pd\npd.DataFrame({'a': [1, 2]}).plot()",
        "from PIL import Image\nImage.new('RGB', (2, 2))",
        "from PIL import Image\ndisplay(Image.new('RGB', (2, 2)))",
        "%matplotlib inline\nplt.plot([1]);",
    ],
)
def test_figures_and_images_are_the_value(heavy: Interpreter, code: str) -> None:
    """Shown, displayed, or the last expression: one image, and no words about lines and axes beside it."""
    heavy.run("import matplotlib.pyplot as plt")
    ran = heavy.run(code)

    assert (ran.outcome, ran.stdout, ran.stderr) == ("ok", "", "")
    assert decoded(ran.value).startswith(PNG)
    assert ran.value["json"]["format"] == "png"


def test_a_value_beside_an_image_is_printed(heavy: Interpreter) -> None:
    """The one slot goes to the image; what was computed is not lost."""
    ran = heavy.run("import matplotlib.pyplot as plt\nplt.plot([1]); plt.show()\n{'mean': 1}")

    assert ran.value["kind"] == "image"
    assert ran.stdout == "{'mean': 1}\n"


def test_display_without_image_prints(slim: Interpreter) -> None:
    assert slim.run("display({'a': 1})").stdout == "{'a': 1}\n"


# Output


def test_commands_write_in_order_with_prints(slim: Interpreter) -> None:
    """`!cmd` goes straight to the same pipes, after what was printed before it."""
    ran = slim.run("print('one', end='')\n!echo ' two'; echo err >&2\nprint('three')")

    assert (ran.stdout, ran.stderr) == ("one two\nthree\n", "err\n")


def test_a_command_that_fails_leaves_its_status(slim: Interpreter) -> None:
    slim.run("!exit 3")
    assert slim.value("_exit_code") == 3


def test_pip_is_a_command(heavy: Interpreter) -> None:
    """Quiet about pip against %pip, and about new versions."""
    ran = heavy.run("!python3 -c 'import sys' && true\n%pip --version")

    assert ran.outcome == "ok"
    assert ran.stdout.startswith("pip ")
    assert ran.stderr == ""


def test_a_flood_on_stdout_is_not_kept(slim: Interpreter) -> None:
    """100 MB go through the pipe; the process does not grow by them."""
    grown = "import resource; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    slim.run(grown)
    assert len(slim.run("for _ in range(1600): print('x' * 65535)").stdout) == 1600 * 65536
    assert slim.value("resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before") < 20_000


def test_what_was_printed_comes_out_before_the_end(slim: Interpreter) -> None:
    """Also a line without an end, and also if its stream is no longer the one in use."""
    assert slim.run("import sys, io\nprint('half', end='')\nsys.stdout = io.StringIO()").stdout == "half"


def test_lone_surrogates_can_be_printed(slim: Interpreter) -> None:
    assert slim.run("print('\\ud800')").stdout == "\\ud800\n"


def test_help_and_pager_go_to_stdout(slim: Interpreter) -> None:
    assert "Return the number of items" in slim.run("len?").stdout
    assert "Return the number of items" in slim.run("help(len)").stdout


@pytest.mark.parametrize("code", ["input('name? ')", "import getpass\ngetpass.getpass()"])
def test_asking_for_input_fails_at_once(slim: Interpreter, code: str) -> None:
    ran = slim.run(code)

    assert ran.outcome == "error"
    assert "StdinNotImplementedError: input is not available here" in ran.stderr


def test_autogens_probe_is_answered(heavy: Interpreter) -> None:
    """AutoGen splits the list's text at ",\\n" and shows stderr before it: one name a line, and no deprecation warning."""
    ran = heavy.run("import pkg_resources\n[d.project_name for d in pkg_resources.working_set]")

    assert (ran.outcome, ran.stdout, ran.stderr) == ("ok", "", "")
    found = [name.strip().strip("'") for name in ran.value["text"].strip("[]").split(",\n")]
    assert {"numpy", "pandas", "scikit-learn", "matplotlib", "setuptools", "pip"} <= set(found)


# Errors


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("if:", "SyntaxError: invalid syntax"),
        ("if 1:\n  x = 1\n x", "IndentationError: unindent does not match any outer indentation level"),
        ("return 1", "SyntaxError: 'return' outside function"),
        ("\0", "source code string cannot contain null bytes"),
        ("raise ExceptionGroup('g', [ValueError(1)])", "| ValueError: 1\n    +------------------------------------"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded"),
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("10 ** 5000", "use sys.set_int_max_str_digits() to increase the limit"),
        ("%nothing", "UsageError: Line magic function `%nothing` not found."),
        ("'" + "(" * 300, "SyntaxError: unterminated string literal (detected at line 1)"),
        ("(" * 300 + ")" * 300, "SyntaxError: too many nested parentheses"),
        ("print('\udc80')", "'utf-8' codec can't encode character '\\udc80' in position 7: surrogates not allowed"),
        ("async def g():\n  raise KeyError('k')\nawait g()", "KeyError: 'k'"),
        ("class E(Exception):\n  def __str__(self): raise ValueError\nraise E", ""),
        ("%%bash\nexit 3", "returned non-zero exit status 3."),
    ],
)
def test_errors_end_in_stderr(slim: Interpreter, code: str, end: str) -> None:
    """A traceback without colours, that names no file of ours, and nothing as value."""
    ran = slim.run(code)

    assert (ran.outcome, ran.value) == ("error", {"kind": "absent"})
    assert ran.stderr.rstrip().endswith(end)
    assert "\x1b" not in ran.stderr
    assert "carrel" not in ran.stderr
    assert slim.value("'alive'") == "alive"


def test_sys_exit_without_a_status_is_success(slim: Interpreter) -> None:
    """A script that ends itself well has succeeded, and the session goes on."""
    ran = slim.run("import sys\nprint('a')\nsys.exit()\nprint('b')")

    assert (ran.outcome, ran.stdout, ran.stderr) == ("ok", "a\n", "")


# Interrupts


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(30)",
        "while True: pass",
        "import asyncio\nawait asyncio.sleep(30)",
        "async def spin():\n  while True: pass\ntask = asyncio.create_task(spin())\nawait asyncio.sleep(30)",
        "asyncio.run(asyncio.sleep(30))",
        "!sleep 30; echo no",
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler); time.sleep(30)",
    ],
)
def test_code_is_interrupted_and_state_stays(slim: Interpreter, code: str) -> None:
    """SIGINT ends the cell with a KeyboardInterrupt; variables stay, and nothing of the cell goes on later."""
    slim.run("kept = 1")
    ran = slim.run(code, interrupt_after=0.2)

    assert ran.outcome == "interrupted"
    assert ran.stderr.rstrip().splitlines()[-1].startswith("KeyboardInterrupt")
    assert "no" not in ran.stdout
    assert slim.value("import asyncio\nawait asyncio.sleep(0.01)\nkept") == 1


def test_an_interrupt_never_hits_the_loop(fresh: Interpreter) -> None:
    """Signals that come between runs, or at their edges, end none but the run they meet."""
    for _ in range(100):
        fresh.process.send_signal(2)
        assert fresh.run("1 + 1").outcome in ("ok", "interrupted")
    assert fresh.value("'alive'") == "alive"


def test_blocking_sigint_lasts_one_cell(fresh: Interpreter) -> None:
    fresh.run("import signal, time\nsignal.signal(2, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [2])")

    assert fresh.run("time.sleep(30)", interrupt_after=0.2).outcome == "interrupted"


# Sabotage


@pytest.mark.parametrize(
    "code",
    [
        "import sys; sys.stdout = None",
        "import sys; sys.stdout.close()",
        "import sys; sys.stdout.detach()",
        "import sys; sys.displayhook = sys.excepthook = None",
        "import sys, io; sys.stdout = sys.__stdout__ = io.StringIO()",
        "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()",
        "import os\nif os.fork() == 0: raise SystemExit(3)\nelse: assert os.waitstatus_to_exitcode(os.wait()[1]) == 3",
        "import os, time\nif os.fork() == 0: time.sleep(600)",
        "import asyncio; asyncio.get_event_loop_policy().get_event_loop().close()",
        "exec('_ = __ = 5')",
        "del get_ipython",
    ],
)
def test_later_runs_survive(fresh: Interpreter, code: str) -> None:
    """What a cell breaks in the process is mended before the next one, or does not matter to it."""
    fresh.run(code)

    assert fresh.run("print('back')").stdout == "back\n"
    assert fresh.value("import asyncio\nawait asyncio.sleep(0)\n6 * 7") == 42


def test_what_a_cell_forks_does_not_outlive_these_tests(slim_image: images.Image, folder: Path) -> None:
    """The interpreter ends by itself when its socket closes; the fixture must not take that for the end of what it forked."""
    with Interpreter(slim_image, folder) as interpreter:
        child = interpreter.value("import os, time\nif (pid := os.fork()) == 0: time.sleep(600)\npid")
        assert alive(child)

    assert eventually(lambda: not alive(child))


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("exit", 0),
        ("exit()", 0),
        ("exit(5)", 5),
        ("quit()", 0),
        ("import os; os._exit(7)", 7),
        ("import os; os.kill(os.getpid(), 9)", -9),
    ],
)
def test_ending_the_process_ends_it(fresh: Interpreter, code: str, status: int) -> None:
    """`exit()` and its kind are the end of the interpreter: no answer comes, and it says what was asked for."""
    with pytest.raises(Died) as died:
        fresh.run(code)

    assert (died.value.status, died.value.stdout, died.value.stderr) == (status, "", "")


def test_closing_the_control_socket_ends_the_process(fresh: Interpreter) -> None:
    with pytest.raises(Died) as died:
        fresh.run("import os; os.closerange(3, 65536)")

    assert (died.value.status, died.value.stderr) == (0, "")


def test_exit_runs_what_was_registered(fresh: Interpreter) -> None:
    with pytest.raises(Died) as died:
        fresh.run("import atexit; atexit.register(print, 'bye'); exit()")

    assert died.value.stdout == "bye\n"


def test_nothing_is_written_to_disk(slim_image: images.Image, tmp_path: Path) -> None:
    """No history, no profile, no cache; and no thread of ours."""
    with Interpreter(slim_image, tmp_path) as interpreter:
        interpreter.run("1 / 0")
        assert interpreter.value("import os; os.getcwd()") == str(tmp_path)
        assert interpreter.value("len(os.listdir('/proc/self/task'))") == 1
    assert list(tmp_path.rglob("*")) == []


# The template

_FORK_TWO = """
import os, socket, sys
control = socket.socket(fileno=int(sys.argv[1]))
sys.path.insert(0, {source!r})
from carrel.guest import interpreter
interpreter.preload({modules!r})
mine, theirs = socket.socketpair()
pids = []
for end in (control, theirs):
    pids.append(os.fork())
    if not pids[-1]:
        interpreter.after_fork()
        interpreter.run(end)
control.close(), theirs.close()
from carrel.guest import frames
mine.sendall(frames.encode({{"run": 1}}, {code!r}.encode()))
decoder, got = frames.Decoder(), {{}}
while "done" not in got:
    for header, payload in decoder.feed(mine.recv(65536)):
        got |= header | {{"payload": payload}}
open("other", "wb").write(got["payload"])
os.kill(pids[1], 9)
os.waitpid(pids[0], 0), os.waitpid(pids[1], 0)
"""


def test_forks_of_a_template_share_no_randomness(heavy_image: images.Image, tmp_path: Path) -> None:
    """Two children draw different numbers from everything that draws; the figures of the template are not theirs."""
    code = (
        "import random, numpy, uuid, secrets, multiprocessing, tempfile, ssl\n"
        "[random.random(), numpy.random.rand(), str(uuid.uuid4()), secrets.token_hex(), ssl.RAND_bytes(8).hex(),"
        " multiprocessing.current_process().authkey.hex(), numpy.random.default_rng().random(), next(tempfile._get_candidate_names())]"
    )
    modules = list(heavy_image.preload)
    script = _FORK_TWO.format(source=str(SOURCE), modules=modules, code=code)
    with Interpreter(heavy_image, tmp_path, command=["-c", script]) as interpreter:
        assert interpreter.value("[name for name in dir() if not name.startswith('_')]") == [
            "In",
            "Out",
            "exit",
            "get_ipython",
            "open",
            "quit",
        ]
        ours = interpreter.value(code)
        assert interpreter.value("import matplotlib.pyplot as plt; plt.get_fignums()") == []
        assert interpreter.run("1 / 0").stderr.count("In[4]") >= 1
        interpreter.control.shutdown(2)
        interpreter.process.wait(20)
    other = json.loads((tmp_path / "other").read_bytes())["json"]
    assert len(ours) == len(other) == 8
    assert all(mine != theirs for mine, theirs in zip(ours, other, strict=True))
