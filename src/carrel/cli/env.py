"""`carrel env`: shell exports that point unmodified clients at a running server."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import click

from carrel.cli.options import failures, output_option, print_json, state_folder, state_option


@click.command()
@output_option
@state_option
def env(output: str, state: str | None) -> None:
    """Print exports for a shell: eval "$(carrel env)"."""
    from carrel.client import Connection

    with failures():
        variables = dict(_variables(Connection.read(state_folder(state)).fields))
    if output == "json":
        return print_json(variables)
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    return None


def _variables(fields: dict[str, Any]) -> Iterator[tuple[str, str]]:
    # Azure's libraries ask this address for tokens where both are set (managed identity, App Service style).
    yield "IDENTITY_ENDPOINT", fields["identity_endpoint"]
    yield "IDENTITY_HEADER", fields["identity_header"]
    # One per family of TLS clients: requests, OpenSSL's default (httpx, aiohttp, urllib), curl, Node.
    yield "REQUESTS_CA_BUNDLE", fields["ca_bundle"]
    yield "SSL_CERT_FILE", fields["ca_bundle"]
    yield "CURL_CA_BUNDLE", fields["ca_bundle"]
    yield "NODE_EXTRA_CA_CERTS", fields["ca"]
    yield "CARREL_HTTP", fields["http"]
    yield "CARREL_HTTPS", fields["https"]
    yield "CARREL_TOKEN", fields["token"]
    for name, pool in fields["pools"].items():
        if pool:
            yield f"CARREL_POOL_{name.upper().replace('-', '_')}", pool["endpoint"]
