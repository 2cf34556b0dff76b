"""How commands print what they found: `-o json|table|tsv|none` and `--query`, as Azure's command line has them, so that its scripts work.

The rules for table and tsv are those of knack, on which `az` stands: what is nested is not shown, a list counts its elements, tsv has
columns in the order of their names unless a query chose them. A command that has a better table than these rules make brings its own.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
import unicodedata
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    from jmespath.parser import ParsedResult

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("json", "table", "tsv", "none")
Table = Callable[[Any], Any]  # from a command's result to the rows of its table: dictionaries of scalars

_NOT_IN_TABLES = ("id", "type", "etag")
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
)  # and what turns the direction of writing
_RULE = 100  # characters of a heading's underline at most, in a command's own table: a list of packages is long
_MARGIN = 2  # that a heading has at its right, as in az's tables
_NO_TABLE = "no table can be made of that: choose what to show with --query, or take -o json"


@dataclass(frozen=True, slots=True)
class Printer:
    """What `-o` and `--query` of a command came to. Called with its result."""

    form: str
    query: ParsedResult | None

    @property
    def is_table(self) -> bool:
        """Whether a command's own table is printed."""
        return self.form == "table" and self.query is None

    def __call__(self, value: Any, table: Table | None = None) -> None:
        """Print a result of JSON's types. Nothing is printed of None, as where a query finds nothing."""
        result = _queried(self.query, with_groups(value))
        if result is None or self.form == "none":
            return
        if self.form == "json":
            click.echo(json_text(result, indent=2, sort_keys=True))
        elif self.form == "tsv":
            click.echo(_plain(tsv(result)) if sys.stdout.isatty() else tsv(result), nl=False)
        else:
            own = table if self.is_table else None
            is_sorted = own is None and self.query is None
            text = draw(own(result) if own else result, is_sorted=is_sorted, rule=_RULE if own else None)
            click.echo(text, nl=False)


def output_options(default: str | None = None) -> Callable[[F], F]:
    """`-o` and `--query`; the command gets `out`, a Printer. Without a default of its own, that is CARREL_OUTPUT or json, as in az."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(*arguments: Any, output: str, query: ParsedResult | None, **options: Any) -> Any:
            return command(*arguments, out=Printer(output.lower(), query), **options)

        asked = click.option(
            "--query", metavar="JMESPATH", callback=_compiled, help="What to print of it, a JMESPath query."
        )
        form = click.option(
            "-o",
            "--output",
            type=click.Choice(FORMATS, case_sensitive=False),
            default=default or _usual,
            show_default=default or "CARREL_OUTPUT, or json",
            help="How to print.",
        )
        return cast(F, form(asked(run)))

    return decorate


def _usual() -> str:
    named = os.environ.get("CARREL_OUTPUT", "")
    return named if named in FORMATS else "json"


def _compiled(_context: click.Context, _parameter: click.Parameter, text: str | None) -> ParsedResult | None:
    """Before the command does anything: a mistake in a query must not be found after a pool was made."""
    if text is None:
        return None
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.compile(text)
    except JMESPathError as error:
        raise click.UsageError(f"--query: {text!r} is no JMESPath query: {error}") from error


def _queried(query: ParsedResult | None, value: Any) -> Any:
    if query is None:
        return value
    from jmespath import Options
    from jmespath.exceptions import JMESPathError

    try:
        return query.search(value, options=Options(dict_cls=OrderedDict))
    except JMESPathError as error:
        raise click.UsageError(f"--query: {error}") from error


def with_groups(value: Any) -> Any:
    """The same with `resourceGroup` beside the `id` of every resource of a group, as az adds it."""
    if isinstance(value, list | tuple):
        return [with_groups(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    found = {key: with_groups(each) for key, each in value.items()}
    parts = str(value.get("id") or "").split("/")
    if len(parts) > 8 and parts[3].lower() == "resourcegroups":
        found.setdefault("resourceGroup", parts[4])
    return found


def json_text(value: Any, **options: Any) -> str:
    """As people read it. What a terminal would obey beside ESC, which JSON escapes by itself, is escaped too: it means the same."""
    text = json.dumps(value, ensure_ascii=False, default=str, **options)
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


# ---- tsv -----------------------------------------------------------------------------------------------------------------------


def tsv(result: Any) -> str:
    """A line for each element, a tab between its values."""
    rows = result if isinstance(result, list) else [result]
    return "".join("\t".join(_cells(row)) + "\n" for row in rows)


def _plain(text: str) -> str:
    """For a terminal: what sessions print is in here, and must not move its cursor or fill its clipboard. A pipe gets it as it is."""
    return _CONTROLS.sub(" ", text)


def _cells(row: Any) -> Iterable[str]:
    if isinstance(row, OrderedDict):  # a query's: in its own order
        return [_cell(each) for each in row.values()]
    if isinstance(row, Mapping):
        return [_cell(each) for _, each in sorted(row.items())]
    if isinstance(row, list):
        return [_cell(each) for each in row]
    return [str(row).lower() if isinstance(row, bool) else str(row)]


def _cell(value: Any) -> str:
    if isinstance(value, list):
        return str(len(value))
    return "" if isinstance(value, Mapping) else str(value)


# ---- table ---------------------------------------------------------------------------------------------------------------------


def draw(result: Any, *, is_sorted: bool, rule: int | None = None) -> str:
    """Columns two spaces apart under underlined headings; an empty line of an empty list."""
    rows = [_row(each, is_sorted) for each in (result if isinstance(result, list) else [result])]
    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        if rows:
            raise click.ClickException(_NO_TABLE)
        return "\n"
    lines = [[_shown(row.get(name)) for name in names] for row in rows]
    widths = [
        max(_width(name) + _MARGIN, *(_width(line[column]) for line in lines)) for column, name in enumerate(names)
    ]
    underlines = ["-" * min(width, rule or width) for width in widths]
    return "".join(_line(each, widths) + "\n" for each in [names, underlines, *lines])


def _row(item: Any, is_sorted: bool) -> dict[str, Any]:
    if isinstance(item, Mapping):
        names = sorted(item) if is_sorted else list(item)
        shown = [name for name in names if name not in _NOT_IN_TABLES and _is_plain(item[name])]
        return {name[:1].upper() + name[1:]: item[name] for name in shown}
    if isinstance(item, list):
        return {f"Column{number}": each for number, each in enumerate(item, 1)}
    return {"Result": item}


def _is_plain(value: Any) -> bool:
    return value is not None and not isinstance(value, Mapping | list)


def _shown(value: Any) -> str:
    """On one line, and without what a terminal would obey: names and tags are other people's."""
    text = "" if value is None else str(value)
    return "".join(each if each.isprintable() else " " for each in text)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell + " " * (width - _width(cell)) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _width(text: str) -> int:
    """Columns on a terminal: two for East Asian wide letters, none for marks that combine."""
    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)
