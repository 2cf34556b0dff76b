"""What variables there are, as a guest tells it alone: true to what is there, and no code of the session's is run for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from carrel.backends import images
from carrel.models import VariableSummary
from carrel.wire.variables import MAX_SUMMARIES, encode_summaries, summaries_from
from interpreter_fixture import IMAGES, SOURCE, Interpreter

NODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from carrel.guest import guests; guests.main()"


@pytest.fixture(scope="module")
def summary_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    image = images.ensure("python-slim", IMAGES, print)
    with Interpreter(image, tmp_path_factory.mktemp("summaries")) as guest:
        yield guest


@pytest.fixture(scope="module")
def summary_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Interpreter]:
    image = images.ensure("node", IMAGES, print)
    command = ["-I", "-S", "-c", NODE, str(SOURCE), "node", *image.host_guest]
    with Interpreter(image, tmp_path_factory.mktemp("summaries"), command=command) as guest:
        yield guest


def told(guest: Interpreter, code: str) -> dict[str, VariableSummary]:
    """What there is after code that works, by name; whole, by the rules of those who read it."""
    ran = guest.run(code)
    assert ran.outcome == "ok", ran.stderr
    ran = guest.run("", summary=True)
    assert (ran.outcome, ran.stderr) == ("ok", ""), ran.stderr
    assert ran.variables is not None
    found, total = summaries_from(ran.variables)
    assert len(found) == min(total, MAX_SUMMARIES)
    return {each.name: each for each in found}


def preview(guest: Interpreter, name: str, code: str) -> tuple[str, tuple[int, ...] | None, str]:
    found = told(guest, code)[name]
    return found.type_name, found.shape, found.preview


@pytest.mark.parametrize(
    ("value", "type_name", "shape", "shown"),
    [
        ("42", "int", None, "42"),
        ("10 ** 9000", "int", None, "<an integer of 29898 bits>"),
        ("1.5", "float", None, "1.5"),
        ("None", "NoneType", None, "None"),
        ("'it\\'s é 🦉'", "str", (8,), '"it\'s é 🦉"'),
        ("'\\ud800'", "str", (1,), "'\\ud800'"),
        ("'x' * 10**7", "str", (10_000_000,), "'" + "x" * 198 + "…"),
        ("b'ab'", "bytes", (2,), "b'ab'"),
        ("[1, [2, [3, [4, []]]]]", "list", (2,), "[1, [2, [3, […]]]]"),
        ("list(range(100))", "list", (100,), "[0, 1, 2, 3, 4, 5, 6, 7, …]"),
        ("(1,)", "tuple", (1,), "(1,)"),
        ("{'a': {1}}", "dict", (1,), "{'a': {1}}"),
        ("range(3)", "range", (3,), "range(0, 3)"),
        ("lambda x, *, y: 0", "function", None, "(x, y)"),
        ("type('Made', (), {})()", "Made", None, "<Made>"),
        ("type('Made', (dict,), {'__repr__': lambda s: 1/0})(a=1)", "Made", (1,), "{'a': 1}"),
        ("__import__('datetime').date(2026, 1, 2)", "datetime.date", None, "datetime.date(2026, 1, 2)"),
    ],
)
def test_a_python_variable(
    summary_python: Interpreter, value: str, type_name: str, shape: tuple[int, ...] | None, shown: str
) -> None:
    assert preview(summary_python, "it", f"it = {value}") == (type_name, shape, shown)


def test_a_list_that_holds_itself_and_sizes(summary_python: Interpreter) -> None:
    found = told(
        summary_python,
        "import json; from json import dumps, JSONDecoder; from math import sin\n"
        "it = []; it.append(it); _hidden = 1; text = 'x' * 5000; del_ = {}; a = a2 = 1",
    )

    assert found["it"].preview == "[[[[…]]]]"
    assert (found["text"].size or 0) >= 5000
    assert {"_hidden", "json", "dumps", "JSONDecoder", "sin", "In", "Out", "exit", "get_ipython"}.isdisjoint(found)
    assert list(found) == sorted(found)


HOSTILE = """
_ran = []
class Loud(type):
    def __getattribute__(self, name): _ran.append(name); raise SystemExit(3)
    __subclasscheck__ = __instancecheck__ = __eq__ = __hash__ = __getattribute__
class Hostile(metaclass=Loud):
    def say(self, *a): _ran.append(1); raise SystemExit(3)
    __repr__ = __str__ = __len__ = __sizeof__ = __getattr__ = __iter__ = __hash__ = __eq__ = __bool__ = say
    __class__ = property(say)
class Items(list):
    def __iter__(self): _ran.append(1); raise SystemExit(3)
    __len__ = __sizeof__ = __getitem__ = __repr__ = __iter__
class Number(int):
    __repr__ = bit_length = lambda *a: _ran.append(1)
class Name(str):
    __lt__ = startswith = lambda *a: _ran.append(1)
evil, items, pair = Hostile(), Items([1, 2]), [Hostile()]
number = Number(7)
globals()[Name('zz')] = 1
_ran.clear()
kind = Hostile
"""


def test_nothing_of_the_codes_is_run(summary_python: Interpreter) -> None:
    found = told(summary_python, HOSTILE)

    assert found["evil"].preview == "<Hostile>"
    assert found["pair"].preview == "[<Hostile>]"
    assert (found["items"].shape, found["items"].preview) == ((2,), "[1, 2]")
    assert found["number"].preview == "7"
    assert found["kind"].type_name == "Loud"
    assert summary_python.value("_ran") == []


def test_thousands_of_variables_are_the_first_thousand_and_their_number(summary_python: Interpreter) -> None:
    ran = summary_python.run("globals().update({f'v{n:05}': [n] * 50 for n in range(20_000)})")
    assert ran.outcome == "ok"
    ran = summary_python.run("", summary=True)

    found, total = summaries_from(ran.variables or {})
    assert (len(found), total >= 20_000) == (MAX_SUMMARIES, True)
    summary_python.run("for n in range(20_000): del globals()[f'v{n:05}']")


@pytest.mark.parametrize(
    ("code", "type_name", "shape", "shown"),
    [
        ("it = 42", "number", None, "42"),
        ("it = 2n ** 9000n", "bigint", None, "<a large BigInt>"),
        ("it = 'é🦉'", "string", (3,), '"é🦉"'),
        ("it = undefined", "undefined", None, "undefined"),
        ("it = null", "null", None, "null"),
        ("it = [1, 'a', [2, [3, [4]]]]", "Array", (3,), '[1, "a", [2, [3, […]]]]'),
        ("it = { a: 1, get b() { throw 1 } }", "Object", None, "{a: 1, b: <getter>}"),
        ("it = new Map([[1, 2]])", "Map", (1,), "<Map>"),
        ("it = new Float64Array(3)", "Float64Array", (3,), "[0, 0, 0]"),
        ("it = new Proxy({}, { get() { throw 1 }, getPrototypeOf() { throw 1 } })", "Proxy", None, "<Proxy>"),
        ("it = new (class Made { x = 1 })()", "Made", None, "Made {x: 1}"),
        ("it = function named() {}", "function", None, "named()"),
        ("it = new Date(0)", "Date", None, "1970-01-01T00:00:00.000Z"),
        ("it = new Error('no')", "Error", None, "Error: no"),
        (
            "it = { toString() { throw 1 }, [Symbol.toPrimitive]() { throw 1 } }",
            "Object",
            None,
            "{toString: toString()}",
        ),
    ],
)
def test_a_javascript_variable(
    summary_node: Interpreter, code: str, type_name: str, shape: tuple[int, ...] | None, shown: str
) -> None:
    assert preview(summary_node, "it", f"var {code}; undefined") == (type_name, shape, shown)


def test_what_declares_a_javascript_variable(summary_node: Interpreter) -> None:
    found = told(
        summary_node, "let one = 1; const two = 2; var three = 3; four = 4; class Five {}; function six() {}; 0"
    )

    assert {"one", "two", "three", "four", "Five", "six"} <= set(found)
    assert {"require", "process", "console", "__carrel__", "globalThis"}.isdisjoint(found)
    assert found["two"].preview == "2"


def test_what_a_guest_invents_is_left_out() -> None:
    """The document is the sandbox's word, and may be anything."""
    good: dict[str, Any] = {"name": "x", "type": "int", "size": 28, "shape": None, "preview": "1"}
    hopeless: tuple[Any, ...] = (
        None,
        1,
        [],
        {},
        {**good, "name": ""},
        {**good, "name": 1},
        {**good, "type": None},
        {**good, "preview": []},
    )
    for wrong in hopeless:
        assert summaries_from({"summary": [wrong, good], "total": 2})[0] == [VariableSummary("x", "int", 28, None, "1")]
    for size in (-1, 1.5, True, 2**53, "1"):
        found, total = summaries_from({"summary": [{**good, "size": size, "shape": [1, size]}], "total": size})
        assert (found[0].size, found[0].shape, total) == (None, None, 1)
    empty: tuple[dict[str, Any], ...] = ({}, {"summary": None}, {"summary": {}}, {"summary": 3, "total": []})
    for document in empty:
        assert summaries_from(document) == ([], 0)
    many = [{**good, "name": "n" * 5000, "type": "t" * 5000, "preview": "p" * 5000, "shape": [1] * 500}] * 5000
    found, total = summaries_from({"summary": many, "total": 5000})
    assert (len(found), total, len(found[0].name), len(found[0].preview)) == (MAX_SUMMARIES, 5000, 255, 200)
    assert len(encode_summaries(found, total)) < 2_000_000
    assert dataclasses.replace(found[0], name="x").name == "x"
