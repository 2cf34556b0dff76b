"""How the code of each runtime says what the contract suite asks of all of them.

A dialect is data: a line of code for each thing that a session is asked to do, with places for the test's own words. Texts are put in
quoted, as the language quotes them. A new runtime is in the suite when it has a dialect here.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Dialect:
    """`say`, `recall`, `read`, `folder`, `variable` and `stdin` print a line; `fail` has its text in stderr."""

    name: str  # of the pool too
    table: str  # what the pool's definition says besides its limits
    quote: Callable[[str], str]
    say: str  # text
    warn: str  # text, to stderr
    keep: str  # number, until the session's end
    recall: str  # prints it; "undefined" or the like, or a failure, where there is none
    fail: str  # text
    broken: str  # is no program
    sleep: str  # seconds
    spin: str
    stubborn: str  # spins, and does not want to be interrupted
    leave: str  # status
    die: str
    write: str  # path, text
    read: str  # path
    flood: str  # count, of characters
    hoard: str  # memory, until there is none
    breed: str  # processes, until there are none
    linger: str  # starts a process that outlives the call by half a minute
    folder: str  # prints the working directory
    variable: str  # name, of the environment
    stdin: str  # the number of bytes that can be read there
    scribble: str  # garbage into the control socket, or what stands under its number
    values: tuple[tuple[str, object], ...] = ()  # expressions, and what JSON has for them
    definition: Path | None = None  # of the image: its folder, where it did not come with Carrel
    dies_whole: bool = True  # `leave` and `die` end the interpreter, and not just the command

    def filled(self, template: str, **words: object) -> str:
        """`template` with `words` in their places: texts quoted, numbers as they are."""
        for name, word in words.items():
            template = template.replace(f"<{name}>", self.quote(word) if isinstance(word, str) else str(word))
        return template


PYTHON = Dialect(
    name="python",
    table='carrel.image = "python-slim"',
    quote=repr,
    say="print(<text>)",
    warn="import sys; print(<text>, file=sys.stderr)",
    keep="kept = <number>",
    recall="print(kept)",
    fail="raise ValueError(<text>)",
    broken="if:",
    sleep="import time; time.sleep(<seconds>)",
    spin="while True: pass",
    stubborn="import signal; signal.signal(2, signal.SIG_IGN)\nwhile True: pass",
    leave="import os; os._exit(<status>)",
    die="import os; os.kill(os.getpid(), 9)",
    write="open(<path>, 'w', encoding='utf-8').write(<text>)",
    read="print(open(<path>, encoding='utf-8').read())",
    flood="import sys; _ = sys.stdout.write('x' * <count>)",
    hoard="hoard = []\nwhile True: hoard.append(b'x' * (1 << 20))",
    breed="import subprocess; held = []\nwhile True: held.append(subprocess.Popen(['sleep', '60']))",
    linger="import subprocess; held = subprocess.Popen(['sleep', '30'])",
    folder="import os; print(os.getcwd())",
    variable="import os; print(os.environ.get(<name>, ''))",
    stdin="import sys; print(len(sys.stdin.read()))",
    scribble="import os; os.write(3, b'\\xff' * 4096)",
    values=(
        ("6 * 7", 42),
        ("'grüße'", "grüße"),
        ("[1, {'a': None}, True]", [1, {"a": None}, True]),
        ("0.1 + 0.2", 0.1 + 0.2),
        ("float('nan')", "nan"),
    ),
)

NODE = Dialect(
    name="node",
    table='containerType = "NodeLTS"',
    quote=json.dumps,
    say="console.log(<text>)",
    warn="console.error(<text>)",
    keep="const kept = <number>",
    recall="console.log(kept)",
    fail="throw new Error(<text>)",
    broken="if (",
    sleep="await new Promise((done) => setTimeout(done, <seconds> * 1000))",
    spin="while (true) {}",
    stubborn="process.on('SIGINT', () => {}); while (true) {}",
    leave="process.exit(<status>)",
    die="process.kill(process.pid, 'SIGKILL'); while (true) {}",
    write="require('fs').writeFileSync(<path>, <text>)",
    read="console.log(require('fs').readFileSync(<path>, 'utf8'))",
    flood="process.stdout.write('x'.repeat(<count>)); undefined",
    hoard="const hoard = []; while (true) hoard.push(Buffer.alloc(1 << 20, 1))",
    breed="const { spawnSync, spawn } = require('child_process')\n"
    "for (let n = 0; n < 300; n++) { const { error } = spawnSync('/bin/sh', ['-c', 'sleep 60 &']); if (error) throw error }",
    linger="require('child_process').spawn('sleep', ['30']); undefined",
    folder="console.log(process.cwd())",
    variable="console.log(process.env[<name>] ?? '')",
    stdin="console.log(require('fs').readFileSync(0).length)",
    scribble="require('fs').writeSync(3, Buffer.alloc(4096, 255)); undefined",
    values=(
        ("6 * 7", 42),
        ("'grüße'", "grüße"),
        ("[1, {a: null}, true]", [1, {"a": None}, True]),
        ("({a: 1})", {"a": 1}),
        ("0.1 + 0.2", 0.1 + 0.2),
        ("NaN", "NaN"),
    ),
)

SHELL = Dialect(
    name="shell",
    table='containerType = "Shell"',
    quote=shlex.quote,
    say="echo <text>",
    warn="echo <text> >&2",
    keep="export kept=<number>",
    recall="echo ${kept:?undefined}",
    fail="echo <text> >&2; exit 1",
    broken="if then",
    sleep="sleep <seconds>",
    spin="while :; do :; done",
    stubborn="trap '' INT; while :; do :; done",
    leave="exit <status>",
    die="kill -9 $$",
    write="printf %s <text> > <path>",
    read="cat <path>; echo",
    flood="head -c <count> /dev/zero | tr '\\0' x",
    hoard="a=xxxxxxxx; while :; do a=$a$a; done",
    breed="for n in $(seq 300); do sleep 60 & done; wait",
    linger="sleep 30 &",
    folder="pwd",
    variable="printenv <name> || echo",
    stdin="wc -c",
    scribble="head -c 4096 /dev/zero >&3",
    dies_whole=False,
)

DIALECTS = (PYTHON, NODE, SHELL)

# An image that did not come with Carrel, and whose guest is a program. Another one, Ruby's, is held to the suite by test_any_image.py.

_ROOT = Path(__file__).parent.parent

PROBE = replace(
    PYTHON,
    name="probe",
    table='carrel.image = "probe"',
    definition=_ROOT / "tests/images/probe",
    values=PYTHON.values[:4],
)

OWN = (PROBE,)
