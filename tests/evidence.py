"""The table of attacks, levels and outcomes in docs/security/attacks.md, made by the run of the attacks itself.

Whatever uses the `fortress` runs at every level in LEVELS, in sandboxes of Python and of all RUNTIMES: by a Python process beside their
guests (coprocess.py), so that the attacks are the same programs. Five marks say where something differs, each with its reason:

    not_at(level, …, reason)   what is attacked does not exist there: the test is left out
    open_at(level, …, reason)  the attack succeeds there, and is expected to: once it no longer does, the run fails, and the mark goes
    of_python(reason)          the attack is on Python's own guest, or by it
    of_guests_at(level, …, reason)   only a guest has there what is looked at, and no process beside it
    weaker(who, reason)        the test itself asserts a weaker promise for `who`: "user" (a server that is not root's), or a level

With `--evidence` the outcomes of this run go into docs/security/attacks.json, where those of other runs stay (another level, or
another user), and the page is written anew from it. `make evidence` does that.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from carrel.models import Level
from items import Stronghold, level_of, parameter

LEVELS = [Level.GVISOR, Level.NAMESPACE, Level.RESTRICTED]  # strongest first
RUNTIMES = ("node", "shell")  # besides Python
FOLDER = Path(__file__).parent / "security"
PAGE = Path(__file__).parent.parent / "docs/security/attacks.md"
STOPPED, WEAKER, OPEN, ABSENT, FAILED = "stopped", "weaker", "open", "absent", "FAILED"

_HEAD = """# Attacks and outcomes

Written by `make evidence` from a run of `tests/security/`: every row is a test, through the HTTP API, with a neighbour's session beside
it that must not notice. As root every session has a host user of its own; as an ordinary user they share the server's.

- **stopped**: the test passed: the attack failed, the server and the neighbour work.
- **weaker**: the test passed with the weaker promise that the note states.
- **open**: the attack succeeds at this level, and the run asserts that it does. The note says why.
- absent: what is attacked does not exist at this level.
- an empty cell was not run on the machine that wrote this page.
"""
_WORDS = {STOPPED: "stopped", WEAKER: "weaker", OPEN: "**open**", ABSENT: "absent", FAILED: "**FAILED**"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--evidence", action="store_true", help="write the outcomes to docs/security/attacks.md")


def pytest_configure(config: pytest.Config) -> None:
    for line in (
        "not_at(*levels, reason): what is attacked does not exist at these levels",
        "open_at(*levels, reason): the attack succeeds at these levels, and is asserted to",
        "of_python(reason): the attack is on Python's own guest, or by it, and runs in no other runtime's sandboxes",
        "of_guests_at(*levels, reason): a process beside a guest does not have what is looked at, at these levels",
        "weaker(who, reason): the test asserts a weaker promise for a level or for 'user'",
    ):
        config.addinivalue_line("markers", line)
    config.pluginmanager.register(Evidence(config), "carrel-evidence")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fortress" in metafunc.fixturenames:
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        levels = [Level.NAMESPACE] if "one_level" in marks else LEVELS
        others = (
            [] if "of_python" in marks else [Stronghold(level, runtime) for runtime in RUNTIMES for level in levels]
        )
        metafunc.parametrize("fortress", [*levels, *others], indirect=True, scope="session", ids=str)


class Evidence:
    def __init__(self, config: pytest.Config) -> None:
        self._is_user = bool(config.getoption("--user")) or os.geteuid() != 0
        self._wanted = config.getoption("--evidence")
        self._rows: dict[str, dict[str, list[str]]] = {}  # test → column → outcome, reason …
        self._reasons: dict[str, str] = {}  # node → reason of what is open or weaker there

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        left_out = []
        for item in items:
            if (level := _level(item)) is None:
                continue
            if isinstance(parameter(item, "fortress"), Stronghold) and _reason(item, "of_guests_at", level):
                left_out.append(item)
            elif reason := _reason(item, "not_at", level):
                self._note(item, level, ABSENT, reason)
                left_out.append(item)
            elif reason := _reason(item, "open_at", level):
                item.add_marker(pytest.mark.xfail(strict=True, reason=reason))
                self._reasons[item.nodeid] = reason
            elif reason := _reason(item, "weaker", level) or (self._is_user and _reason(item, "weaker", "user")) or "":
                self._reasons[item.nodeid] = reason
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if item not in left_out]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        level = _level(item)
        if level is not None and (not report.skipped or hasattr(report, "wasxfail")):
            self._record(item, level, report)
        return report

    def _record(self, item: pytest.Item, level: Level, report: pytest.TestReport) -> None:
        reason = self._reasons.get(item.nodeid, "")
        if report.failed:
            self._note(item, level, FAILED, "")
        elif report.when == "call":
            outcome = OPEN if hasattr(report, "wasxfail") else WEAKER if reason else STOPPED
            self._note(item, level, outcome, reason)

    def _note(self, item: pytest.Item, level: Level, outcome: str, reason: str) -> None:
        """A test of many parameters has one row: the worst outcome counts."""
        order = [ABSENT, STOPPED, WEAKER, OPEN, FAILED]
        column = f"{level}, {'user' if self._is_user else 'root'}"
        row = self._rows.setdefault(name_of(item), {})
        known = row.get(column)
        if known is None or order.index(outcome) > order.index(known[0]):
            row[column] = [outcome, reason]

    def pytest_sessionfinish(self) -> None:
        if self._wanted:
            write(self._rows)


def name_of(item: pytest.Item) -> str:
    """`file.py::function`, the same for every parameter."""
    return f"{item.path.name}::{getattr(item, 'originalname', item.name)}"


def _level(item: pytest.Item) -> Level | None:
    if item.path.parent != FOLDER:
        return None
    return level_of(parameter(item, "fortress"))


def _reason(item: pytest.Item, mark: str, who: str) -> str:
    return next((each.kwargs["reason"] for each in item.iter_markers(mark) if who in each.args), "")


def write(rows: dict[str, dict[str, list[str]]]) -> None:
    """Into the stored outcomes, and the page from them. Rows of tests that are gone go."""
    stored = PAGE.with_suffix(".json")
    known: dict[str, Any] = json.loads(stored.read_text()) if stored.is_file() else {}
    described = attacks()
    merged = {test: {**known.get(test, {}), **rows.get(test, {})} for test in described}
    PAGE.parent.mkdir(exist_ok=True)
    stored.write_text(json.dumps(merged, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    PAGE.write_text(page(merged, described))


def attacks() -> dict[str, str]:
    """Every attack on the fortress with its sentence, in the order of the files."""
    found = {}
    for path in sorted(FOLDER.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            if {"attacker", "probe", "accomplice", "fortress"} & {each.arg for each in node.args.args}:
                words = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
                found[f"{path.name}::{node.name}"] = words
    return found


def page(rows: dict[str, dict[str, list[str]]], described: dict[str, str]) -> str:
    columns = [f"{level}, {who}" for level in LEVELS for who in ("root", "user")]
    columns = [column for column in columns if any(column in row for row in rows.values())]
    notes: list[str] = []
    lines, file = [_HEAD], ""
    for test in described:
        row = rows.get(test, {})
        if test.split("::")[0] != file:
            file = test.split("::")[0]
            title = file.removeprefix("test_").removesuffix(".py").replace("_", " ").capitalize()
            lines += [f"\n## {title}\n\n`tests/security/{file}`\n", f"| Attack | {' | '.join(columns)} |"]
            lines += [f"|---{'|---' * len(columns)}|"]
        attack = test.split("::")[1].removeprefix("test_").replace("_", " ")
        text = f"**{attack}**: {described[test]}" if described[test] else f"**{attack}**"
        lines += [
            f"| {text.replace('|', chr(92) + '|')} | {' | '.join(_cell(row.get(each), notes) for each in columns)} |"
        ]
    lines += ["\n## Notes\n", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return "\n".join(lines) + "\n"


def _cell(outcome: list[str] | None, notes: list[str]) -> str:
    if outcome is None:
        return ""
    word, reason = _WORDS[outcome[0]], outcome[1]
    if not reason:
        return word
    if reason not in notes:
        notes.append(reason)
    return f"{word} ({notes.index(reason) + 1})"
