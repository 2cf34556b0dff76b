"""`carrel env`: what a shell has to set so that unmodified clients find a running server, in that shell's own words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import click

from carrel.cli.options import failures, output_option, print_json, state_folder, state_option
from carrel.cli.shells import NAMES, guessed, shell_named


@click.command()
@click.option(
    "--shell", metavar="NAME", type=click.Choice(NAMES), help="Whose words: bash, fish, powershell. By SHELL."
)
@click.option("--unset", is_flag=True, help="Print what takes it back.")
@output_option
@state_option
def env(shell: str | None, unset: bool, output: str, state: str | None) -> None:
    """Print exports for a shell: eval "$(carrel env)"; carrel env | source; carrel env | Out-String | Invoke-Expression."""
    from carrel.client import Connection, NotRunning

    with failures():
        try:
            variables = dict(_variables(Connection.read(state_folder(state)).fields))
        except NotRunning:
            if not unset:
                raise
            variables = dict.fromkeys(FIXED, "")  # of a server that has ended the pools are not known any more
    if output == "json":
        return print_json(variables)
    chosen = shell_named(shell) if shell else guessed()
    for name, value in variables.items():
        click.echo(chosen.unset(name) if unset else chosen.set(name, value))
    return None


# Where each value is in connection.json. What is null there (an authority that is switched off) is left out.
_FIELDS = {
    # One per family of TLS clients: requests, OpenSSL's default (httpx, aiohttp, urllib), curl, Node.
    "REQUESTS_CA_BUNDLE": "ca_bundle",
    "SSL_CERT_FILE": "ca_bundle",
    "CURL_CA_BUNDLE": "ca_bundle",
    "NODE_EXTRA_CA_CERTS": "ca",
    # Azure's libraries: managed identity in the style of App Service, then a service principal.
    "IDENTITY_ENDPOINT": "identity_endpoint",
    "IDENTITY_HEADER": "identity_header",
    "AZURE_AUTHORITY_HOST": "authority",
    "AZURE_CLIENT_ID": "client_id",
    "AZURE_CLIENT_SECRET": "client_secret",
    "AZURE_SUBSCRIPTION_ID": "subscription",
    # Terraform's provider for ARM.
    "ARM_TENANT_ID": "tenant",
    "ARM_CLIENT_ID": "client_id",
    "ARM_CLIENT_SECRET": "client_secret",
    "ARM_SUBSCRIPTION_ID": "subscription",
    "CARREL_HTTP": "http",
    "CARREL_HTTPS": "https",
    "CARREL_ARM": "arm",
    "CARREL_TENANT": "tenant",
    "CARREL_TOKEN": "token",
}
_OF_THE_AUTHORITY = ("AZURE_TENANT_ID", "AZURE_CORE_INSTANCE_DISCOVERY", "ARM_METADATA_HOSTNAME")
FIXED = (*_FIELDS, *_OF_THE_AUTHORITY)
_NEED_AUTHORITY = ("AZURE_CLIENT_ID", "ARM_TENANT_ID", "ARM_CLIENT_ID")


def _variables(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    has_authority = bool(fields["authority"])
    for name, field in _FIELDS.items():
        if fields.get(field) and (has_authority or name not in _NEED_AUTHORITY):
            yield name, str(fields[field])
    if has_authority:
        # By its own name it would make clients ask Microsoft first whether this authority is a known one; "adfs" they take as it is.
        yield "AZURE_TENANT_ID", "adfs"
        yield "AZURE_CORE_INSTANCE_DISCOVERY", "false"  # the same for az
        yield "ARM_METADATA_HOSTNAME", urlsplit(fields["arm"]).netloc
    for name, pool in fields["pools"].items():
        if pool:
            yield f"CARREL_POOL_{re.sub('[^A-Z0-9]', '_', name.upper())}", pool["endpoint"]
