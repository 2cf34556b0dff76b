"""`carrel health`: how a server and its pools are, and what went wrong lately."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from carrel.cli.azlike import AzCommand, az_failures
from carrel.cli.output import Printer, draw, output_options
from carrel.cli.target import Target, target_options

_SHOWN = 10  # errors in the text; -o json has them all


@click.command(cls=AzCommand)
@output_options("table")
@target_options
def health(out: Printer, target: Target) -> None:
    """Show how the server and its pools are, and its last errors. Exits 0 where all is well, 1 where not."""
    with az_failures(), target.management() as management:
        found = management.health()
    if out.is_table:
        click.echo("\n".join(_text(found.resource)))
    else:
        out(found.resource)
    if found.status != "healthy":
        raise SystemExit(1)


def _text(told: Any) -> Iterator[str]:
    yield f"Carrel {told['version']} is {told['status']}, up since {_moment(told['startedAt'])}"
    yield draw([{"What": name, "How": text} for name, text in _facts(told)], is_sorted=False, rule=100)
    if told["pools"]:
        yield draw([_pool(each) for each in told["pools"]], is_sorted=False, rule=100)
    last = told["errors"][-_SHOWN:]
    if last:
        yield f"The last {len(last)} of {len(told['errors'])} errors:"
        yield draw([_error(each) for each in last], is_sorted=False, rule=100)


def _facts(told: Any) -> Iterator[tuple[str, str]]:
    host = told["host"]
    yield "host", f"answers in {host['answeredInMs']} ms" if host["healthy"] else "does not answer"
    if "store" not in told:
        return
    store, certificate, keys = told["store"], told["certificate"], told["signingKeys"]
    yield "store", f"{store['engine']}, {store['sizeBytes']:,} bytes" if store["healthy"] else "does not answer"
    yield "certificate", f"ends {_moment(certificate['endsAt'])}, in {certificate['daysLeft']} days"
    yield "signing keys", f"{keys['count']}, the newest of {_moment(keys['newestAt'])}"
    yield "processes", ", ".join(f"{each['name']} {each['pid'] or 'away'}" for each in told["processes"])
    if audit := told["audit"]:
        yield "audit log", "keeps up" if audit["healthy"] else f"does not keep up: {audit['waiting']} records wait"
    if traces := told["traces"]:
        yield "traces", f"{traces['sent']} spans sent, {traces['lost']} lost, {traces['waiting']} wait"
    for each in told["isolation"]["passedOver"]:
        yield (
            f"no {each['level']} here",
            each["reason"] + (f" (what to do: {each['advice']})" if each["advice"] else ""),
        )
    for each in told["isolation"]["warnings"]:
        yield "weaker here", each


def _moment(at: str) -> str:
    """To the second: people read this."""
    return f"{at[:19]}Z"


def _pool(pool: Any) -> dict[str, Any]:
    counts = {name.title(): pool[name] for name in ("warm", "starting", "live", "failed")}
    return {
        "Pool": pool["name"],
        "State": pool["state"],
        "Isolation": pool["isolation"] or "refused",
        **counts,
        "Short": "yes" if pool["short"] else "",
        "What": pool["error"] or pool["preparing"] or "",
    }


def _error(error: Any) -> dict[str, Any]:
    return {
        "At": _moment(error["at"]),
        "Part": error["part"],
        "Code": error["code"],
        "Trace": error["trace"] or "",
        "Where": error["route"] or error["pool"] or "",
        "Message": error["message"],
    }
