"""`carrel sessionpool egress`: look at a pool's egress list, change it while sessions live, and ask what it does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from carrel.cli.options import failures, output_option, print_json, print_table, state_option
from carrel.cli.target import Target

if TYPE_CHECKING:
    from carrel.client import Client, Egress, EgressTest


@click.group()
def egress() -> None:
    """What a pool's sessions may reach."""


@egress.command()
@click.argument("pool")
@output_option
@state_option
def show(pool: str, output: str, state: str | None) -> None:
    """Show a pool's egress list."""
    with failures(), operator(pool, state) as client:
        found = client.egress()
    _print(found, output)


@egress.command("set")
@click.argument("pool")
@click.argument("rules", nargs=-1, metavar="[RULE]...")
@output_option
@state_option
def replace(pool: str, rules: tuple[str, ...], output: str, state: str | None) -> None:
    """Put RULEs in the place of a pool's egress list; none allows nothing.

    It holds at once, for live sessions too, and the pool keeps it.
    """
    with failures(), operator(pool, state) as client:
        found = client.set_egress(rules)
    _print(found, output)


@egress.command("test")
@click.argument("pool")
@click.argument("target", metavar="HOST[:PORT]")
@output_option
@state_option
def try_target(pool: str, target: str, output: str, state: str | None) -> None:
    """Say what a pool's sessions get that ask for HOST[:PORT] (port 443), and why. Exit status 1 where it is refused."""
    from carrel.egress.rules import parse_target

    try:
        wanted = parse_target(target, default_port=443)
    except ValueError as error:
        raise click.UsageError(f"{target}: {error}") from error
    with failures(), operator(pool, state) as client:
        found = client.test_egress(wanted.host, wanted.port)
    if output == "json":
        print_json(asdict(found))
    else:
        click.echo(_sentence(found))
        for address, refusal in found.addresses:
            click.echo(f"  {address}  {refusal or 'may be reached'}")
    if not found.is_allowed:
        raise click.exceptions.Exit(1)


def _print(found: Egress, output: str) -> None:
    if output == "json":
        return print_json(asdict(found))
    allow = "no list" if found.allow is None else ", ".join(found.allow) or "nothing"
    rows = {"status": found.status, "allow": allow, "connections": found.connections, "refusals": found.refusals}
    return print_table([[name, value] for name, value in rows.items()], ["FIELD", "VALUE"])


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
