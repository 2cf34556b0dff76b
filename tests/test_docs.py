"""The documentation is complete, its links lead somewhere, and its examples do what they say.

Code blocks marked `run` are executed against a real server, as a reader in the checkout would: `bash` under `set -eu`, `python` with ours,
`console` line by line with its output compared. A block `text output` after one is what the one before must print. A block that is not run
says after its language who does it instead: `config` (it is loaded as carrel.toml), `env=NAME` (run with the packages of
tests/clients/NAME), `see=tests/FILE::TEST` (what runs the same), or `unrun: why not`. JSON is parsed; `text` is no code.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import click
import pytest

import evidence
import log_lines
from carrel import arm_errors, errors, graph_errors
from carrel.cli import banner, cli
from carrel.config import SETTINGS, Setting, load
from carrel.issuer_settings import FIELDS as ISSUER_FIELDS
from carrel.models import Level, Status
from carrel.pool_settings import FIELDS
from carrel.server.arm import routes as arm_routes
from carrel.server.graph import routes as graph_routes
from carrel.server.operator import routes as operator_routes
from carrel.server.route_table import Route
from carrel.sessions.states import SANDBOX, SESSION, SandboxState, SessionState
from carrel.store.records import PoolState
from clients import environments
from conftest import Server

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
REFERENCE = ROOT / "docs/reference"
SETTING_FLAGS = {f"--{setting.name}" for setting in SETTINGS}


@dataclass(frozen=True, slots=True)
class Block:
    page: Path
    line: int
    kind: str  # bash, python, console …
    marks: tuple[str, ...]
    text: str
    output: str | None = None

    @property
    def environment(self) -> str | None:
        """Of tests/clients, whose packages it needs."""
        return next((mark.removeprefix("env=") for mark in self.marks if mark.startswith("env=")), None)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    found = list(re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL))
    for match, following in itertools.zip_longest(found, found[1:]):
        output = following[3] if following and (following[1], following[2].strip()) == ("text", "output") else None
        line = page.read_text()[: match.start()].count("\n") + 1
        yield Block(page, line, match[1], tuple(match[2].split()), match[3], output)


BLOCKS = [block for page in PAGES for block in blocks(page)]
NO_CODE = {"text", "json"}


def sees(block: Block) -> str | None:
    return next((mark.removeprefix("see=") for mark in block.marks if mark.startswith("see=")), None)


# ---- complete ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting: Setting) -> None:
    """Name, variable, default and meaning, as the command line has them."""
    row = f"| `{setting.name}` | `{setting.variable}` | `{setting.default}` | {setting.help} |"

    assert row in (REFERENCE / "settings.md").read_text()


@pytest.mark.parametrize("field", FIELDS)
def test_every_pool_field_is_documented(field: str) -> None:
    assert f"| `{field}` |" in (REFERENCE / "settings.md").read_text()


@pytest.mark.parametrize("field", ISSUER_FIELDS)
def test_every_field_of_an_issuer_is_documented(field: str) -> None:
    section = (REFERENCE / "settings.md").read_text().split("\n## Issuers\n")[1].split("\n## ")[0]

    assert f"| `{field}` |" in section


def commands(command: click.Command, name: str = "carrel") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            child = command.get_command(context, each)
            assert child is not None
            yield from commands(child, f"{name} {each}")
    else:
        yield name, command


@pytest.mark.parametrize(("name", "command"), list(commands(cli)))
def test_every_command_and_option_is_documented(name: str, command: click.Command) -> None:
    text = (REFERENCE / "cli.md").read_text()
    assert f"\n## {name}\n" in text
    section = text.split(f"\n## {name}\n")[1].split("\n## ")[0]

    options = {option for each in command.params if isinstance(each, click.Option) for option in each.opts}
    if options >= SETTING_FLAGS:
        assert "[setting](settings.md)" in section
        options -= SETTING_FLAGS
    assert [option for option in options if option not in section] == []


@pytest.mark.parametrize("code", errors.BY_CODE)
def test_every_error_code_is_documented(code: str) -> None:
    assert f"`{code}`" in (REFERENCE / "errors.md").read_text()


@pytest.mark.parametrize("code", [each.code for each in arm_errors.ALL])
def test_every_error_code_of_the_control_plane_is_documented(code: str) -> None:
    assert f"`{code}`" in (REFERENCE / "errors.md").read_text()


@pytest.mark.parametrize("route", arm_routes.ROUTES, ids=lambda route: route.pattern.text)
def test_every_route_of_the_control_plane_is_documented(route: Route[Any]) -> None:
    """With its methods."""
    rows = [line for line in (REFERENCE / "arm.md").read_text().splitlines() if f"| `{route.pattern.text}` |" in line]

    assert {method for row in rows for method in row.split(" | ")[0].strip("| ").split(", ")} == set(route.methods)


@pytest.mark.parametrize("code", [each.code for each in graph_errors.ALL])
def test_every_error_code_of_graph_is_documented(code: str) -> None:
    assert f"`{code}`" in (REFERENCE / "errors.md").read_text()


@pytest.mark.parametrize("route", graph_routes.ROUTES, ids=lambda route: route.pattern.text)
def test_every_route_of_graph_is_documented(route: Route[Any]) -> None:
    """With its methods."""
    rows = [line for line in (REFERENCE / "graph.md").read_text().splitlines() if f"| `{route.pattern.text}` |" in line]

    assert {method for row in rows for method in row.split(" | ")[0].strip("| ").split(", ")} == set(route.methods)


@pytest.mark.parametrize("route", operator_routes.ROUTES, ids=lambda route: route.pattern.text)
def test_every_route_of_the_operator_plane_is_documented(route: Route[Any]) -> None:
    """With its methods."""
    rows = [
        line for line in (REFERENCE / "routes.md").read_text().splitlines() if f"| `{route.pattern.text}` |" in line
    ]

    assert {method for row in rows for method in row.split(" | ")[0].strip("| ").split(", ")} == set(route.methods)


def test_all_log_lines_are_documented() -> None:
    """Each event that our code can log, with its fields; each field's meaning; and nothing that is not logged any more."""
    page = REFERENCE / "logs.md"
    if os.environ.get("CARREL_LOGS") == "write":
        page.write_text(log_lines.with_events(page.read_text()))
    section = page.read_text().split("\n## Fields\n")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]

    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == log_lines.fields()
    assert page.read_text() == log_lines.with_events(page.read_text()), "write it anew: the page says how"


def routes() -> list[str]:
    """Every pattern in server/routes.py, read from its text so that a new one cannot hide."""
    tree = ast.parse((ROOT / "src/carrel/server/routes.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Route"]
    tables = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "_WORDS"
    ]
    keys = [key for table in tables if isinstance(table, ast.Dict) for key in table.keys]
    texts = [*(call.args[0] for call in calls), *keys]
    assert keys
    return sorted({str(text.value) for text in texts if isinstance(text, ast.Constant)})


@pytest.mark.parametrize("route", routes())
def test_every_route_is_documented(route: str) -> None:
    assert f"{route}`" in (REFERENCE / "routes.md").read_text()


@pytest.mark.parametrize("runtime", ["python", "javascript", "shell"])
def test_every_runtime_says_what_is_kept_and_where_it_ends(runtime: str) -> None:
    """What stays between calls and what does not, limits, differences from Azure: a section of more than its heading each."""
    page = (ROOT / f"docs/runtimes/{runtime}.md").read_text()
    sections = dict(re.findall(r"^## (.*)\n+(.*(?:\n(?!## ).*)*)", page, re.MULTILINE))
    kept = sections["What is kept between commands" if runtime == "shell" else "What is kept between calls"]

    assert kept.startswith("| Kept until the session ends | Not kept |")
    assert "](../reference/limits.md)" in sections["Limits"]
    assert sections["Differences from Azure"].startswith("- ")


@pytest.mark.parametrize("level", Level)
def test_the_banner_promises_what_the_documentation_does(level: Level) -> None:
    """What is stopped and what is not is said in one way only."""
    text = (ROOT / "docs/concepts/isolation.md").read_text()

    assert f"It stops {banner.STOPS[level]}" in text
    assert f"It does not stop {banner.DOES_NOT_STOP[level]}" in text


def lifecycle(name: str) -> list[list[str]]:
    """The cells of a table of docs/concepts/lifecycle.md, without its heading."""
    text = (ROOT / "docs/concepts/lifecycle.md").read_text().split(f"<!-- table: {name} -->\n")[1].split("<!-- end")[0]
    return [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]


@pytest.mark.parametrize(
    ("name", "table", "kind"), [("sandbox", SANDBOX, SandboxState), ("session", SESSION, SessionState)]
)
def test_the_lives_of_sandboxes_and_sessions_are_told_as_they_are(name: str, table: Any, kind: Any) -> None:
    """Every state, and every step that the code's table has, and no other."""
    told = {
        (state.strip("`"), *step.strip().split(" → "))
        for state, _meaning, steps in lifecycle(name)
        for step in steps.replace("`", "").split(" · ")
    }

    assert told == {(str(state), str(event), str(after)) for (state, event), after in table.items()}
    assert [row[0].strip("`") for row in lifecycle(name)] == [str(state) for state in kind]


def test_the_states_of_executions_and_pools_are_told_as_they_are() -> None:
    over = {"yes": True, "no": False}
    told = {status.strip("`"): over[last] for status, _meaning, last in lifecycle("execution")}

    assert told == {str(status): status.is_over for status in Status}
    assert [row[0].strip("`") for row in lifecycle("pool")] == list(get_args(PoolState))


def test_every_promise_names_what_holds_it() -> None:
    """A row of SPECIFICATION.md names tests or benches that exist, or says [pending]."""
    rows = re.findall(r"^\| \d+\.\d+ \| .* \| (.*) \|$", (ROOT / "SPECIFICATION.md").read_text(), re.MULTILINE)
    assert rows
    for row in rows:
        names = re.findall(r"`((?:tests|bench)[\w/.]*)(?:::(\w+))?`", row)
        assert names or "[pending]" in row, row
        for file, name in names:
            assert (ROOT / file).exists(), file
            if name:
                assert re.search(rf"^(async )?(def )?{name}\b", (ROOT / file).read_text(), re.MULTILINE), (
                    f"{file} has no {name}"
                )


def test_every_threat_names_the_tests_that_hold_it() -> None:
    """A row of the threat model without a test, or with one that is not there, is a wish."""
    text = (ROOT / "docs/security/threat-model.md").read_text()
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ") and "| Invariant |" not in line]
    assert len(rows) > 25
    for _threat, _invariant, mitigation, held_by, _left in rows:
        names = re.findall(r"`(tests/[\w/.]+)::(\w+)`", held_by)
        assert names, mitigation
        for file, name in names:
            found = re.search(rf"^(async )?def {name}\b", (ROOT / file).read_text(), re.MULTILINE)
            assert found, f"{file} has no {name}"


def test_the_page_of_attacks_has_every_attack() -> None:
    """Made by a run (`make evidence`): no attack is left out, none is there that is not tried any more, and nothing failed."""
    outcomes = json.loads(evidence.PAGE.with_suffix(".json").read_text())

    assert set(outcomes) == set(evidence.attacks()), "run `make evidence`"
    assert evidence.PAGE.read_text() == evidence.page(outcomes, evidence.attacks())
    assert "FAILED" not in evidence.PAGE.read_text()
    ran = {column for row in outcomes.values() for column in row}
    assert {"gvisor, root", "namespace, root", "namespace, user"} <= ran


def test_every_page_can_be_reached_and_every_link_leads_somewhere() -> None:
    linked = {ROOT / "README.md"}
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page}: {target}"
                linked.add((page.parent / target).resolve())
    unreachable = [
        page
        for page in PAGES
        if page.is_relative_to(ROOT / "docs") and "decisions" not in page.parts and page not in linked
    ]
    assert unreachable == []


def test_the_index_lists_every_page_once() -> None:
    """The order of its lists is that of the built documentation (docs/conf.py); decisions have a list of their own."""
    index = ROOT / "docs/index.md"
    listed = [
        (index.parent / each).resolve()
        for each in re.findall(r"^- \[.*?\]\(([^)#]+)\)", index.read_text(), re.MULTILINE)
    ]
    numbered = set((ROOT / "docs/decisions").glob("0*.md"))

    assert sorted(listed) == sorted(set(PAGES) - numbered - {index}), "docs/index.md"


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.kind not in NO_CODE], ids=str)
def test_every_code_block_is_run_or_says_why_not(block: Block) -> None:
    """Beside it, after the name of its language. What is said to run the same is there."""
    if seen := sees(block):
        file, _, name = seen.partition("::")
        assert re.search(rf"^(async )?def {name}\b", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {name}"
    elif block.marks[:1] == ("unrun:",):
        assert len(block.marks) > 2, "unrun: why not?"
    else:
        assert {"run", "config"} & set(block.marks[:1]) or block.environment, (
            "mark it `run`, `config`, `env=NAME`, `see=tests/FILE::TEST` or `unrun: why not` (tests/test_docs.py says what they are)"
        )


@pytest.mark.parametrize("picture", sorted(ROOT.glob("docs/images/*.svg")), ids=lambda picture: picture.name)
def test_pictures_say_what_they_show_in_both_themes(picture: Path) -> None:
    """To who cannot see them as well; and they load nothing and run nothing."""
    text = picture.read_text()
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(text).iter()}  # noqa: S314  (ours)

    assert {"title", "desc"} <= tags
    assert "prefers-color-scheme: dark" in text
    assert not {"script", "image", "use", "foreignObject"} & tags
    assert not re.search(r"href|url\(|@import", text)


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    """As `make docs` does it: every link to a page, a heading or a file leads somewhere, every block is what its language says."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E", "-b", "dummy", "-c", "docs", "."]
    done = subprocess.run([*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    assert done.returncode == 0, done.stderr


# ---- true ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [each for each in BLOCKS if "config" in each.marks], ids=str)
def test_configuration_examples_load(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "carrel.toml"
    file.write_text(block.text)

    assert load({"config": str(file)}, {}).pools


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.kind == "python"], ids=str)
def test_python_examples_are_python(block: Block) -> None:
    compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("block", [each for each in BLOCKS if each.kind == "json"], ids=str)
def test_json_examples_are_json(block: Block) -> None:
    """One value, or one in each line."""
    try:
        json.loads(block.text)
    except ValueError:
        for line in block.text.splitlines():
            json.loads(line)


@pytest.mark.one_level
@pytest.mark.parametrize("block", [each for each in BLOCKS if each.marks[:1] == ("run",)], ids=str)
def test_examples_run(block: Block, server: Server, tmp_path: Path) -> None:
    """As printed, in a folder that looks like the checkout."""
    if "curl" in block.text and not shutil.which("curl"):
        pytest.skip("this machine has no curl")
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parents[1])
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    if block.kind == "console":
        for command, expected in steps(block.text):
            assert run(["bash", "-c", command], server, tmp_path) == expected
    else:
        runner = ["bash", "-euo", "pipefail", "-c"] if block.kind == "bash" else [sys.executable, "-c"]
        printed = run([*runner, block.text], server, tmp_path)
        assert block.output is None or printed == block.output


@pytest.mark.clients
@pytest.mark.thorough
@pytest.mark.parametrize("block", [each for each in BLOCKS if each.environment], ids=str)
def test_examples_run_with_the_packages_that_they_are_for(block: Block, server: Server, tmp_path: Path) -> None:
    """As printed, after `eval "$(carrel env)"`, in an environment of the unmodified packages."""
    client = next(each for each in environments.CLIENTS if each.name == block.environment)
    told = json.loads(run([sys.executable, "-m", "carrel.cli", "env", "-o", "json"], server, tmp_path))
    told.setdefault("CARREL_POOL_SHELL", told["CARREL_POOL_PYTHON"])  # every pool takes commands
    known = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CARREL_STATE": str(server.state), **told}
    done = subprocess.run(
        [str(environments.python_of(client)), "-c", block.text],
        cwd=tmp_path, env=known, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert block.output is None or done.stdout == block.output


def steps(text: str) -> list[tuple[str, str]]:
    """Commands of a console block and what each prints."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(command, output) for command, _, output in (part.partition("\n") for part in parts)]


def run(command: list[str], server: Server, folder: Path) -> str:
    environment = {**os.environ, "CARREL_STATE": str(server.state)}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
