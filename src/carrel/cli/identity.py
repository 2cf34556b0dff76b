"""`carrel identity`: who may have tokens of this server, and the keys that sign them."""

from __future__ import annotations

import sys

import click

from carrel.cli import identities
from carrel.cli.options import state_folder, state_option


@click.group()
def identity() -> None:
    """Who may have tokens of this server, and the keys that sign them."""


@identity.command("rotate-keys")
@click.option("--revoke", is_flag=True, help="Remove every older key: all tokens issued so far are refused.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@state_option
def rotate_keys(revoke: bool, yes: bool, state: str | None) -> None:
    """Sign tokens with a new key; a running server follows within a second. Tokens that are out stay good, without --revoke."""
    if revoke and not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("--revoke ends every token that is out: say --yes where nobody can be asked")
        click.confirm("All tokens issued so far will be refused. Go on?", abort=True)
    from carrel.storage import State, StateError  # the server's: the other commands do without

    try:
        folder = State(state_folder(state)).signing
        folder.rotate(is_final=revoke)
        keys = folder.read()
    except StateError as error:
        raise click.ClickException(str(error)) from error
    others = len(keys.public) - 1
    click.echo(
        f"key {keys.newest.id} signs from now on; {others} older {'key verifies' if others == 1 else 'keys verify'}"
    )


for _command in identities.COMMANDS:
    identity.add_command(_command)
