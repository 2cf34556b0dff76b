"""A client of the running server, for the commands that call it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from carrel.client import Client


def connected(folder: Path, pool: str, identifier: str = "default") -> Client:
    """To a pool of the server whose state folder this is. Raises NotRunning; an unknown pool becomes one line."""
    from carrel.client import Client

    try:
        return Client.from_connection(folder, pool=pool, identifier=identifier)
    except KeyError as error:
        raise click.ClickException(
            f"there is no pool {error.args[0]}: `carrel sessionpool list` shows what there is"
        ) from error
