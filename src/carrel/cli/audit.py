"""`carrel audit`: what the audit log says, and whether it is as it was written."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from carrel.cli.azlike import AzCommand, az_failures
from carrel.cli.options import config_option, load_config, state_option
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target, target_options

F = TypeVar("F", bound=Callable[..., Any])

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_END = re.compile(r"(\d{1,15}):([0-9a-f]{64})")


def filters(command: F) -> F:
    """The options that choose records; the command gets `wanted`."""
    for name, metavar, text in (
        ("trace", "ID", "Of the call with this trace id."),
        ("session", "DIGEST", "In this session (`carrel audit digest` tells its digest)."),
        ("outcome", "WORD", "Succeeded, Failed, Refused, Accepted, Begun or Abandoned."),
        ("action", "NAME", "This action, or all that begin with this word, such as pools."),
        ("principal", "ID", "By this principal: its object id, or its name."),
        ("pool", "NAME", "Of this pool, by its name or by GROUP/NAME."),
    ):
        command = click.option(f"--{name}", metavar=metavar, help=text)(command)
    until = click.option("--until", metavar="TIME", callback=_moment, help="Before this time.")
    since = click.option(
        "--since",
        metavar="TIME",
        callback=_moment,
        help="From this time on: ISO 8601, or so long ago, such as 2h or 7d.",
    )
    return since(until(command))


def _moment(_context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(
            f"{parameter.opts[-1]}: {text!r} is no time: 2026-11-22T17:00:00Z, 2026-11-22, or so long ago, 2h"
        ) from error
    return moment if moment.tzinfo else moment.astimezone()


@click.group()
def audit() -> None:
    """Read the audit log, and check that nobody has changed it."""


@audit.command(cls=AzCommand)
@filters
@click.option("-n", "--count", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, at most.")
@output_options("table")
@target_options
def show(target: Target, out: Printer, count: int, **wanted: Any) -> None:
    """Show the last records that fit, the newest last."""
    with az_failures(), target.management() as management:
        found = [dict(each.fields) for each in itertools.islice(management.audit(**wanted), count)]
    out(found[::-1], _table)


@audit.command(cls=AzCommand)
@filters
@click.option("-f", "--file", type=click.Path(dir_okay=False, path_type=Path), help="Where to; by default stdout.")
@target_options
def export(target: Target, file: Path | None, **wanted: Any) -> None:
    """Write all records that fit as lines of JSON, the oldest first."""
    with az_failures(), target.management() as management:
        records = (each.fields for each in management.audit(is_newest_first=False, **wanted))
        if file is None:
            return _write(records, click.echo)
        with file.open("x", encoding="utf-8") as stream:
            _write(records, lambda line: stream.write(f"{line}\n"))
    return None


def _write(records: Iterable[Mapping[str, Any]], line: Callable[[str], object]) -> None:
    for each in records:
        line(json.dumps(each, separators=(",", ":")))


@audit.command()
@state_option
@config_option
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Another folder: a copy.")
@click.option("--key", type=click.Path(dir_okay=False, path_type=Path), help="The key that it was written with.")
@click.option("--expect", metavar="SEQ:HASH", help="The end that an earlier check told: the log has to go through it.")
@click.option("-o", "--output", type=click.Choice(["json", "table"]), default="table", help="How to print.")
def verify(
    state: str | None, config: str | None, folder: Path | None, key: Path | None, expect: str | None, output: str
) -> None:
    """Check the whole log on this machine. Exit status 1 where anything in it is not as it was written."""
    from carrel.audit.chain import Seal
    from carrel.audit.folder import FOLDER, KEY
    from carrel.audit.head import Head
    from carrel.audit.verifying import verify as check
    from carrel.cli.statefolder import is_held
    from carrel.statefiles import StateError

    settings = load_config({"state": state, "config": config}).state
    found = _END.fullmatch(expect) if expect else None
    if expect and found is None:
        raise click.UsageError("--expect: is SEQ:HASH, as `carrel audit verify` tells it")
    secret = key or settings / "keys" / KEY
    try:
        if not secret.exists():
            raise click.ClickException(f"there is no key {secret}: is there an audit log? name it with --key")
        is_written = folder is None and is_held(settings)
        expected = Head(int(found[1]), found[2]) if found else None
        report = check(folder or settings / FOLDER, Seal.of(secret), is_written=is_written, expected=expected)
    except (OSError, StateError) as error:
        raise click.ClickException(f"the log cannot be read: {error}") from error
    _print(report, output)
    if not report.is_whole:
        raise SystemExit(1)


def _print(report: Any, output: str) -> None:
    if output == "json":
        fields = {
            "isWhole": report.is_whole,
            "files": report.files,
            "records": report.records,
            "first": report.first,
            "end": {"seq": report.end.seq, "hash": report.end.hash},
            "faults": [{"file": each.file, "line": each.line, "reason": each.reason} for each in report.faults],
            "remarks": report.remarks,
        }
        return click.echo(json.dumps(fields, indent=1))
    for each in report.faults:
        click.echo(f"NOT AS IT WAS WRITTEN: {each}", err=True)
    for remark in report.remarks:
        click.echo(f"told by the log: {remark}")
    files = "file" if report.files == 1 else "files"
    click.echo(f"records {report.first} to {report.end.seq} in {report.files} {files}")
    if report.is_whole:
        click.echo(
            f"The log is as it was written. Keep its end elsewhere, for --expect: {report.end.seq}:{report.end.hash}"
        )
    return None


@audit.command()
@click.argument("text")
@state_option
def digest(text: str, state: str | None) -> None:
    """Tell the digest by which the log knows an identifier of a session, or a file's path below /mnt/data."""
    from carrel.cli.options import state_folder
    from carrel.statefiles import StateError
    from carrel.storage import State

    try:
        click.echo(State(state_folder(state)).digest(text))
    except StateError as error:
        raise click.ClickException(str(error)) from error


def _table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "At": str(each.get("at", ""))[:19] + "Z",
            "Action": each.get("action", ""),
            "Outcome": each.get("outcome", ""),
            "By": each.get("name") or each.get("principal", ""),
            "From": each.get("peer", ""),
            "On": each.get("pool") or each.get("resource", ""),
            "Session": each.get("session", ""),
            "What": _what(each.get("details")),
        }
        for each in records
    ]


def _what(details: object) -> str:
    """The details in a line."""
    if not isinstance(details, dict):
        return ""
    shown = {name: value for name, value in details.items() if name not in ("code", "codeSha256", "tokenId")}
    return " ".join(f"{name}={_short(value)}" for name, value in shown.items())[:100]


def _short(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
