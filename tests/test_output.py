"""What commands print: JSON, tables and tsv as Azure's command line has them, and queries of it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click
import jmespath
import pytest

from carrel.cli.azlike import AzCommand, Several, option_of, pairs
from carrel.cli.output import Printer, draw, with_groups
from carrel.cli.pool_options import BY_PROPERTY, settings_of
from test_cli import carrel

POOL = {
    "id": "/subscriptions/s/resourceGroups/Rg/providers/Microsoft.App/sessionPools/p",
    "name": "p",
    "location": "local",
    "tags": None,
    "properties": {"poolManagementEndpoint": "https://h/p", "scaleConfiguration": {"maxConcurrentSessions": 5}},
}


RECORDED = json.loads((Path(__file__).parent / "knack.json").read_text("utf-8"))


def printed(capsys: pytest.CaptureFixture[str], value: Any, form: str, query: str | None = None) -> str:
    Printer(form, jmespath.compile(query) if query else None)(value)
    return capsys.readouterr().out


HOSTILE = "a\x1b]52;c;eA==\x07b\x9b31mc\x7f\u202ed\r"


def test_json_holds_nothing_that_a_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    """Records of sessions' logs are whatever hostile code printed."""
    text = printed(capsys, {"output": HOSTILE, "é": "é 🙂"}, "json")

    assert json.loads(text) == {"output": HOSTILE, "é": "é 🙂"}
    assert text.replace("\n", "").isprintable() and "é 🙂" in text


def test_tsv_is_plain_on_a_terminal_and_whole_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert printed(capsys, [[HOSTILE, "é"]], "tsv") == f"{HOSTILE}\té\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    assert printed(capsys, [[HOSTILE, "é"]], "tsv") == "a ]52;c;eA== b 31mc  d \té\n"


def test_json_is_sorted_indented_and_names_the_group(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, POOL, "json")

    assert json.loads(text) == {**POOL, "resourceGroup": "Rg"}
    assert text.startswith('{\n  "id": "/subscriptions/s')
    assert list(json.loads(text)) == sorted([*POOL, "resourceGroup"])


@pytest.mark.parametrize(
    ("value", "query", "text"),
    [
        (POOL, "properties.poolManagementEndpoint", "https://h/p\n"),
        ([POOL, POOL], "[].name", "p\np\n"),
        ([POOL], "[].[name, location, properties]", "p\tlocal\t\n"),
        ([POOL], "[].{z:name, a:location}", "p\tlocal\n"),
        ({"b": [1, 2], "a": None}, None, "None\t2\n"),
        (True, None, "true\n"),
        ([True, "x y", 1.5], None, "true\nx y\n1.5\n"),
        (POOL, "properties.nothing", ""),
        ([], None, ""),
    ],
)
def test_tsv(capsys: pytest.CaptureFixture[str], value: Any, query: str | None, text: str) -> None:
    """Columns by name unless a query chose them; a list counts, an object is empty; nothing for nothing."""
    assert printed(capsys, value, "tsv", query) == text


def test_a_table_has_what_is_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, [POOL], "table").splitlines() == [
        "Location    Name    ResourceGroup",
        "----------  ------  ---------------",
        "local       p       Rg",
    ]
    assert printed(capsys, [], "table") == "\n"


def test_a_tables_columns_are_the_querys(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, [POOL], "table", "[].{Z:name, a:location}")

    assert text.splitlines()[0].split() == ["Z", "A"]
    assert printed(capsys, [POOL], "table", "[].[name, location]").splitlines()[0].split() == ["Column1", "Column2"]
    assert printed(capsys, [POOL], "table", "[0].name").splitlines() == ["Result", "--------", "p"]


def test_a_table_of_nothing_plain_says_what_to_do() -> None:
    with pytest.raises(click.ClickException, match="--query"):
        draw([{"properties": {}}], is_sorted=True)


def test_what_a_terminal_would_obey_is_not_printed_in_tables() -> None:
    """Names and tags are other people's; letters of two columns keep the next column in its place."""
    lines = draw([{"a": "\x1b[2Jx\ny", "b": "1"}, {"a": "日本", "b": "2"}], is_sorted=True).splitlines()

    assert "\x1b" not in "".join(lines)
    assert len(lines) == 4
    assert lines[3] == "日本     2"


def test_none_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, POOL, "none") == ""
    assert printed(capsys, None, "json") == ""


def test_groups_are_those_of_resources_in_groups() -> None:
    assert "resourceGroup" not in with_groups({"id": "/subscriptions/s/resourceGroups/g", "name": "g"})
    assert "resourceGroup" not in with_groups({"id": 5})


def test_it_is_what_az_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """150 values and queries with what knack 0.14, which az stands on, printed of each (knack.json); 224,000 more were compared once."""
    for case in RECORDED:
        for form in ("json", "tsv", "table"):
            assert printed(capsys, case["value"], form, case["query"]) == case[form], case


@pytest.mark.parametrize("query", ["properties.[", "", "length("])
def test_a_wrong_query_is_refused_before_anything_is_done(query: str) -> None:
    """No server is asked: there is none here."""
    done = carrel("sessionpool", "delete", "-n", "p", "--yes", "--query", query, CARREL_STATE="/nonexistent")

    assert done.returncode == 2
    assert "--query" in done.stderr


# ---- arguments -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--tags", "a=1", "b=x=y", "--tags", "c=", "name"],
        ["name", "--tags", "a=1", "--tags", "b=x=y", "c="],
        ["--tags=a=1", "--tags", "b=x=y", "c=", "--", "name"],
    ],
)
def test_an_option_takes_several_values(words: list[str]) -> None:
    """As az has it, in any place; a name without "=" is none of them."""
    seen: dict[str, Any] = {}

    def run(name: str, tags: tuple[str, ...]) -> None:
        seen.update(name=name, tags=pairs("--tags", tags))

    command = AzCommand("x", callback=run, params=[click.Argument(["name"]), Several(["--tags"], multiple=True)])
    command.main(words, standalone_mode=False)

    assert seen == {"name": "name", "tags": {"a": "1", "b": "x=y", "c": ""}}


def test_a_pair_that_is_none_is_not_repeated() -> None:
    """It may be a secret."""
    with pytest.raises(click.UsageError) as caught:
        pairs("--secrets", ["hunter2"])

    assert "hunter2" not in str(caught.value)


def test_properties_become_a_bag() -> None:
    values = {
        "scaleConfiguration.maxConcurrentSessions": 5,
        "carrel.memory": "1.5Gi",
        "carrel.egress.allow": ("pypi.org", ""),
        "carrel.packages.index": "https://x",
    }

    assert settings_of(values, {"k": "v"}, None).properties() == {
        "scaleConfiguration": {"maxConcurrentSessions": 5},
        "secrets": [{"name": "k", "value": "v"}],
        "carrel": {"memory": "1536MiB", "egress": {"allow": ["pypi.org"]}, "packages": {"index": "https://x"}},
    }
    assert "'v'" not in repr(settings_of({}, {"k": "v"}, None))


@pytest.mark.parametrize(
    ("target", "option"),
    [
        ("properties.scaleConfiguration.maxConcurrentSessions", "--max-sessions"),
        ("properties.CARREL.memory", "--memory"),
        ("properties.secrets[0].value", "--secrets"),
        ("properties.somethingElse", None),
        (None, None),
    ],
)
def test_a_property_has_its_option(target: str | None, option: str | None) -> None:
    assert option_of(target, BY_PROPERTY) == option
