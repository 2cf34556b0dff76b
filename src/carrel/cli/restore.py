"""`carrel restore`: what `carrel backup` has written, checked as a whole before anything gives way to it."""

from __future__ import annotations

from pathlib import Path

import click

from carrel import store_address
from carrel.cli import archive, restoring
from carrel.cli.options import config_option, load_config, state_option, store_option
from carrel.cli.statefolder import FolderError, exclusive
from carrel.config import Config
from carrel.storage import State, StateError
from carrel.store import StoreError, copies


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace what is there; files are kept in STATE/before-restore-….")
@state_option
@store_option
@config_option
def restore(file: Path, force: bool, state: str | None, store: str | None, config: str | None) -> None:
    """Put the state that FILE holds where a stopped server will find it: its folder, and the store that the settings name."""
    settings = load_config({"state": state, "store": store, "config": config})
    try:
        with exclusive(settings.state):
            restoring.finish(settings.state)
            if restoring.is_taken(settings.state) and not force:
                raise click.ClickException(f"{settings.state} holds a state already: --force replaces it")
            counts, kept = _restored(file, settings, may_replace=force)
    except (archive.ArchiveError, FolderError, StateError, StoreError) as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(f"{settings.state} cannot be restored: {error.strerror}") from error
    held = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    click.echo(f"restored into {settings.state}, store {store_address.shown(settings.store_url)}: {held}", err=True)
    if kept:
        click.echo(f"what was there before is in {kept}", err=True)


def _restored(file: Path, settings: Config, *, may_replace: bool) -> tuple[dict[str, int], Path | None]:
    """How many records of each kind there are now, and the folder with what was there before."""
    staged = restoring.begin(settings.state)
    new = staged / "new"
    try:
        manifest = archive.unpack(file, new)
        lines = (new / archive.STORE).read_text("utf-8").rstrip("\n").split("\n")
        (new / archive.STORE).unlink()
        keys = State(new).store_keys()
        trial = f"sqlite:///{new}/store/carrel.db"
        copies.load(trial, keys, manifest.schema, lines, may_replace=False)
        counts = copies.check(trial, keys)
        if settings.store:  # somewhere else, and what is in the folder stays: now that all is known to be whole
            for each in (new / "store").iterdir():
                each.unlink()
            (new / "store").rmdir()
            copies.load(settings.store, keys, manifest.schema, lines, may_replace=may_replace)
        return counts, restoring.commit(settings.state)
    finally:
        restoring.forget(settings.state)
