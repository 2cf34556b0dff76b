"""`carrel backup`: keys, certificates and the store of a state folder in one file, also while its server runs."""

from __future__ import annotations

from pathlib import Path

import click

from carrel.cli import archive
from carrel.cli.options import config_option, load_config, state_option, store_option
from carrel.store import StoreError, copies


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@state_option
@store_option
@config_option
def backup(file: Path, state: str | None, store: str | None, config: str | None) -> None:
    """Write all that a server keeps into FILE, which is then as secret as its keys. The server may be running."""
    settings = load_config({"state": state, "store": store, "config": config})
    try:
        schema, lines = copies.dump(settings.store_url)
        archive.write(file.absolute(), settings.state, schema, lines)
    except (archive.ArchiveError, StoreError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{file} holds the state of {settings.state}. Who can read it can do all that the server can.", err=True)
