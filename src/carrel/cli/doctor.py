"""`carrel doctor`: try on this machine what each isolation level needs, and say what works, what does not, and what to do."""

from __future__ import annotations

import dataclasses
import os
import platform
import sys
from typing import Any

import click

from carrel import __version__
from carrel.backends.examination import Finding, examine, level_of
from carrel.cli.banner import DOES_NOT_STOP, STOPS
from carrel.cli.options import all_settings, load_config, output_option, print_json
from carrel.config import Config
from carrel.models import Network

_NETWORKS = {Network.LISTED: "allow list", Network.OPEN: "raw egress"}


@click.command()
@all_settings
@output_option
@click.option("--json", "is_json", is_flag=True, help="The same as -o json.")
def doctor(output: str, *, is_json: bool, **flags: Any) -> None:
    """Find out by trial which isolation this machine offers. Exits 0 if every pool can be served at its minimum or above."""
    config = load_config(flags)
    findings = examine(config, progress=lambda line: click.echo(line, err=True))
    report = _report(config, findings)
    if output == "json" or is_json:
        print_json(report)
    else:
        click.echo("\n".join(_text(report)))
    sys.exit(0 if report["holds"] else 1)


def _report(config: Config, findings: list[Finding]) -> dict[str, Any]:
    """What `--json` prints. docs/reference/cli.md has its shape; keys may be added, none is taken away."""
    pools = []
    for pool in config.pools:
        level, reason = level_of(pool, findings)
        pools.append({"name": pool.name, "minimum": pool.minimum, "isolation": level, "reason": reason})
    return {
        "version": __version__,
        "kernel": f"{platform.system()} {platform.release()}",
        "uid": os.geteuid(),
        "holds": all(pool["isolation"] is not None for pool in pools),
        "pools": pools,
        "levels": [
            {
                **dataclasses.asdict(each),
                "seconds": round(each.seconds, 2),
                "stops": STOPS[each.level],
                "does_not_stop": DOES_NOT_STOP[each.level],
            }
            for each in findings
        ],
    }


def _text(report: dict[str, Any]) -> list[str]:
    who = "root" if report["uid"] == 0 else f"user id {report['uid']}"
    lines = [f"Carrel {report['version']} on {report['kernel']} as {who}", ""]
    for level in report["levels"]:
        lines += _level(level)
    for pool in report["pools"]:
        at = f"would run at {pool['isolation']}" if pool["isolation"] else f"would be refused: {pool['reason']}"
        lines.append(f"pool {pool['name']} {at} (minimum {pool['minimum']})")
    return lines


def _level(level: dict[str, Any]) -> list[str]:
    works = level["works"]
    facts = [
        ("why", "" if works else level["reason"]),
        ("what to do", level["advice"]),
        *(("weaker here", each) for each in level["weaknesses"]),
        ("it stops", level["stops"] if works else ""),
        ("it does not", level["does_not_stop"] if works else ""),
        *((_NETWORKS[each["network"]], each["reason"] or "works") for each in level["networks"]),
    ]
    lines = [f"{level['level']}: {'works' if works else 'does not work'} here"]
    return [*lines, *(f"  {name:<13} {text}" for name, text in facts if text), ""]
