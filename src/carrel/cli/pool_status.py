"""`carrel sessionpool status`: how the local server's pools are: boundary in force, sessions, what the image brings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from carrel.cli.options import failures, state_folder, state_option
from carrel.cli.output import Printer, output_options

if TYPE_CHECKING:
    from carrel.client.values import Metadata

_REFUSED = "refused"  # in place of a level
_PREPARING = "being prepared"


@click.command()
@click.argument("name", required=False)
@output_options("table")
@state_option
def status(name: str | None, out: Printer, state: str | None) -> None:
    """Show how the pools are: isolation in force, sessions, what the image brings. With NAME all about one, without it all in short."""
    from carrel.client import Connection

    with failures():
        folder = state_folder(state)
        if name is not None:
            return out(_describe(name, state), _fields)
        found = [_describe(each, state, is_short=True) for each in Connection.read(folder).pools]
    return out(found, _short)


def _short(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "Name": each["name"],
            "Isolation": each["isolation"] or _REFUSED,
            "Status": each["status"],
            "Sessions": each["sessions"],
            "Endpoint": each["poolManagementEndpoint"],
        }
        for each in found
    ]


def _fields(found: dict[str, Any]) -> list[dict[str, Any]]:
    runtimes, packages = (
        [f"{each['name']} {each['version']}" for each in found[key]] for key in ("runtimes", "packages")
    )
    preparing = found.pop("preparing")
    rows = {
        **found,
        "status": f"{found['status']}: {preparing}" if found["status"] == _PREPARING else found["status"],
        "isolation": found["isolation"] or _REFUSED,
        "weaknesses": "; ".join(found["weaknesses"]) or "none",
        "error": found["error"] or "none",
        "image": found["image"] or "not built yet",
        "runtimes": ", ".join(runtimes),
        "packages": f"{len(packages)}: {', '.join(packages)}",
    }
    return [{"Field": name, "Value": value} for name, value in rows.items()]


def _status(metadata: Metadata) -> str:
    if metadata.isolation is None:
        return _REFUSED
    if metadata.error is not None:
        return "failing"
    return "ready" if metadata.preparing is None else _PREPARING


def _describe(name: str, state: str | None, is_short: bool = False) -> dict[str, Any]:
    from carrel.cli.clients import connected

    with connected(state_folder(state), name) as client:
        metadata, sessions, endpoint = client.metadata(), client.sessions(), client.endpoint
    short = {
        "name": name,
        "poolManagementEndpoint": endpoint,
        "isolation": metadata.isolation,
        "status": _status(metadata),
        "sessions": len(sessions),
    }
    if is_short:
        return short
    return {
        **short,
        "weaknesses": list(metadata.weaknesses),
        "preparing": metadata.preparing,
        "error": metadata.error,
        "image": metadata.image,
        "createdAt": metadata.created_at.isoformat(),
        "runtimes": [{"name": each, "version": version} for each, version in metadata.runtimes],
        "packages": [{"name": each, "version": version} for each, version in metadata.packages],
    }
