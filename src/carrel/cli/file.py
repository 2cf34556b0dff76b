"""`carrel file`: the files of a session."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import click

from carrel.cli.clients import reach
from carrel.cli.options import failures, state_option
from carrel.cli.output import Printer, output_options

F = TypeVar("F", bound=Callable[..., Any])


def _session_options(command: F) -> F:
    """The session that the command is about, and where it is."""
    pool = click.option("--pool", metavar="NAME", default="python", show_default=True, help="Pool of the session.")
    return click.argument("session")(pool(state_option(command)))


_to_option = click.option(
    "-O", "--to", "target", metavar="FILE", type=click.Path(dir_okay=False), help="Where to write; - for stdout."
)


@click.group()
def file() -> None:
    """Store, fetch, rename, delete and watch the files of a session."""


@file.command("list")
@_session_options
@click.argument("directory", default="")
@click.option("-r", "--recursive", is_flag=True, help="What is below as well.")
@output_options("table")
def list_files(session: str, directory: str, recursive: bool, out: Printer, pool: str, state: str | None) -> None:
    """List a directory of a session."""
    with failures(), reach(state, pool, session) as client:
        found = client.list_files(directory, is_recursive=recursive)
    rows = [
        {"path": each.path + "/" * each.is_directory, "size": each.size, "modifiedAt": each.modified_at.isoformat()}
        for each in found
    ]
    out(rows, _as_found)


def _as_found(rows: Any) -> Any:
    """The columns in this order."""
    return rows


@file.command()
@_session_options
@click.argument("source", type=click.File("rb"))
@click.argument("path", required=False)
@click.option("--new", "is_new", is_flag=True, help="Only where there is nothing yet.")
def upload(session: str, source: Any, path: str | None, is_new: bool, pool: str, state: str | None) -> None:
    """Store SOURCE (- for stdin) as PATH below /mnt/data, or under its own name; print its path."""
    if path is None and source.name == "<stdin>":
        raise click.UsageError("stdin has no name: give a PATH")
    with failures(), reach(state, pool, session) as client:
        name = path or Path(source.name).name
        content = source.read() if source.name == "<stdin>" else source
        click.echo(client.upload(name, content, if_none_match="*" if is_new else None).path)


@file.command()
@_session_options
@click.argument("path")
@_to_option
def download(session: str, path: str, target: str | None, pool: str, state: str | None) -> None:
    """Fetch PATH, to the current folder unless told otherwise. A file that is there is replaced only if named with -O."""
    with failures(), reach(state, pool, session) as client:
        _write([client.download(path)], target, PurePosixPath(path).name)


@file.command()
@_session_options
@click.argument("directory", default="")
@_to_option
def archive(session: str, directory: str, target: str | None, pool: str, state: str | None) -> None:
    """Fetch a directory (or all of /mnt/data) as a tar archive."""
    with failures(), reach(state, pool, session) as client:
        _write(client.archive(directory), target, f"{PurePosixPath(directory).name or 'data'}.tar")


def _write(pieces: Iterable[bytes], target: str | None, name: str) -> None:
    """To `target`, or to a new file `name`. What broke off leaves no file."""
    if target == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        return
    path = Path(target or name)
    try:
        with path.open("wb" if target else "xb") as stream:
            try:
                for piece in pieces:
                    stream.write(piece)
            except BaseException:
                path.unlink()
                raise
    except FileExistsError as error:
        raise click.ClickException(f"{path} is there already: name it with -O to replace it") from error
    click.echo(str(path))


@file.command()
@_session_options
@click.argument("path")
def mkdir(session: str, path: str, pool: str, state: str | None) -> None:
    """Make a directory, with those on the way to it."""
    with failures(), reach(state, pool, session) as client:
        click.echo(client.make_directory(path).path)


@file.command()
@_session_options
@click.argument("path")
@click.argument("to")
@click.option("--overwrite", is_flag=True, help="Replace what is there already.")
def rename(session: str, path: str, to: str, overwrite: bool, pool: str, state: str | None) -> None:
    """Give a file or directory another path."""
    with failures(), reach(state, pool, session) as client:
        click.echo(client.rename(path, to, overwrite=overwrite).path)


@file.command()
@_session_options
@click.argument("path")
def delete(session: str, path: str, pool: str, state: str | None) -> None:
    """Delete a file, or a directory with all that is in it."""
    with failures(), reach(state, pool, session) as client:
        client.delete_file(path)


@file.command()
@_session_options
@click.argument("directory", default="")
@click.option("-r", "--recursive", is_flag=True, help="What is below as well.")
def watch(session: str, directory: str, recursive: bool, pool: str, state: str | None) -> None:
    """Print what changes in a directory, a line for each change, until Ctrl-C or the session's end."""
    with failures(), reach(state, pool, session) as client:
        for change in client.watch(directory, is_recursive=recursive):
            if change.file is not None:
                click.echo(f"{change.kind} {change.file.path}{'/' * change.file.is_directory}")
