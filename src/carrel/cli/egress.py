"""`carrel sessionpool egress`: look at a pool's egress list, change it while sessions live, and ask what it does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from carrel.cli.options import failures, state_option
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target

if TYPE_CHECKING:
    from carrel.client import Client, EgressTest


@click.group()
def egress() -> None:
    """What a pool's sessions may reach."""


@egress.command()
@click.argument("pool")
@output_options("table")
@state_option
def show(pool: str, out: Printer, state: str | None) -> None:
    """Show a pool's egress list."""
    with failures(), operator(pool, state) as client:
        found = client.egress()
    out(asdict(found), _fields)


@egress.command("set")
@click.argument("pool")
@click.argument("rules", nargs=-1, metavar="[RULE]...")
@output_options("table")
@state_option
def replace(pool: str, rules: tuple[str, ...], out: Printer, state: str | None) -> None:
    """Put RULEs in the place of a pool's egress list; none allows nothing.

    It holds at once, for live sessions too, and the pool keeps it.
    """
    with failures(), operator(pool, state) as client:
        found = client.set_egress(rules)
    out(asdict(found), _fields)


@egress.command("test")
@click.argument("pool")
@click.argument("target", metavar="HOST[:PORT]")
@output_options("table")
@state_option
def try_target(pool: str, target: str, out: Printer, state: str | None) -> None:
    """Say what a pool's sessions get that ask for HOST[:PORT] (port 443), and why. Exit status 1 where it is refused."""
    from carrel.egress.rules import parse_target

    try:
        wanted = parse_target(target, default_port=443)
    except ValueError as error:
        raise click.UsageError(f"{target}: {error}") from error
    with failures(), operator(pool, state) as client:
        found = client.test_egress(wanted.host, wanted.port)
    if out.is_table:
        click.echo(_sentence(found))
        for address, refusal in found.addresses:
            click.echo(f"  {address}  {refusal or 'may be reached'}")
    else:
        out(asdict(found))
    if not found.is_allowed:
        raise click.exceptions.Exit(1)


def _fields(found: dict[str, Any]) -> list[dict[str, Any]]:
    allow = "no list" if found["allow"] is None else ", ".join(found["allow"]) or "nothing"
    rows = {**{name: found[name] for name in ("status", "connections", "refusals")}, "allow": allow}
    return [{"Field": name, "Value": value} for name, value in rows.items()]


def _sentence(found: EgressTest) -> str:
    named = f"rule {found.rule}" if found.rule else "no rule names it"
    return f"{found.target} is {'allowed' if found.is_allowed else 'refused'}: {named}{'; ' if found.reason else ''}{found.reason}"


@contextlib.contextmanager
def operator(pool: str, state: str | None) -> Iterator[Client]:
    """A client that may change pools."""
    from carrel.client import Connection

    target = Target.meant(state)
    if target.endpoint:
        with target.management() as management:
            endpoint = management.pool(pool).endpoint
    else:
        pools = Connection.read(target.folder).pools
        if pool not in pools:
            raise click.ClickException(f"there is no pool {pool}: `carrel sessionpool list` shows what there is")
        endpoint = pools[pool].endpoint
    with target.operator(endpoint) as client:
        yield client
