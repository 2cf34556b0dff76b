"""`carrel token`: a bearer token signed with the key of a state folder. Whoever can read the key may have one; no server is asked."""

from __future__ import annotations

import re

import click

from carrel.cli.options import state_folder, state_option
from carrel.storage import AUDIENCES, SESSION_EXECUTOR, State, StateError

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


@click.command()
@click.option(
    "--ttl", metavar="TIME", default="1h", show_default=True, help="How long it is good for: 90s, 15m, 1h, 30d."
)
@click.option("--role", metavar="NAME", default=SESSION_EXECUTOR, show_default=True, help="Role the token carries.")
@click.option(
    "--pool", "pools", metavar="NAME", multiple=True, help="Pool it is good for; repeat for more; without it all pools."
)
@click.option(
    "--audience", metavar="URL", type=click.Choice(AUDIENCES), default=AUDIENCES[0], show_default=True, help="Audience."
)
@state_option
def token(ttl: str, role: str, pools: tuple[str, ...], audience: str, state: str | None) -> None:
    """Print a bearer token for the data plane."""
    try:
        keys = State(state_folder(state))
    except StateError as error:
        raise click.ClickException(str(error)) from error
    click.echo(keys.issue_token(audience, ttl_s=_seconds(ttl), roles=[role], pools=pools or ["*"]))


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if not match or int(match[1]) == 0:
        raise click.UsageError(f"--ttl: {text!r} is not allowed; a time such as 90s, 15m, 1h or 30d")
    return int(match[1]) * _UNITS[match[2]]
