"""`carrel token`: a bearer token signed with the key of a state folder. Whoever can read the key may have one; no server is asked."""

from __future__ import annotations

import re

import click

from carrel import roles
from carrel.audiences import AUDIENCES, Plane
from carrel.cli.options import state_folder, state_option
from carrel.errors import CarrelError
from carrel.storage import SESSION_EXECUTOR, State, StateError
from carrel.wire.names import decode_identifier

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
# A name, or the resource id of a pool that is in another group than the server's own.
_POOL = re.compile(
    r"\*|[A-Za-z0-9-]+|/subscriptions/[^/]+/resourceGroups/[^/]+(/providers/Microsoft\.App)?/sessionPools/[A-Za-z0-9-]+",
    re.IGNORECASE,
)
_DATA = AUDIENCES[Plane.DATA]
_ALL = [audience for audiences in AUDIENCES.values() for audience in audiences]


@click.command()
@click.option(
    "--ttl", metavar="TIME", default="1h", show_default=True, help="How long it is good for: 90s, 15m, 1h, 30d."
)
@click.option("--role", metavar="NAME", default=SESSION_EXECUTOR, show_default=True, help="Role the token carries.")
@click.option(
    "--pool", "pools", metavar="NAME", multiple=True, help="Pool it is good for; repeat for more; without it all pools."
)
@click.option(
    "--identifier", metavar="ID", help="The one session that it is good for, in --pool (python) and nowhere else."
)
@click.option(
    "--audience", metavar="URL", type=click.Choice(_ALL), default=_DATA[0], show_default=True, help="Audience."
)
@state_option
def token(
    ttl: str, role: str, pools: tuple[str, ...], identifier: str | None, audience: str, state: str | None
) -> None:
    """Print a bearer token."""
    if roles.role_named(role) is None:
        known = ", ".join(each.name for each in roles.ROLES.values())
        raise click.UsageError(f"--role: there is no role {role!r}; known are {known}")
    if strange := [pool for pool in pools if not _POOL.fullmatch(pool)]:
        raise click.UsageError(f"--pool: {strange[0]!r} is no pool's name; leave --pool out for all pools")
    claims: dict[str, object] = {"roles": [role], "carrel_pools": list(pools or ["*"])}
    if identifier is not None:
        claims |= _bound(identifier, role, pools, audience)
    try:
        keys = State(state_folder(state))
    except StateError as error:
        raise click.ClickException(str(error)) from error
    click.echo(keys.issue_token(audience, ttl_s=_seconds(ttl), claims=claims))


def _bound(identifier: str, role: str, pools: tuple[str, ...], audience: str) -> dict[str, object]:
    """What narrows it to one session. The server keeps to it; this is so that nobody is handed a token that opens nothing."""
    try:
        decode_identifier(identifier)
    except CarrelError as error:
        raise click.UsageError(f"--identifier: {error.message}") from error
    found = roles.role_named(role)
    if found is None or not found.allows(roles.EXECUTE, is_data=True):
        raise click.UsageError(f"--identifier: sessions are for the role {SESSION_EXECUTOR}; leave --role out")
    if audience not in _DATA:
        raise click.UsageError("--identifier: sessions are on the data plane; leave --audience out")
    if len(pools) > 1:
        raise click.UsageError("--identifier: name one --pool")
    return {"carrel_identifier": identifier, "carrel_pools": list(pools or ["python"])}


def _seconds(text: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if not match or int(match[1]) == 0:
        raise click.UsageError(f"--ttl: {text!r} is not allowed; a time such as 90s, 15m, 1h or 30d")
    return int(match[1]) * _UNITS[match[2]]
