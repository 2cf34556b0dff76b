"""A client of a running server, for the commands that call a pool: the local one's, or that of CARREL_ENDPOINT."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from carrel.client import Client


@contextlib.contextmanager
def reach(
    state: str | None, pool: str, identifier: str = "default", *, resource_group: str | None = None
) -> Iterator[Client]:
    """To a pool of the server that a command means: a state folder that is named goes before CARREL_ENDPOINT."""
    from carrel.cli.target import Target

    with Target.meant(state).client(pool, resource_group, identifier) as client:
        yield client


def connected(folder: Path, pool: str, identifier: str = "default") -> Client:
    """To a pool of the server whose state folder this is. Raises NotRunning; an unknown pool becomes one line."""
    from carrel.client import ApiError, Client, Connection, Management

    if pool in Connection.read(folder).pools:
        return Client.from_connection(folder, pool=pool, identifier=identifier)
    try:
        with Management.from_connection(folder) as management:
            return management.client(pool, identifier=identifier)
    except ApiError as error:
        if error.status != 404:
            raise
        raise click.ClickException(f"there is no pool {pool}: `carrel sessionpool list` shows what there is") from error
