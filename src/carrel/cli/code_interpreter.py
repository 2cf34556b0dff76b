"""`carrel session code-interpreter`: code and files of sessions, by az's names and with the API's answers as they are."""

from __future__ import annotations

import contextlib
import functools
import posixpath
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from carrel.cli.azlike import AzCommand, az_failures, confirm, yes_option
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target, group_option, target_options

if TYPE_CHECKING:
    from carrel.client import Client

F = TypeVar("F", bound=Callable[..., Any])

_PATH = click.option("--path", default="", metavar="DIR", help="Folder below /mnt/data.")
_FILE = click.option("--filename", required=True, metavar="NAME", help="The file.")


@dataclass(frozen=True, slots=True)
class Place:
    """A session of a pool of a server."""

    target: Target
    pool: str
    resource_group: str | None
    identifier: str

    @contextlib.contextmanager
    def client(self) -> Iterator[Client]:
        with az_failures(_OPTIONS), self.target.client(self.pool, self.resource_group, self.identifier) as client:
            yield client


def _session_options(command: F) -> F:
    """The session and where it is; the command gets `place`."""

    @functools.wraps(command)
    def run(
        *arguments: Any,
        pool: str,
        resource_group: str | None,
        identifier: str,
        session_pool_location: str | None,
        target: Target,
        **options: Any,
    ) -> Any:
        return command(*arguments, place=Place(target, pool, resource_group, identifier), **options)

    location = "Location of the pool; the server knows it anyway."
    for option in (
        click.option("--session-pool-location", metavar="LOCATION", help=location),
        click.option("-i", "--identifier", required=True, metavar="ID", help="The session."),
        group_option,
        click.option("-n", "--name", "pool", required=True, metavar="POOL", help="The session pool."),
    ):
        run = option(run)
    return cast(F, target_options(run))


@click.group("code-interpreter")
def code_interpreter() -> None:
    """Run code in sessions and work with their files, as `az containerapp session code-interpreter` does."""


@code_interpreter.command(cls=AzCommand)
@_session_options
@click.option("--code", required=True, help="The code.")
@click.option(
    "--timeout-in-seconds",
    metavar="S",
    type=click.IntRange(1, 220),
    default=60,
    show_default=True,
    help="Most seconds it may take.",
)
@output_options()
def execute(
    place: Place,
    code: str,
    timeout_in_seconds: int,
    out: Printer,
) -> None:
    """Run code in a session. Code that fails is a result, with exit status 0."""
    with place.client() as client:
        out(client.execute(code, timeout=timeout_in_seconds).reply)


@code_interpreter.command("upload-file", cls=AzCommand)
@_session_options
@click.option(
    "--filepath",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File of this machine.",
)
@_PATH
@output_options()
def upload_file(
    place: Place,
    filepath: Path,
    path: str,
    out: Printer,
) -> None:
    """Store a file in a session."""
    with filepath.open("rb") as content, place.client() as client:
        out(client.upload(posixpath.join(path, filepath.name), content).reply)


@code_interpreter.command("list-files", cls=AzCommand)
@_session_options
@_PATH
@output_options()
def list_files(
    place: Place,
    path: str,
    out: Printer,
) -> None:
    """List the files of a session."""
    with place.client() as client:
        out({"value": [each.reply for each in client.list_files(path)]}, _files)


@code_interpreter.command("show-file-content", cls=AzCommand)
@_session_options
@_FILE
@_PATH
def show_file_content(
    place: Place,
    filename: str,
    path: str,
) -> None:
    """Print a file of a session, as it is."""
    with place.client() as client:
        content = client.download(posixpath.join(path, filename))
    sys.stdout.buffer.write(content)


@code_interpreter.command("show-file-metadata", cls=AzCommand)
@_session_options
@_FILE
@_PATH
@output_options()
def show_file_metadata(
    place: Place,
    filename: str,
    path: str,
    out: Printer,
) -> None:
    """Show what a file of a session is."""
    with place.client() as client:
        out(client.stat(posixpath.join(path, filename)).reply)


@code_interpreter.command("delete-file", cls=AzCommand)
@_session_options
@_FILE
@_PATH
@yes_option
def delete_file(
    place: Place,
    filename: str,
    path: str,
    is_sure: bool,
) -> None:
    """Delete a file of a session."""
    confirm(f"Delete {posixpath.join(path, filename)}?", is_sure)
    with place.client() as client:
        client.delete_file(posixpath.join(path, filename))


def _files(found: Any) -> Any:
    return found["value"]


_OPTIONS = {
    "identifier": "--identifier",
    "timeoutInSeconds": "--timeout-in-seconds",
    "code": "--code",
    "path": "--path",
}
