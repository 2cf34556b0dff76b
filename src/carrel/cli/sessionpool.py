"""`carrel sessionpool`: session pools, as resources and as they are."""

from __future__ import annotations

from typing import Any

import click

from carrel.cli.azlike import (
    AzCommand,
    Teller,
    az_failures,
    confirm,
    name_of,
    name_options,
    no_wait_option,
    yes_option,
)
from carrel.cli.egress import egress
from carrel.cli.output import Printer, output_options
from carrel.cli.pool_status import status
from carrel.cli.sessionpool_define import create, update
from carrel.cli.target import Target, group_option, target_options, whole_or_group_option


@click.group()
def sessionpool() -> None:
    """Make, look at, change and delete session pools."""


@click.group("mcp-key")
def mcp_key() -> None:
    """The key for a pool's MCP endpoint."""


for each in (create, update, status, egress, mcp_key):
    sessionpool.add_command(each)


@sessionpool.command("list", cls=AzCommand)
@whole_or_group_option
@output_options()
@target_options
def list_pools(resource_group: str | None, out: Printer, target: Target) -> None:
    """List the session pools of a resource group, or of the subscription."""
    with az_failures(), target.management() as management:
        found = management.pools(resource_group=resource_group)
    out([dict(each.resource) for each in found], _table)


@sessionpool.command("show", cls=AzCommand)
@name_options
@group_option
@output_options()
@target_options
def show_pool(
    positional: str | None, named: str | None, resource_group: str | None, out: Printer, target: Target
) -> None:
    """Show a session pool as a resource: its definition and endpoints. How it is, `status` shows."""
    name = name_of(positional, named)
    with az_failures(), target.management() as management:
        found = management.pool(name, resource_group=resource_group)
    out(dict(found.resource), _table)


@sessionpool.command("delete", cls=AzCommand)
@name_options
@group_option
@yes_option
@no_wait_option
@output_options()
@target_options
def delete_pool(
    positional: str | None,
    named: str | None,
    resource_group: str | None,
    is_sure: bool,
    no_wait: bool,
    out: Printer,
    target: Target,
) -> None:
    """Delete a session pool. Its sessions end."""
    name = name_of(positional, named)
    confirm(f"Delete pool {name} and end its sessions?", is_sure)
    with az_failures(), target.management() as management, Teller(f"deleting pool {name}", target) as tell:
        management.delete_pool(name, resource_group=resource_group, is_waiting=not no_wait, on_progress=tell)
    out(None)


@mcp_key.command("show", cls=AzCommand)
@name_options
@group_option
@output_options()
@target_options
def show_key(
    positional: str | None, named: str | None, resource_group: str | None, out: Printer, target: Target
) -> None:
    """Show the key."""
    name = name_of(positional, named)
    with az_failures(_MCP), target.management() as management:
        out({"apiKey": management.mcp_key(name, resource_group=resource_group)})


@mcp_key.command("rotate", cls=AzCommand)
@name_options
@group_option
@yes_option
@output_options()
@target_options
def rotate_key(
    positional: str | None,
    named: str | None,
    resource_group: str | None,
    is_sure: bool,
    out: Printer,
    target: Target,
) -> None:
    """Make a new key and show it. The old one is good no more."""
    name = name_of(positional, named)
    confirm(f"Make a new MCP key for pool {name}? The old one is good no more.", is_sure)
    with az_failures(_MCP), target.management() as management:
        out({"apiKey": management.rotate_mcp_key(name, resource_group=resource_group)})


_MCP = {"SessionMCPServerNotEnabled": "it with `carrel sessionpool update --mcp`"}


def _table(found: Any) -> Any:
    """az's columns and those that tell pools apart."""
    if isinstance(found, list):
        return [_table(each) for each in found]
    bag = found.get("properties") or {}
    return {
        "Name": found.get("name"),
        "Location": found.get("location"),
        "ResourceGroup": found.get("resourceGroup"),
        "ContainerType": bag.get("containerType"),
        "State": bag.get("provisioningState"),
        "MaxSessions": (bag.get("scaleConfiguration") or {}).get("maxConcurrentSessions"),
        "Endpoint": bag.get("poolManagementEndpoint"),
    }
