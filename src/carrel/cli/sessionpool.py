"""`carrel sessionpool`: look at the pools of a running server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from carrel.cli.egress import egress, operator
from carrel.cli.options import failures, output_option, print_json, print_table, state_folder, state_option

if TYPE_CHECKING:
    from carrel.client.values import Metadata

_REFUSED = "refused"  # in place of a level
_PREPARING = "being prepared"


@click.group()
def sessionpool() -> None:
    """Look at session pools, and change what their sessions may reach."""


sessionpool.add_command(egress)


@sessionpool.command("list")
@output_option
@state_option
def list_pools(output: str, state: str | None) -> None:
    """List the pools of the running server."""
    from carrel.client import Client, Connection

    found: list[dict[str, Any]] = []
    with failures():
        folder = state_folder(state)
        for pool in Connection.read(folder).pools.values():
            with Client.from_connection(folder, pool=pool.name) as client:
                metadata = client.metadata()
                found.append(
                    {
                        "name": pool.name,
                        "isolation": metadata.isolation,
                        "status": _status(metadata),
                        "sessions": len(client.sessions()),
                        "poolManagementEndpoint": pool.endpoint,
                    }
                )
    if output == "json":
        return print_json(found)
    rows = [[each["name"], each["isolation"] or _REFUSED, *list(each.values())[2:]] for each in found]
    return print_table(rows, ["NAME", "ISOLATION", "STATUS", "SESSIONS", "ENDPOINT"])


@sessionpool.command("show")
@click.argument("name")
@output_option
@state_option
def show_pool(name: str, output: str, state: str | None) -> None:
    """Show one pool: its endpoints and the key for MCP, the boundary around its sessions, what its image brings."""
    with failures():
        fields = _describe(name, state)
    if output == "json":
        return print_json(fields)
    runtimes, packages = (
        [f"{each['name']} {each['version']}" for each in fields[key]] for key in ("runtimes", "packages")
    )
    preparing = fields.pop("preparing")
    rows = {
        **fields,
        "status": f"{fields['status']}: {preparing}" if fields["status"] == _PREPARING else fields["status"],
        "isolation": fields["isolation"] or _REFUSED,
        "weaknesses": "; ".join(fields["weaknesses"]) or "none",
        "error": fields["error"] or "none",
        "image": fields["image"] or "not built yet",
        "runtimes": ", ".join(runtimes),
        "packages": f"{len(packages)}: {', '.join(packages)}",
    }
    return print_table([[key, value] for key, value in rows.items()], ["FIELD", "VALUE"])


@sessionpool.command("update")
@click.argument("name")
@click.option(
    "--image", "image_name", required=True, metavar="IMAGE", help="Image for new sessions; built where missing."
)
@output_option
@state_option
def update_pool(name: str, image_name: str, output: str, state: str | None) -> None:
    """Move a pool to another image, or to the newest build of its own. Live sessions keep theirs.

    The pool keeps it, over restarts too.
    """
    with failures(), operator(name, state) as client:
        found = client.set_image(image_name)
    if output == "json":
        return print_json({"name": name, "image": found.name, "reference": found.reference, "runtime": found.runtime})
    return click.echo(f"{name}: new sessions get {found.reference}")


def _status(metadata: Metadata) -> str:
    if metadata.isolation is None:
        return _REFUSED
    if metadata.error is not None:
        return "failing"
    return "ready" if metadata.preparing is None else _PREPARING


def _describe(name: str, state: str | None) -> dict[str, Any]:
    from carrel.client import Client, Connection

    folder = state_folder(state)
    try:
        pool = Connection.read(folder).pools[name]
        with Client.from_connection(folder, pool=name) as client:
            metadata, sessions, endpoint = client.metadata(), client.sessions(), client.endpoint
    except KeyError:
        raise click.ClickException(f"there is no pool {name}: `carrel sessionpool list` shows what there is") from None
    return {
        "name": name,
        "poolManagementEndpoint": endpoint,
        "mcpServerEndpoint": pool.mcp,
        "mcpApiKey": pool.mcp_key,
        "isolation": metadata.isolation,
        "weaknesses": list(metadata.weaknesses),
        "status": _status(metadata),
        "preparing": metadata.preparing,
        "error": metadata.error,
        "image": metadata.image,
        "createdAt": metadata.created_at.isoformat(),
        "sessions": len(sessions),
        "runtimes": [{"name": each, "version": version} for each, version in metadata.runtimes],
        "packages": [{"name": each, "version": version} for each, version in metadata.packages],
    }
