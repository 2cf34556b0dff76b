"""`carrel group`: resource groups, which hold session pools."""

from __future__ import annotations

import click

from carrel.cli.azlike import (
    AzCommand,
    Several,
    Teller,
    az_failures,
    confirm,
    name_of,
    name_options,
    no_wait_option,
    pairs,
    yes_option,
)
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target, target_options

_also_named = click.option("-g", "--resource-group", "also_named", metavar="NAME", help="The same as --name.")
_TABLE = "[].{Name:name, Location:location, Status:properties.provisioningState}"


@click.group()
def group() -> None:
    """Make, list and delete resource groups."""


@group.command(cls=AzCommand)
@name_options
@_also_named
@click.option("-l", "--location", metavar="LOCATION", help="Location; by default the server's.")
@click.option("--tags", cls=Several, multiple=True, metavar="NAME=VALUE", help="Tags, several of them.")
@output_options()
@target_options
def create(
    positional: str | None,
    named: str | None,
    also_named: str | None,
    location: str | None,
    tags: tuple[str, ...],
    out: Printer,
    target: Target,
) -> None:
    """Make a resource group."""
    name = name_of(positional, named or also_named)
    labels = pairs("--tags", [each for each in tags if each]) if tags else None
    with az_failures(_OPTIONS), target.management() as management:
        out(dict(management.create_group(name, location=location, tags=labels).resource))


@group.command("list", cls=AzCommand)
@output_options()
@target_options
def list_groups(out: Printer, target: Target) -> None:
    """List resource groups."""
    import jmespath

    with az_failures(), target.management() as management:
        found = management.groups()
    out([dict(each.resource) for each in found], jmespath.compile(_TABLE).search)


@group.command(cls=AzCommand)
@name_options
@_also_named
@output_options()
@target_options
def show(positional: str | None, named: str | None, also_named: str | None, out: Printer, target: Target) -> None:
    """Show a resource group."""
    with az_failures(), target.management() as management:
        out(dict(management.group(name_of(positional, named or also_named)).resource))


@group.command(cls=AzCommand)
@name_options
@_also_named
@output_options()
@target_options
def exists(positional: str | None, named: str | None, also_named: str | None, out: Printer, target: Target) -> None:
    """Print whether there is a resource group."""
    from carrel.client import ApiError

    name = name_of(positional, named or also_named)
    with az_failures(), target.management() as management:
        try:
            management.group(name)
        except ApiError as error:
            if error.status != 404:
                raise
            return out(False)
    return out(True)


@group.command(cls=AzCommand)
@name_options
@_also_named
@yes_option
@no_wait_option
@target_options
def delete(
    positional: str | None,
    named: str | None,
    also_named: str | None,
    is_sure: bool,
    no_wait: bool,
    target: Target,
) -> None:
    """Delete a resource group with all pools in it. Their sessions end."""
    name = name_of(positional, named or also_named)
    confirm(f"Delete resource group {name} and all pools in it?", is_sure)
    with az_failures(), target.management() as management, Teller(f"deleting group {name}", target) as tell:
        management.delete_group(name, is_waiting=not no_wait, on_progress=tell)


_OPTIONS = {"location": "--location", "tags": "--tags", "name": "--name"}
