"""Every line that Carrel's own code can log, read from its text: what docs/reference/logs.md is held to."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src/carrel"
_LEVELS = ("debug", "info", "warning", "error", "exception", "log")
_ALWAYS = ("trace",)  # put into lines by logs.py


@dataclass(frozen=True, slots=True)
class Line:
    event: str
    levels: tuple[str, ...]
    fields: frozenset[str]


def lines() -> list[Line]:
    """By event, one for each."""
    found: dict[str, list[tuple[str, frozenset[str]]]] = {}
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for call in _calls(function):
                    level = call.func.attr if isinstance(call.func, ast.Attribute) else ""
                    event = _text(call.args[1 if level == "log" else 0])
                    found.setdefault(event, []).append((level, _fields(call, function)))
    return [
        Line(event, tuple(sorted({level for level, _ in each})), frozenset().union(*(fields for _, fields in each)))
        for event, each in sorted(found.items())
    ]


def fields() -> set[str]:
    return {name for line in lines() for name in line.fields} | {*_ALWAYS}


def _calls(function: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LEVELS:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in ("log", "_log"):
                yield node


def _text(node: ast.expr) -> str:
    """A value that is put into it is an ellipsis."""
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    assert isinstance(node, ast.Constant), f"line {node.lineno}: an event is a text of its own"
    return str(node.value)


def _fields(call: ast.Call, function: ast.AST) -> frozenset[str]:
    """Keys of the dictionaries that `extra` is made of, also where they stand in a variable of the same function."""
    extra = next((each.value for each in call.keywords if each.arg == "extra"), None)
    if extra is None:
        return frozenset()
    names = {node.id for node in ast.walk(extra) if isinstance(node, ast.Name)}
    sources: list[ast.AST] = [extra]
    for node in ast.walk(function):
        targets = (
            [node.target] if isinstance(node, ast.AnnAssign) else node.targets if isinstance(node, ast.Assign) else []
        )
        if any(isinstance(target, ast.Name) and target.id in names for target in targets):
            sources.append(node)
    dicts = [node for source in sources for node in ast.walk(source) if isinstance(node, ast.Dict)]
    keys = [key.value for each in dicts for key in each.keys if isinstance(key, ast.Constant)]
    return frozenset(key for key in keys if isinstance(key, str))


_BEGIN = "| Event | Level | Fields |\n|---|---|---|\n"


def with_events(page: str) -> str:
    """The page with its list of events, which is the last thing on it, as it must be."""
    rows = [
        f"| {each.event} | {_levels(each)} | {', '.join(f'`{name}`' for name in sorted(each.fields))} |"
        for each in lines()
    ]
    return page[: page.index(_BEGIN)] + _BEGIN + "\n".join(rows) + "\n"


def _levels(line: Line) -> str:
    words = {"exception": "error, with the exception", "log": "by what happened"}
    return "; ".join(words.get(level, level) for level in line.levels)
