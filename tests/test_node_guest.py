"""The JavaScript guest alone, without sandbox or agent: what code gives, shows, keeps and survives."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.backends import images
from interpreter_fixture import IMAGES, SOURCE, Died, Interpreter
from processes import alive, eventually

BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from carrel.guest import guests; guests.main()"
ABSENT = {"kind": "absent"}
AT = "\n    at cell-N:"
TIMER = "Uncaught Error: timer\n    at Timeout._onTimeout (cell-N:1:56)\n"
NO_VALUE = "Uncaught SyntaxError: Missing initializer in const declaration\n"
NO_IMPORT = "Uncaught SyntaxError: Cannot use import statement outside a module"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="module")
def image() -> images.Image:
    return images.ensure("node", IMAGES, print)


@pytest.fixture(scope="module")
def command(image: images.Image) -> list[str]:
    return ["-I", "-S", "-c", BOOT, str(SOURCE), "node", *image.host_guest]


@pytest.fixture(scope="module")
def node(image: images.Image, folder: Path, command: list[str]) -> Iterator[Interpreter]:
    with Interpreter(image, folder, command=command) as guest:
        yield guest


@pytest.fixture
def fresh(image: images.Image, folder: Path, command: list[str]) -> Iterator[Interpreter]:
    """For code that breaks or ends its guest."""
    with Interpreter(image, folder, command=command) as guest:
        yield guest


def scalar(value: object) -> dict[str, Any]:
    return {"kind": "scalar", "json": value}


def text(shown: str) -> dict[str, Any]:
    return {"kind": "text", "text": shown}


def container(value: object, shown: str) -> dict[str, Any]:
    return {"kind": "container", "json": value, "text": shown}


# Values


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("6 * 7", scalar(42)),
        ("1.5", scalar(1.5)),
        ("-0", scalar(0)),
        ("NaN", scalar("NaN")),
        ("-Infinity", scalar("-Infinity")),
        ("true", scalar(True)),
        ("null", scalar(None)),
        ("'it\\'s é 🦉'", scalar("it's é 🦉")),
        ("'\\ud800'", scalar("\ud800")),
        ("undefined", ABSENT),
        ("void 0", ABSENT),
        ("const unused = 1", ABSENT),
        ("function unused2() { return 1 }", ABSENT),
        ("console.log", text("[Function: log]")),
        ("10n ** 20n", text("100000000000000000000n")),
        ("Symbol('s')", text("Symbol(s)")),
        ("[1, 'a', null, [true]]", container([1, "a", None, [True]], "[ 1, 'a', null, [ true ] ]")),
        ("[NaN, , undefined]", container(["NaN", None, None], "[ NaN, <1 empty item>, undefined ]")),
        ("({a: {b: []}, u: undefined})", container({"a": {"b": []}}, "{ a: { b: [] }, u: undefined }")),
        ("Object.create(null)", container({}, "[Object: null prototype] {}")),
        ("({f() {}})", text("{ f: [Function: f] }")),
        ("({get a() { throw 1 }})", text("{ a: [Getter] }")),
        ("({toJSON() { throw 1 }})", text("{ toJSON: [Function: toJSON] }")),
        ("new Proxy({}, {get() { throw 1 }, ownKeys() { throw 2 }})", text("{}")),
        ("const cycle = {}; cycle.cycle = cycle", text("<ref *1> { cycle: [Circular *1] }")),
        ("new Map([[1, {a: 2}]])", text("Map(1) { 1 => { a: 2 } }")),
        ("new Date(0)", text("1970-01-01T00:00:00.000Z")),
        ("class P { x = 1 }; new P()", text("P { x: 1 }")),
        ("Buffer.from('hi')", text("<Buffer 68 69>")),
        (
            "Buffer.from('89504e470d0a1a0a00', 'hex')",
            {"kind": "image", "json": {"type": "image", "format": "png", "base64_data": "iVBORw0KGgoA"}},
        ),
        ("let nested = 1; for (let i = 0; i < 99; i++) nested = [nested]; nested", text("[ [ [ [Array] ] ] ]")),
        ("(async () => 7)()", scalar(7)),
        ("new Promise(done => setTimeout(done, 5, 'later'))", scalar("later")),
        ("const waited = await Promise.resolve(3); waited + 1", scalar(4)),
        ("for await (const x of [1, 2]) x", scalar(2)),
        ("", ABSENT),
        ("// nothing", ABSENT),
        ("1 // the end", scalar(1)),
        ("'use strict'; typeof (function () { return this })()", scalar("undefined")),
        ("const tuple: [number, string] = [1, 'a']; tuple", container([1, "a"], "[ 1, 'a' ]")),
        ("interface Shape { sides: number }\nconst shape = {sides: 4} as Shape; shape.sides", scalar(4)),
        ("enum Colour { Red = 4, Blue }; Colour.Blue", scalar(5)),
        ("import type { X } from './nowhere'; import { sep } from 'node:path'; sep satisfies string", scalar("/")),
        ("import lodash, { chunk } from 'lodash'; lodash.sum(chunk([1, 2, 3], 2)[0])", scalar(3)),
        ("import * as os from 'node:os'\nimport { join as j }\n  from 'node:path'\nj('a', typeof os.cpus)", scalar("a/function")),
        ("import 'node:fs'; export const exported = 5; export { exported as e }; exported", scalar(5)),
        ("(await import('node:path')).sep", scalar("/")),
        ("`import x from 'y'`", scalar("import x from 'y'")),
        ("require('axios').VERSION.length > 2", scalar(True)),
        ("(await import('dayjs')).default(0).unix()", scalar(0)),
        ("process.argv.length + process.execArgv.length", scalar(1)),
        ("process.stdin.read()", scalar(None)),
    ],
)  # fmt: skip
def test_the_last_expression_is_the_value(node: Interpreter, code: str, value: dict[str, Any]) -> None:
    """What JSON has is JSON, with util.inspect's text where it is a container; the rest is that text; undefined is nothing."""
    ran = node.run(code)

    assert (ran.outcome, ran.stderr, ran.value) == ("ok", "", value)


@pytest.mark.thorough
def test_values_are_bounded(node: Interpreter) -> None:
    """A huge value is cut or shown in short; it costs seconds at the most, and no memory of the agent's."""
    assert node.run("'x'.repeat(3e6)").value["json"].endswith("… (cut)")
    assert node.run("Array.from({length: 3e6}, () => 'xxxx')").value["kind"] == "text"
    assert node.run("new Array(2 ** 31)").value["kind"] == "text"
    assert node.run("Buffer.alloc(5e7)").value["text"].endswith("more bytes>")


# State


def test_state_is_kept_and_declarations_may_be_repeated(node: Interpreter) -> None:
    """As in the console of DevTools: const, let and class may be declared again in a later cell; in the same cell they may not."""
    node.value("const a = 1; let b = 2; class C { n = 1 }; function f() { return a + b }; var v = 5; g = 6; 0")
    node.value("const a = 10; class C { n = 2 }; let b = 20; 0")

    assert node.value("[a, b, new C().n, f(), v, g]") == [10, 20, 2, 30, 5, 6]
    assert "Assignment to constant" in node.run("a = 11").stderr
    assert "already been declared" in node.run("const twice = 1; const twice = 2").stderr


def test_files_of_the_session_are_modules(node: Interpreter, folder: Path) -> None:
    """require and import look in the session's folder first, its node_modules included, however late they come there."""
    (folder / "one.js").write_text("exports.one = 1")
    (folder / "two.mjs").write_text("import lodash from 'lodash'; export const two = lodash.size([1, 2])\n")
    (folder / "three.ts").write_text("export const three: number = 3\n")
    package = folder / "node_modules" / "mine"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "mine", "version": "1.0.0", "main": "index.js"}')
    (package / "index.js").write_text("module.exports = 'mine'")

    assert node.value("require('./one').one + (await import('./two.mjs')).two") == 3
    assert node.value("import { three } from './three.ts'; three") == 3
    assert node.value("import mine from 'mine'; mine + require('mine')") == "minemine"
    assert node.value("import.meta.dirname") == str(folder) == node.value("__dirname")
    assert "Cannot find module 'nowhere'" in node.run("require('nowhere')").stderr
    assert "Cannot find package 'nowhere'" in node.run("await import('nowhere')").stderr


def test_timers_outlive_a_call(node: Interpreter) -> None:
    """What a call leaves in the event loop goes on, and does not hold the call."""
    ran = node.run("ticks = 0; ticking = setInterval(() => { ticks++ }, 5); 'set'")
    time.sleep(0.2)

    assert ran.value == scalar("set")
    assert node.value("clearInterval(ticking); ticks > 3") is True


def test_variables_go_in_and_out(node: Interpreter) -> None:
    """As data: whatever there is under that name, a constant too, has the new value afterwards."""
    node.run("const constant = 1; let fl = 2; function fun() {} ; var va = 3")
    given = {"constant": "a\"'`${1}", "fl": [1, {"b": None}], "fun": 5, "va": 6, "new1": 7.5}

    ran = node.run("const here = 8; [1]", variables=given, get=[*given, "here", "nowhere", "process", "no name", "if"])

    assert ran.variables == {**given, "here": 8}
    assert node.run("1", variables={"if": 1, "a b": 2, "__proto__": {"x": 1}}).outcome == "ok"


# Streams


def test_the_console_writes_to_the_streams(node: Interpreter) -> None:
    """log, info, debug and table go to stdout, error, warn and trace to stderr; in order with what else writes there."""
    ran = node.run(
        "console.log('log', {a: 1}); console.info('info'); console.debug('%d', 5); console.table([[1]]); process.stdout.write('raw\\n');\n"
        "require('child_process').execSync('echo child', {stdio: 'inherit'}); console.log('last');\n"
        "console.error('error'); console.warn('warn'); console.trace('trace'); process.stderr.write('raw')"
    )

    assert ran.stdout.startswith("log { a: 1 }\ninfo\n5\n┌")
    assert ran.stdout.endswith("raw\nchild\nlast\n")
    assert ran.stderr.startswith("error\nwarn\nTrace: trace\n    at cell-")
    assert ran.stderr.endswith("raw")
    assert "node:internal" not in ran.stderr


def test_all_of_a_flood_is_out_before_the_call_is_done(node: Interpreter) -> None:
    """Writes wait for their reader: nothing is queued inside, whose end nobody would see."""
    assert len(node.run("console.log('x'.repeat(5e6)); process.stdout.write('y'.repeat(5e6)); 1").stdout) == 10_000_001
    assert node.run("for (let i = 0; i < 2e4; i++) console.log(i)").stdout.splitlines()[-1] == "19999"


def test_output_that_is_caught_is_caught(fresh: Interpreter) -> None:
    """Code that replaces process.stdout.write sees the console's output, as in Node."""
    fresh.run(
        "caught = []; write = process.stdout.write; process.stdout.write = (s) => { caught.push(s); return true }; 0"
    )

    assert fresh.run("console.log('hidden')").stdout == ""
    assert (
        fresh.run("process.stdout.write = write; console.log('shown'); process.stdout.end('end')").stdout
        == "shown\nend"
    )
    assert fresh.value("caught") == ["hidden\n"]


def test_displays(node: Interpreter) -> None:
    """display() shows bundles, images and anything else as text; a value with a display of its own is shown as it is the value."""
    ran = node.run(
        "display({'text/html': '<b>é</b>', 'application/json': {a: [1]}}); display(Buffer.from('ffd8ff00', 'hex'), [1]);\n"
        "({[Symbol.for('Jupyter.display')]() { return {'text/markdown': '**x**'} }})"
    )

    assert [display["data"] for display in ran.displays] == [
        {"text/html": "<b>é</b>", "application/json": {"a": [1]}},
        {"image/jpeg": "/9j/AA=="},
        {"text/plain": "[ 1 ]"},
        {"text/markdown": "**x**"},
    ]
    assert ran.stdout == "[ 1 ]\n"
    assert "RangeError" in node.run("display({'text/plain': 'x'.repeat(2e7)})").stderr


# Failures


@pytest.mark.parametrize(
    ("code", "stderr"),
    [
        ("\nnowhere.x", "Uncaught ReferenceError: nowhere is not defined\n    at cell-N:2:1\n"),
        ("function f() { throw new TypeError('bad') }\nf()", "Uncaught TypeError: bad\n    at f (cell-N:1:22)\n    at cell-N:2:1\n"),
        ("await null\nthrow new Error('late')", "Uncaught Error: late\n    at cell-N:2:7\n"),
        ("throw 5", "Uncaught 5\n"),
        ("throw null", "Uncaught null\n"),
        ("throw {a: 1}", "Uncaught { a: 1 }\n"),
        ("let a b", "cell-N:1\nlet a b\n      ^\n\nUncaught SyntaxError: Unexpected identifier 'b'\n"),
        ("f(", "Uncaught SyntaxError: Unexpected end of input\n"),
        ("const typed: number = ; 1", "cell-N:1\nconst typed: number = ; 1\n      ^\n\n" + NO_VALUE),
        ("Promise.reject(new Error('nobody')); 1", "Uncaught Error: nobody\n    at cell-N:1:16\n"),
        ("(async () => { throw new Error('inner') })()", "Uncaught Error: inner\n    at cell-N:1:22\n    at cell-N:1:43\n"),
        ("never = new Promise(_ => {}); setTimeout(() => { throw new Error('timer') }); await never", TIMER),
        ("JSON.parse('{')", None),
        ("eval('import x from \"y\"')", f"{NO_IMPORT}\n    at cell-N:1:1\n"),
        ("throw new Error('out', {cause: new Error('in')})", f"Uncaught Error: out{AT}1:7 {{\n  [cause]: Error: in\n  {AT[1:]}1:32\n}}\n"),
        ("({[require('util').inspect.custom]() { throw new Error('mine') }})", None),
        ("throw new Proxy(new Error('x'), {get() { throw 1 }})", None),
    ],
)  # fmt: skip
def test_what_nobody_caught_is_the_result(node: Interpreter, code: str, stderr: str | None) -> None:
    """The error with the frames of the user's own code on stderr; the session goes on."""
    ran = node.run(code)

    assert ran.outcome == "error"
    assert ran.value == ABSENT
    number = node.value("new Error().stack.match(/cell-(\\d+)/)[1]")
    if stderr is not None:
        assert ran.stderr == stderr.replace("cell-N", f"cell-{int(number) - 1}")
    assert ran.stderr.startswith(("Uncaught ", "cell-"))
    assert "node:internal" not in ran.stderr


def test_a_failure_of_an_earlier_call_is_not_this_ones(node: Interpreter) -> None:
    """A rejection or an error that comes later ends neither the session nor another call."""
    node.run(
        "setTimeout(() => { throw new Error('left over') }, 30); setTimeout(() => Promise.reject(new Error('too')), 30); 0"
    )

    ran = node.run("await new Promise(done => setTimeout(done, 100)); 'unharmed'")

    assert (ran.outcome, ran.value) == ("ok", scalar("unharmed"))
    assert node.value("1") == 1


def test_limits_are_told(node: Interpreter) -> None:
    """Which limit a failure speaks of, also where a library wrapped the error."""
    code = "throw new Error('wrapped', {cause: Object.assign(new Error('full'), {code: 'ENOSPC'})})"

    assert node.run(code).cause == "disk"
    assert node.run("new ArrayBuffer(2 ** 52)").cause == "memory"
    assert node.run("Buffer.alloc(2 ** 52)").cause == "memory"
    assert node.run("throw new Error('plain')").cause is None


def test_exit_ends_the_guest(image: images.Image, folder: Path, command: list[str]) -> None:
    """With its status, and with what was printed; the agent tells, and the host makes another."""
    with Interpreter(image, folder, command=command) as guest, pytest.raises(Died) as died:
        guest.run("await new Promise(done => setTimeout(done, 100))")  # a thread watches by now
        guest.run("console.log('last words'); process.on('exit', () => console.log('handler')); process.exit(3)")

    assert (died.value.status, died.value.stdout, died.value.stderr) == (3, "last words\nhandler\n", "")


def test_a_fresh_guest_knows_no_names_of_ours(fresh: Interpreter) -> None:
    """What it ran to warm up is not there: the session may declare any name."""
    assert fresh.run("Object.keys(globalThis).filter((name) => name.length === 1).join()").value == scalar("")
    assert fresh.run("let a = 6; class A {}; typeof A + a").value == scalar("function6")


# Interrupts


@pytest.mark.parametrize(
    "code",
    [
        "while (true) {}",
        "try { while (true) {} } catch { } finally { while (true) {} }",
        "while (true) await null",
        "await new Promise(() => {})",
        "await new Promise(done => setTimeout(done, 50)); while (true) {}",
        "await new Promise(done => setTimeout(done, 50)); while (true) await null",
        "setTimeout(() => { while (true) {} }, 50); await new Promise(() => {})",
        "process.on('SIGINT', () => {}); await new Promise(done => setTimeout(done, 1e5))",
        "process.removeAllListeners('SIGINT'); for (;;) await new Promise(done => setTimeout(done, 5))",
        "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)",
    ],
)
def test_an_interrupt_ends_the_call_and_keeps_the_state(node: Interpreter, code: str) -> None:
    """Wherever the code is: in its first stretch, waiting, or in a loop after a wait."""
    node.run("kept = 41")

    ran = node.run(code, interrupt_after=0.4)

    assert (ran.outcome, ran.stderr) == ("interrupted", "Interrupted\n")
    assert node.value("kept + 1") == 42


def test_an_interrupt_between_calls_is_nobodys(node: Interpreter) -> None:
    """It may come just after the end of the call that it was meant for."""
    node.run("1")
    for _ in range(5):
        node.process.send_signal(signal.SIGINT)
        time.sleep(0.02)

    assert node.value("2") == 2


def test_what_an_interrupted_call_left_behind_says_no_more(node: Interpreter) -> None:
    """Its loop is in the event loop still; what it prints is not taken for a later call's."""
    node.run("for (;;) { await new Promise(done => setTimeout(done, 5)); console.log('tick') }", interrupt_after=0.3)

    assert node.run("await new Promise(done => setTimeout(done, 50)); console.log('mine')").stdout == "mine\n"


def test_promises_that_are_collected_end_nothing(node: Interpreter) -> None:
    """A cell that waits for a promise nobody holds; Node would die of the garbage collection that finds it."""
    collect = "for (let i = 0; i < 60; i++) { globalThis.junk = new Array(1e5).fill({}); await new Promise(done => setTimeout(done, 1)) }"
    node.run("await new Promise(() => {})", interrupt_after=0.3)
    node.run(f"setTimeout(async () => {{ {collect} }}); await new Promise(() => {{}})", interrupt_after=1)

    assert node.run(collect).outcome == "ok"
    assert node.value("3") == 3


# Commands


@pytest.mark.parametrize(
    ("asked", "exit_code", "stdout"),
    [
        ({"command": "echo hello; exit 3"}, 3, "hello\n"),
        ({"command": "read line; echo \"<$line>\"", "stdin": "é\n"}, 0, "<é>\n"),
        ({"command": "cat; test ! -t 0", "stdin": "x" * 100_000}, 0, "x" * 100_000),
        ({"command": "kill -9 $$"}, 137, ""),
        ({"command": "echo $0", "shell": "sh"}, 0, "sh\n"),
        ({"command": "x=" + "a" * 200_000 + "; echo ${#x}"}, 0, "200000\n"),
        ({"argv": ["printf", "%s|", "a b", "$c"]}, 0, "a b|$c|"),
        ({"argv": ["no-such-program"]}, 127, ""),
        ({"argv": ["/etc/passwd"]}, 126, ""),
        ({"command": "sleep 1 & echo left"}, 0, "left\n"),
        ({"command": "readlink /proc/self/fd/3 | grep -c socket"}, 1, "0\n"),
    ],
)  # fmt: skip
def test_commands(node: Interpreter, asked: dict[str, Any], exit_code: int, stdout: str) -> None:
    """Each a fresh process in the session's folder with an exit code; what it leaves in the background does not hold it."""
    ran = node.run(asked)

    assert (ran.exit, ran.stdout, ran.outcome) == (exit_code, stdout, "ok" if exit_code == 0 else "error")


def test_a_command_is_interrupted_with_its_group(node: Interpreter) -> None:
    """Asked first, then killed; the guest and its state stay."""
    assert node.run({"command": "sleep 30"}, interrupt_after=0.2).exit == 130
    stubborn = node.run({"command": "trap '' INT; sleep 30 & echo $!; wait; sleep 30"}, interrupt_after=0.3)

    assert (stubborn.outcome, stubborn.exit) == ("interrupted", 137)
    assert eventually(lambda: not alive(int(stubborn.stdout)))
    assert node.value("5") == 5


# What code may break


def test_polluted_prototypes_do_not_reach_the_guest(fresh: Interpreter) -> None:
    """Properties that every object seems to have then, and globals that are gone.

    A command has run before: Node itself cannot load a module where every object seems to have a getter, and commands are loaded late.
    """
    fresh.run({"command": "true"})
    fresh.run(
        "for (const name of ['toJSON', 'get', 'set', 'value', 'more', 'env', 'kind', 'writable', 'id', 'result', 'signal'])"
        " Object.prototype[name] = () => 'evil'; Array.prototype.toJSON = String.prototype.toJSON = () => 'evil';"
        " globalThis.setImmediate = globalThis.JSON = globalThis.Promise = globalThis.Buffer = null; 0"
    )

    assert fresh.run("({a: [1, 'x']})").value["json"] == {"a": [1, "x"]}
    assert fresh.run("new Error('x').y.z").stderr.startswith("Uncaught TypeError")
    assert fresh.run("await null; console.log(1)").stdout == "1\n"
    assert fresh.run({"command": "echo hello"}).stdout == "hello\n"


def test_patched_methods_do_not_reach_the_guest(fresh: Interpreter) -> None:
    """As a test library's spies would do it, and worse: runs are answered all the same."""
    fresh.run(
        "for (const [owner, names] of [[Array.prototype, ['push', 'join', 'map', Symbol.iterator]], [String.prototype, ['split', 'slice']],"
        " [Map.prototype, ['get', 'set']], [Buffer, ['from', 'concat', 'alloc']], [Promise.prototype, ['then']], [Reflect, ['apply']],"
        " [Object, ['keys', 'defineProperty']], [JSON, ['parse', 'stringify']], [process, ['emit', 'nextTick']]])"
        " for (const name of names) owner[name] = () => { throw 'broken' }"
    )

    assert fresh.run("40 + 2").value == scalar(42)
    assert fresh.run("({a: [1]})").value["json"] == {"a": [1]}
    assert fresh.run("throw new Error('still told')").stderr.startswith("Uncaught Error: still told")
    assert fresh.run("console.log('printed')").stdout == "printed\n"


def test_a_closed_control_socket_ends_the_guest(image: images.Image, folder: Path, command: list[str]) -> None:
    """Without it there is no next call."""
    with Interpreter(image, folder, command=command) as guest, pytest.raises(Died):
        guest.run("require('fs').closeSync(3); 1")
