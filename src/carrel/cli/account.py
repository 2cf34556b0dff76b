"""`carrel account` and `carrel ad`: whose rights commands have, and tokens with them, as az prints them."""

from __future__ import annotations

from datetime import datetime

import click

from carrel.cli.azlike import AzCommand, az_failures
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target, target_options

_ARM = "https://management.azure.com"
_TYPES = {"arm": _ARM, "ms-graph": "https://graph.microsoft.com", "sessions": "https://dynamicsessions.io"}


@click.group()
def account() -> None:
    """Whose rights commands have, and tokens with them."""


@account.command(cls=AzCommand)
@output_options()
@target_options
def show(out: Printer, target: Target) -> None:
    """Show the subscription, and whose rights commands have in it."""
    with az_failures(), target.management() as management:
        told = target.claims(management)
        found = {each.id.lower(): each for each in management.subscriptions()}.get(management.subscription.lower())
    user = told.get("upn") or told.get("unique_name")
    tenant = (found.tenant if found else "") or told.get("tid")
    out(
        {
            "environmentName": "Carrel",
            "homeTenantId": tenant,
            "id": management.subscription,
            "isDefault": True,
            "managedByTenants": [],
            "name": found.name if found else None,
            "state": found.state if found else None,
            "tenantId": tenant,
            "user": {
                "name": user or told.get("appid") or told.get("oid"),
                "type": "user" if user else "servicePrincipal",
            },
        }
    )


@account.command("get-access-token", cls=AzCommand)
@click.option("--resource", metavar="URL", help="What the token is for; by default the control plane.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE", help="The same as a scope, URL/.default.")
@click.option("--resource-type", type=click.Choice(list(_TYPES)), help="The same by a name.")
@output_options()
@target_options
def get_access_token(
    resource: str | None, scopes: tuple[str, ...], resource_type: str | None, out: Printer, target: Target
) -> None:
    """Print a token with the rights that commands have."""
    if sum(map(bool, (resource, scopes, resource_type))) > 1:
        raise click.UsageError("--resource, --scope or --resource-type: one of them")
    wanted = scopes[0] if scopes else f"{(resource or _TYPES[resource_type or 'arm']).rstrip('/')}/.default"
    with az_failures(), target.management() as management:
        tenant, token = target.claims(management).get("tid"), target.token(management, wanted)
        ends = datetime.fromtimestamp(token.expires_on)
        out(
            {
                "accessToken": token.token,
                "expiresOn": ends.strftime("%Y-%m-%d %H:%M:%S.%f"),
                "expires_on": token.expires_on,
                "subscription": management.subscription,
                "tenant": tenant,
                "tokenType": "Bearer",
            }
        )


@click.group()
def ad() -> None:
    """The directory."""


@ad.group("signed-in-user")
def signed_in_user() -> None:
    """Whoever the commands act for."""


@signed_in_user.command("show", cls=AzCommand)
@output_options()
@target_options
def show_me(out: Printer, target: Target) -> None:
    """Show it: `--query id -o tsv` is what roles are given to."""
    with az_failures(), target.management() as management:
        out(dict(management.me().resource))
