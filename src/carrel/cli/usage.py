"""`carrel usage`: what sessions have used, by pool, principal and day."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import click

from carrel.cli.azlike import AzCommand, az_failures
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target, target_options

_BY = ("pool", "principal", "day")
_DAY = click.DateTime(["%Y-%m-%d"])


def _groups(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, ...]:
    named = tuple(each.strip().lower() for each in text.split(",") if each.strip())
    if unknown := [each for each in named if each not in _BY]:
        raise click.UsageError(f"--by: {unknown[0]!r} is none of {', '.join(_BY)}")
    return named


@click.command(cls=AzCommand)
@click.option("--from", "first", type=_DAY, metavar="DAY", help="First day of UTC; the first of this month.")
@click.option("--to", "last", type=_DAY, metavar="DAY", help="Last day; today.")
@click.option("--by", callback=_groups, default=",".join(_BY), metavar="GROUPS", help="Some of pool,principal,day.")
@click.option("--csv", "is_csv", is_flag=True, help="Print a table for spreadsheets.")
@output_options("table")
@target_options
def usage(
    first: datetime | None,
    last: datetime | None,
    by: tuple[str, ...],
    is_csv: bool,
    out: Printer,
    target: Target,
) -> None:
    """Show what sessions have used: seconds, processor time, executions, bytes."""
    days = {"first": _date(first), "last": _date(last)}
    with az_failures(), target.management() as management:
        if is_csv:
            return click.echo(management.usage_csv(**days, by=by), nl=False)
        found = management.usage(**days, by=by)
    return out(found.resource, _table)


def _date(at: datetime | None) -> date | None:
    return None if at is None else at.date()


def _table(told: Any) -> list[dict[str, Any]]:
    rows = [_row(told["groupBy"], each) for each in told["value"]]
    if len(rows) > 1:
        rows.append({**dict.fromkeys(rows[0], ""), **_figures(told["total"]), next(iter(rows[0])): "Total"})
    return rows


def _row(groups: list[str], row: dict[str, Any]) -> dict[str, Any]:
    heads = {"day": row.get("day"), "pool": row.get("pool"), "principal": _name(row)}
    return {
        **{name.capitalize(): heads[name] for name in ("day", "pool", "principal") if name in groups},
        **_figures(row),
    }


def _name(row: dict[str, Any]) -> str:
    return str(row.get("principalName") or row.get("principal") or "nobody")


def _figures(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "Sessions": row["sessions"],
        "Session s": f"{row['sessionSeconds']:,.1f}",
        "CPU s": f"{row['cpuSeconds']:,.1f}",
        "Executions": f"{row['executions']:,}",
        "Failed": f"{row['failedExecutions']:,}",
        "Bytes in": f"{row['bytesIn']:,}",
        "Bytes out": f"{row['bytesOut']:,}",
        "Peak": row["peakSessions"],
    }
