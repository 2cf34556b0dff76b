"""What only JavaScript sessions have, over HTTP: values, displays, TypeScript, packages, and ends that keep the state."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from conftest import LEVELS, Server, fresh_identifier
from dialects import NODE
from endpoint import Endpoint
from runtimes import Session

pytestmark = pytest.mark.parametrize(
    "runtimes", LEVELS, indirect=True, scope="session", ids=[f"{level}-node" for level in LEVELS]
)


@pytest.fixture
def node(runtimes: Server) -> Iterator[Session]:
    with httpx.Client(timeout=60.0, trust_env=False) as http:
        endpoint = Endpoint(runtimes, fresh_identifier(), http, NODE.name)
        yield Session(endpoint, NODE)
        endpoint.end()


def value(session: Session, code: str) -> Any:
    told = session.run(code)
    assert (told["status"], told["stderr"]) == ("Succeeded", ""), told
    return told["executionResult"]


def test_declarations_may_be_repeated(node: Session) -> None:
    """Azure's kernel refuses it; the console of DevTools does not."""
    value(node, "const n = 1; let s = 'a'; class C { n = n }; function f() { return n }")
    value(node, "const n = 2; let s = 'b'; class C { n = n * 10 }")

    assert value(node, "[n, s, new C().n, f()]") == [2, "b", 20, 2]


def test_typescript_modules_and_packages(node: Session) -> None:
    """Types are taken off, imports evaluated, the image's packages found; also from a file of the session's."""
    value(node, "require('fs').writeFileSync('shapes.ts', 'import { sum } from \"lodash\"; export enum No {}')")
    value(
        node, "require('fs').writeFileSync('area.mjs', 'import _ from \"lodash\"; export const area = _.sum([1, 2])')"
    )

    assert value(node, "import { area } from './area.mjs'\nconst twice: number = area * 2; twice") == 6
    assert value(node, "require('axios').VERSION.split('.').length") == 3
    assert "Cannot find package" in node.run("await import('no-such-package')")["stderr"]


def test_a_last_promise_is_waited_for(node: Session) -> None:
    """Programs end with main(), and what that prints belongs to the call."""
    told = node.run("async function main() { await null; console.log('in main'); return {done: true} }\nmain()")

    assert (told["stdout"], told["executionResult"]) == ("in main\n", {"done": True})
    assert node.run("Promise.reject(new Error('refused'))")["stderr"].startswith(
        "Uncaught Error: refused\n    at cell-"
    )


@pytest.mark.parametrize(
    "code",
    [
        "for (;;) { await new Promise(done => setTimeout(done, 5)); console.log('tick') }",
        "await new Promise(done => setTimeout(done, 20)); while (true) {}",
        "await new Promise(() => {})",
    ],
    ids=["async loop", "loop after a wait", "never"],
)
def test_a_deadline_keeps_the_state(node: Session, code: str) -> None:
    """Wherever the code is then; what goes on in the event loop says nothing in later calls."""
    value(node, "const kept = 41")

    assert node.run(code, timeout=2)["outcome"] == "timeout"
    told = node.run("await new Promise(done => setTimeout(done, 50)); console.log('mine'); kept + 1")
    assert (told["stdout"], told["executionResult"]) == ("mine\n", 42)


def test_exit_ends_the_interpreter_and_not_the_session(node: Session) -> None:
    """With what was printed, and with nothing of Node's own beside it; files stay."""
    value(node, "require('fs').writeFileSync('kept.txt', 'kept'); await new Promise(done => setTimeout(done, 20))")
    told = node.run("console.log('last words'); process.exit(3)")

    assert (told["outcome"], told["stdout"]) == ("exited", "last words\n")
    assert told["stderr"] == "Kernel restarted: the process exited with code 3"
    assert value(node, "require('fs').readFileSync('kept.txt', 'utf8')") == "kept"


def test_displays_and_variables(node: Session) -> None:
    """Rich outputs in order; variables in and out as JSON."""
    code = "display({'text/html': '<b>' + given.a + '</b>'}); display(Buffer.from('89504e470d0a1a0a00', 'hex')); const made = [given, 2]"
    told = node.run(code, variables={"given": {"a": "x'\""}}, returnVariables=["made", "nowhere"])

    assert [output["data"] for output in told["outputs"]] == [
        {"text/html": "<b>x'\"</b>"},
        {"image/png": "iVBORw0KGgoA"},
    ]
    assert told["variables"] == {"made": [{"a": "x'\""}, 2]}


def test_node_knows_what_memory_it_has(node: Session) -> None:
    """Garbage is collected by the pool's limit, not by the machine's memory: a program that lets go of what it took goes on."""
    code = "let kept; for (let i = 0; i < 60; i++) kept = Array.from({length: 2e5}, (_, n) => ({n})); kept.length"

    assert value(node, code) == 200_000
    assert value(node, "require('v8').getHeapStatistics().heap_size_limit < 600e6") is True
