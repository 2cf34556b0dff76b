"""`carrel doctor`: try on this machine what each isolation level needs, and say what works, what does not, and what to do."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import click

from carrel.backends.select import Finding, examine
from carrel.cli.banner import DOES_NOT_STOP, STOPS
from carrel.cli.options import all_settings, load_config, output_option, print_json


@click.command()
@all_settings
@output_option
def doctor(output: str, **flags: Any) -> None:
    """Find out by trial which isolation this machine offers. Exits 0 if what the configuration asks for works."""
    config = load_config(flags)
    findings = examine(config)
    if output == "json":
        print_json([dataclasses.asdict(each) for each in findings])
    else:
        for finding in findings:
            _print(finding)
    wanted = {pool.isolation for pool in config.pools}
    sys.exit(0 if wanted <= {each.level for each in findings if each.works} else 1)


def _print(finding: Finding) -> None:
    click.echo(f"{finding.level}: {'works' if finding.works else 'does not work'} here")
    if finding.reason:
        click.echo(f"  why           {finding.reason}")
    if finding.advice:
        click.echo(f"  what to do    {finding.advice}")
    if finding.works:
        click.echo(f"  it stops      {STOPS[finding.level]}")
        click.echo(f"  it does not   {DOES_NOT_STOP[finding.level]}")
