"""How code can end, or refuse to: deaths, hangs, recursion, threads and daemons that stay."""

from __future__ import annotations

import time

import pytest

from carrel.models import Level
from fortress import Attacker
from processes import alive, eventually

pytestmark = pytest.mark.of_python(
    reason="how Python's own guest ends, and is restarted; other guests' ends are in tests/contract/test_runtimes.py"
)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("os._exit(0)", "exited with code 0"),
        ("os._exit(3)", "exited with code 3"),
        ("exit(3)", "exited with code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
        ("ctypes.string_at(0)", "killed by SIGSEGV"),
        ("os.abort()", "killed by SIGABRT"),
        ("signal.signal(signal.SIGTERM, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGTERM)", "killed by SIGTERM"),
        ("os.execv('/bin/false', ['false'])", "Kernel restarted"),
        ("os.execv('/bin/sleep', ['sleep', '60'])", "Kernel restarted"),
    ],
)
def test_a_death_is_a_result_with_its_reason(attacker: Attacker, code: str, reason: str) -> None:
    """At once, not at the deadline; stdout is kept; the next call has a fresh interpreter and the same files."""
    attacker.value("kept = 1; open('kept.txt', 'w').write('kept')")
    began = time.monotonic()
    result = attacker.run(f"print('before', flush=True)\n{code}", timeout=15)

    assert (result.status, result.stdout) == ("Failed", "before\n")
    assert result.stderr.startswith("Kernel restarted")
    assert reason in result.stderr
    assert time.monotonic() - began < 4
    assert attacker.value("['kept' in globals(), open('kept.txt').read()]") == [False, "kept"]


def test_dying_over_and_over_is_survived(attacker: Attacker) -> None:
    for _ in range(8):
        assert attacker.run("import os; os._exit(1)").stderr.startswith("Kernel restarted")
    attacker.still_works()


def test_dying_between_calls_is_noticed(attacker: Attacker) -> None:
    """A thread that ends the process after the call's end: the next call has a fresh interpreter."""
    attacker.value("threading.Timer(0.2, os._exit, (1,)).start()")
    time.sleep(0.6)

    attacker.still_works()


@pytest.mark.parametrize(
    "code",
    [
        "sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
        "sys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nA()",
        "x = []\nfor n in range(200_000): x = [x]\nx",
        "x = []; x.append(x); x",
        "x = {}; x['x'] = x; x",
        "f = lambda: 0\nfor n in range(200_000): f = (lambda g: lambda: g())(f)\nsys.setrecursionlimit(10**9)\nf()",
        "eval('(' * 100_000 + ')' * 100_000)",
        "compile('-' * 1_000_000 + '1', 'x', 'eval')",
        "import json; json.loads('[' * 10_000_000)",
    ],
    ids=["plain", "repr", "nested list", "cyclic list", "cyclic dict", "closures", "parser", "compiler", "json"],
)
def test_deep_recursion_costs_one_interpreter_at_most(attacker: Attacker, code: str) -> None:
    result = attacker.run(code, timeout=8)

    assert result.status in ("Succeeded", "Failed")
    attacker.still_works()


@pytest.mark.parametrize(
    "method",
    [
        "while True: pass",
        "raise ValueError('no')",
        "raise KeyboardInterrupt",
        "raise SystemExit(4)",
        "return 5",
        "os._exit(2)",
        "return 'x' * (50 << 20)",
    ],
)
@pytest.mark.parametrize("name", ["__repr__", "_repr_png_", "_repr_mimebundle_", "_ipython_display_"])
def test_a_hostile_repr_is_the_cells_own_trouble(attacker: Attacker, name: str, method: str) -> None:
    """It hangs, raises, lies, is huge or ends the process: the call ends by its deadline and the session works."""
    code = f"class Hostile:\n    def {name}(self, *_, **__):\n        {method}\nHostile()"
    began = time.monotonic()
    result = attacker.run(code, timeout=1)

    assert result.is_finished
    assert time.monotonic() - began < 4
    attacker.still_works()


@pytest.mark.parametrize(
    "name", ["__class__", "__len__", "__iter__", "__eq__", "__hash__", "__getattr__", "__del__", "__dir__"]
)
def test_other_hostile_methods_harm_nobody(attacker: Attacker, name: str) -> None:
    """Dunder methods that hang are not called, or are interrupted at the deadline like any code."""
    body = "property(lambda self: spin())" if name == "__class__" else "lambda self, *_: spin()"
    code = f"def spin():\n    while True: pass\nclass L(list):\n    {name} = {body}\nL([1, 2])"

    assert attacker.run(code, timeout=1).is_finished
    assert attacker.run(
        "pass; 0", timeout=1
    ).is_finished  # lets the last value go, whose __del__ may take this call's time
    attacker.still_works()


def test_threads_that_never_end_do_not_hold_a_call(attacker: Attacker) -> None:
    """Neither daemon threads nor others: the call ends with its code, the session can be ended."""
    began = time.monotonic()
    attacker.value("for n in range(8): threading.Thread(target=time.sleep, args=(600,), daemon=n % 2 == 0).start()")

    assert time.monotonic() - began < 2
    attacker.still_works()
    attacker.client.end()
    assert time.monotonic() - began < 5


def test_exit_does_not_wait_for_what_hangs(attacker: Attacker) -> None:
    """An atexit function that sleeps, a thread that spins: exit ends at the deadline at the latest."""
    began = time.monotonic()
    attacker.value(
        "import atexit; atexit.register(time.sleep, 600); threading.Thread(target=time.sleep, args=(600,)).start()"
    )
    result = attacker.run("exit()", timeout=1)

    assert "Kernel restarted" in result.stderr or "Request timed out" in result.stderr
    assert time.monotonic() - began < 4
    attacker.still_works()


DAEMON = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for n in range(3, 64):
            try: os.close(n)
            except OSError: pass
        os.execve('/bin/sleep', ['sleep', '600'], {{'M': {mark!r}}})
    os._exit(0)
"""


def test_a_daemon_ends_with_the_interpreter_and_with_the_session(attacker: Attacker) -> None:
    """Double-forked, in a session of its own, its parent gone: a restart kills it, and so does the session's end."""
    first = attacker.host_pid()
    attacker.run("os._exit(1)")
    attacker.still_works()
    if attacker.level is not Level.GVISOR:  # there it is the kernel, which lives on
        assert eventually(lambda: not alive(first))
    attacker.tools()
    attacker.value(DAEMON.format(mark="ignored"))
    second = attacker.host_pid()
    attacker.client.end()
    assert eventually(lambda: not alive(second))


def test_a_forked_child_never_answers_for_its_parent(attacker: Attacker) -> None:
    """os.fork in a cell: the child runs to the cell's end and no further, the answer is the parent's, once."""
    assert attacker.value("pid = os.fork()\n'child' if pid == 0 else 'parent'") == "parent"
    assert attacker.value("1 + 1") == 2


@pytest.mark.parametrize("keep", ["", "3", "1, 2", "0"])
def test_closing_every_descriptor_ends_in_an_answer(attacker: Attacker, keep: str) -> None:
    """All but some: the interpreter goes on or is replaced, long before the deadline."""
    began = time.monotonic()
    result = attacker.run(f"for fd in range(4096):\n    if fd not in [{keep}]: refused(os.close, fd)\n5", timeout=15)

    assert result.is_finished
    assert time.monotonic() - began < 5
    attacker.still_works()


@pytest.mark.parametrize(
    "code",
    [
        "os.dup2(os.open('/dev/null', os.O_RDWR), 3)",
        "os.dup2(os.open('/dev/zero', os.O_RDWR), 3)",
        "os.dup2(1, 3)",
        "os.dup2(3, 1)",
        "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)",
        "socket.socket(fileno=3).shutdown(socket.SHUT_RD)",
        "socket.socket(fileno=3).shutdown(socket.SHUT_WR)",
        "s = socket.socket(fileno=3); s.setblocking(False); s.detach()",
        "os.set_inheritable(3, True); child = subprocess.Popen(['sleep', '60'], close_fds=False); os.close(3)",
        "libc.fcntl(3, 8, os.getpid()); libc.fcntl(3, 4, 0x2000 | 0x800)",
    ],
)
def test_descriptor_games_end_in_an_answer(attacker: Attacker, code: str) -> None:
    """The result socket or stdout replaced, shut, made non-blocking, handed to a child."""
    began = time.monotonic()
    result = attacker.run(f"{code}\n5", timeout=4)

    assert result.is_finished
    assert time.monotonic() - began < 8
    for _ in range(2):  # output of the first call after the game may be lost with stdout
        attacker.run("pass", timeout=4)
    attacker.still_works()


@pytest.mark.parametrize(
    "code",
    [
        "sys.stdout.close(); sys.stderr.close()",
        "sys.stdout = sys.stderr = None",
        "del sys.stdout",
        "sys.modules.clear()",
        "import builtins\nfor name in list(vars(builtins)): delattr(builtins, name)",
        "import builtins; builtins.print = builtins.len = builtins.isinstance = builtins.open = None",
        "import json; json.dumps = json.JSONEncoder = None",
        "import gc\nfor o in gc.get_objects():\n    if isinstance(o, dict) and 'shell' in o: o.clear()",
        "get_ipython().run_cell = None",
        "get_ipython().display_formatter = None",
        "get_ipython().ast_transformers.append(1/2)",
        "get_ipython().input_transformers_cleanup.append(lambda lines: 5)",
        "get_ipython().events.register('pre_run_cell', lambda *_: os._exit(1))",
        "sys.settrace(lambda *_: 1/0)",
        "sys.setprofile(lambda *_: 1/0)",
        "sys.addaudithook(lambda *_: 1/0)",
        "sys.excepthook = sys.displayhook = None",
        "sys.setrecursionlimit(20)",
        "import signal; signal.signal = None",
        "threading.Thread.start = os.getpid = None",
        "os.chdir('/'); os.rmdir('/mnt/data')",
        "os.environ.clear()",
        "raise GeneratorExit",
        "raise KeyboardInterrupt",
        "raise StopIteration",
        "import asyncio; asyncio.get_event_loop().close()",
        "import asyncio; asyncio.set_event_loop_policy(None); raise asyncio.CancelledError",
    ],
)
def test_breaking_python_from_inside_breaks_one_interpreter(attacker: Attacker, code: str) -> None:
    """User code shares a process with our loop and may break all of it: the answer comes, and the session can be made to work again."""
    result = attacker.run(code, timeout=3)
    assert result.is_finished
    for _ in range(3):
        if (last := attacker.run("1 + 1", timeout=3)).result == 2:
            return
        assert last.is_finished
    attacker.run("import os; os._exit(1)", timeout=3)
    attacker.client.end()
    attacker.still_works()
