"""`carrel logs`: what was executed in a pool, from its session log; `--follow` goes on telling."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from carrel.cli.azlike import AzCommand, az_failures
from carrel.cli.output import Printer, json_text, output_options
from carrel.cli.target import Target, group_option, target_options

if TYPE_CHECKING:
    from carrel.client import Client, LogRecord, SessionPool

_STATUS = click.Choice(("Succeeded", "Failed", "Canceled"), case_sensitive=False)
_LOOK_S = 1.0
_REMEMBERED = 10_000  # records, so that none is told twice
_FIRST = 60  # characters of code in a line


def _moment(_context: click.Context, parameter: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise click.UsageError(f"{parameter.opts[-1]}: {text!r} is no time; 2026-11-22 or 2026-11-22T17:00") from None


@click.command(cls=AzCommand)
@click.argument("pool", default="python")
@click.option("--identifier", metavar="ID", help="Of this session only.")
@click.option("--status", type=_STATUS, help="Of those that ended so.")
@click.option("--since", callback=_moment, metavar="TIME", help="From then on.")
@click.option("--until", callback=_moment, metavar="TIME", help="Before then.")
@click.option("-n", "--number", type=click.IntRange(0, 100_000), default=100, show_default=True, help="The last N.")
@click.option("-f", "--follow", is_flag=True, help="Go on telling what is executed; Ctrl-C ends it.")
@group_option
@output_options("table")
@target_options
def logs(
    pool: str,
    number: int,
    follow: bool,
    resource_group: str | None,
    out: Printer,
    target: Target,
    **wanted: Any,
) -> None:
    """Show what was executed in POOL, oldest first, where it has a session log (--log-records of its definition)."""
    with (
        az_failures(),
        target.management() as management,
        management.client(pool, resource_group=resource_group) as client,
    ):
        found = list(itertools.islice(client.logs(**wanted), number))[::-1]
        if not follow:
            if not found and not _keeps_any(management.pool(pool, resource_group=resource_group)):
                target.say(
                    f"Pool {pool} keeps no log; `carrel sessionpool update {pool} --log-records code` has it keep one."
                )
            out([dict(each.resource) for each in found], _table)
            return
        with contextlib.suppress(KeyboardInterrupt):
            for each in itertools.chain(found, _following(client, found, wanted)):
                click.echo(json_text(each.resource) if out.form == "json" else _line(each))


def _keeps_any(pool: SessionPool) -> bool:
    return bool(pool.carrel.get("logs", {}).get("records", "off") != "off")


def _following(client: Client, told: list[LogRecord], wanted: dict[str, Any]) -> Iterator[LogRecord]:
    """What comes, without end. A server that is away for a moment is waited for by the client itself."""
    seen = deque((each.record for each in told), _REMEMBERED)
    since = told[-1].at if told else datetime.now().astimezone()
    while True:
        time.sleep(_LOOK_S)
        new = [each for each in client.logs(**{**wanted, "since": since}) if each.record not in seen]
        for each in reversed(new):
            seen.append(each.record)
            since = each.at
            yield each


def _table(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "At": each["at"][:19] + "Z",
            "Session": each["identifier"],
            "Status": each["status"],
            "Outcome": each["outcome"],
            "Ms": f"{each['wallMs']:.1f}",
            "Out": each["bytesOut"],
            "Code": _code(each),
        }
        for each in records
    ]


def _code(record: dict[str, Any]) -> str:
    text = " ".join(str(record.get("code") or f"sha256:{(record['codeSha256'] or '')[:12]}").split())
    return text if len(text) <= _FIRST else text[: _FIRST - 1] + "…"


def _line(record: LogRecord) -> str:
    """Without what a terminal would obey: code is other people's."""
    cells = _table([record.resource])[0].values()
    return "  ".join("".join(each if each.isprintable() else " " for each in str(cell)) for cell in cells)
