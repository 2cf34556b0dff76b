"""Python in a session of any runtime: a process beside the guest, started by a shell command and spoken to through pipes of its own.

So whatever is tried in Python's sandboxes is tried in all others by the very same programs, with the rights that a command of a session
has. A `Coprocess` is a client whose `execute` takes Python wherever it is: state is kept, the last expression is the value, an interrupt
interrupts. One that ends, or hangs at its next call, is made anew, as an interpreter would be.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import Any

from carrel.client import Client, Result

COPROCESS_ENDED = "the coprocess has ended"

# Reads a program from one pipe, runs it, says so by a file (and a pipe that wakes the other end up), and by a third pipe what came of it.
PROGRAM = r"""
import ast, asyncio, contextlib, inspect, io, json, os, signal, sys, traceback
os.setsid()
place = sys.argv[1]
names = {"__name__": "__main__"}
loop = asyncio.new_event_loop()
def call(code):
    made = eval(code, names)
    return loop.run_until_complete(made) if code.co_flags & inspect.CO_COROUTINE else made
def run(text):
    tree = ast.parse(text, "cell")
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    call(compile(tree, "cell", "exec", flags))
    return call(compile(ast.Expression(last.value), "cell", "eval", flags)) if last else ""
def answer(text):
    told = {"ok": False, "value": ""}
    out, err = io.StringIO(), io.StringIO()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: told = {"ok": True, "value": run(text)}
        except BaseException: traceback.print_exc()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told |= {"out": out.getvalue()[:4096], "err": err.getvalue()[-4096:]}
    try: return json.dumps(told)
    except (TypeError, ValueError): return json.dumps({**told, "value": repr(told["value"])})
while True:
    with open(place + "/in") as file: text = file.read()
    told = answer(text)
    open(place + "/ready", "w").close()
    with open(place + "/flag", "w") as file: file.write("\n")
    with open(place + "/out", "w") as file: file.write(told)
"""

# The other end, a command for each call. What it was given goes on to the coprocess, which it makes where none answers; what that says
# is what it prints. An interrupt is passed on.
COMMAND = r"""
place=$TMPDIR/.coprocess
alive() { [ -e $place/pid ] && kill -0 $(<$place/pid) 2>/dev/null; }
if alive && [ -e $place/busy ]; then kill -9 $(<$place/pid); rm -r $place; fi
if ! alive; then
    rm -rf $place; mkdir $place; mkfifo $place/in $place/flag $place/out
    for python in /opt/carrel/python/bin/python3 $(type -ap python3); do $python -c 'import ctypes, sqlite3, ssl' 2>/dev/null && break; done
    $python -I -c "$PROGRAM" $place </dev/null >/dev/null 2>&1 &
    echo $! > $place/pid
fi
trap 'kill -INT $(<$place/pid)' INT
touch $place/busy
exec 9<>$place/flag
cat > $place/in
until [ -e $place/ready ]; do
    alive || { echo "the coprocess has ended" >&2; exit 76; }
    read -r -t 0.3 -u 9 _
done
rm $place/ready
cat $place/out
rm $place/busy
"""


class Coprocess(Client):
    def execute(
        self,
        code: str,
        *,
        identifier: str | None = None,
        timeout: int = 60,
        on_output: Callable[..., object] | None = None,
        **options: Any,
    ) -> Result:
        """Python code, by the coprocess of the session."""
        command = f"PROGRAM={shlex.quote(PROGRAM)}\n{COMMAND}"
        told = self.shell(command, identifier=identifier, timeout=timeout, output_limit=1_048_576, stdin=code)
        try:
            reply = json.loads(told.stdout)
        except ValueError:
            return _failed(told)
        status = "Succeeded" if reply["ok"] else "Failed"
        outcome = told.outcome if told.outcome == "timeout" else "ok" if reply["ok"] else "error"
        return Result(
            told.id,
            told.identifier,
            status,
            reply["out"],
            reply["err"],
            reply["value"],
            told.duration_ms,
            outcome,
            told.usage,
        )


def _failed(told: Result) -> Result:
    """The command's own end: the session's interpreter was ended, or the coprocess was."""
    return Result(
        told.id, told.identifier, "Failed", told.stdout, told.stderr, "", told.duration_ms, told.outcome, told.usage
    )
