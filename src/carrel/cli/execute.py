"""`carrel exec`: run code in a session and behave like the program that was run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from carrel.cli.launch import LaunchError, private_server
from carrel.cli.options import failures, output_option, print_json, state_folder, state_option
from carrel.cli.statefolder import is_held
from carrel.client import Client, NotRunning, Result

_OUTPUT_LIMIT = 1024 * 1024  # characters of each stream; the API's own default of 4096 suits models more than people


@click.command("exec")
@click.argument("code", required=False)
@click.option("-f", "--file", type=click.File("r", encoding="utf-8"), help="Take the code from FILE (- for stdin).")
@click.option("--session", metavar="ID", help="Session to run in; without it a new one for this call alone.")
@click.option("--pool", metavar="NAME", default="python", show_default=True, help="Pool to run in.")
@click.option(
    "--timeout",
    metavar="S",
    type=click.IntRange(1, 220),
    default=60,
    show_default=True,
    help="Most seconds it may take.",
)
@click.option(
    "--images",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    show_default=True,
    help="Folder to save images to.",
)
@click.option("--usage", "shows_usage", is_flag=True, help="Print on stderr what the code used and how it ended.")
@output_option
@state_option
def execute(
    code: str | None,
    file: Any,
    session: str | None,
    pool: str,
    timeout: int,
    images: Path,
    shows_usage: bool,
    output: str,
    state: str | None,
) -> None:
    """Run CODE (or a file, or stdin), print its output and its value, and exit 0 if it succeeded, 1 if it failed.

    Without a running server one is started for this call; a session then lasts as long as the call.
    """
    text = _code(code, file)
    with failures(), _client(state_folder(state), pool, session or f"exec-{secrets.token_hex(8)}") as client:
        try:
            result = client.execute(text, timeout=timeout, output_limit=_OUTPUT_LIMIT)
        finally:
            if session is None:
                with contextlib.suppress(
                    Exception
                ):  # the call's own outcome matters more; an idle session ends by itself
                    client.end()
    _print(result, images, output)
    if shows_usage and output != "json":
        click.echo(_usage_line(result), err=True)
    sys.exit(0 if result.is_ok else 1)


def _code(code: str | None, file: Any) -> str:
    if code is not None and file is not None:
        raise click.UsageError("give CODE or -f FILE, not both")
    if code is not None:
        return code
    if file is None and sys.stdin.isatty():
        raise click.UsageError("no code: give it as an argument, with -f FILE, or on stdin")
    try:
        text: str = (file or sys.stdin).read()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the code is not UTF-8 text: {error}") from error
    return text


@contextlib.contextmanager
def _client(folder: Path, pool: str, identifier: str) -> Iterator[Client]:
    """To the server of the folder, or to one that lives as long as the block."""
    with contextlib.ExitStack() as stack:
        if not is_held(folder):
            if sys.stderr.isatty():  # not in scripts, whose stderr is the program's
                click.echo("no server is running: starting one for this call (a first start builds images) …", err=True)
            try:
                folder = stack.enter_context(private_server(["--log-level", "warning"]))
            except LaunchError as error:
                raise click.ClickException(f"no server is running, and none could be started: {error}") from error
        yield stack.enter_context(_connected(folder, pool, identifier))


def _connected(folder: Path, pool: str, identifier: str) -> Client:
    try:
        return Client.from_connection(folder, pool=pool, identifier=identifier)
    except NotRunning as error:
        raise click.ClickException(f"the server with {folder} is still starting or just stopping; try again") from error
    except KeyError as error:
        raise click.ClickException(
            f"there is no pool {error.args[0]}: `carrel sessionpool list` shows what there is"
        ) from error


def _print(result: Result, images: Path, output: str) -> None:
    saved = _save(result, images)
    if output == "json":
        value = str(saved) if saved else result.result
        fields = {"status": result.status, "stdout": result.stdout, "stderr": result.stderr, "result": value}
        usage = dataclasses.asdict(result.usage)
        return print_json(fields | {"durationMs": result.duration_ms, "outcome": result.outcome, "usage": usage})
    click.echo(result.stdout, nl=False)
    click.echo(result.stderr, nl=bool(result.stderr) and not result.stderr.endswith("\n"), err=True)
    if saved:
        click.echo(str(saved))
    elif result.result not in ("", None):
        click.echo(result.result if isinstance(result.result, str) else json.dumps(result.result, ensure_ascii=False))
    return None


def _usage_line(result: Result) -> str:
    usage = result.usage
    figures = {
        "wall": (usage.wall_ms, "ms"),
        "cpu": (usage.cpu_ms, "ms"),
        "peak memory": (usage.peak_memory_bytes, "bytes"),
        "written": (usage.written_bytes, "bytes"),
        "printed": (usage.printed_bytes, "bytes"),
    }
    told = [f"{name} {figure:,} {unit}" for name, (figure, unit) in figures.items() if figure is not None]
    return f"{result.outcome or 'outcome unknown'}: {', '.join(told) or 'the server does not tell what was used'}"


def _save(result: Result, folder: Path) -> Path | None:
    """Where the value's image was written, if it is one. A file that is there is never replaced."""
    if (data := result.image) is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    form = str(result.result.get("format", "png"))
    extension = form if form.isalnum() else "bin"  # chosen inside the sandbox, so not to be believed
    for number in range(1, 10_000):
        path = folder / f"image-{number}.{extension}"
        with contextlib.suppress(FileExistsError), path.open("xb") as target:
            target.write(data)
            return path
    raise click.ClickException(f"{folder} is full of images: choose another folder with --images")
