"""`carrel exec`: run code in a session and behave like the program that was run."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from carrel.cli.clients import connected, reach
from carrel.cli.launch import LaunchError, private_server
from carrel.cli.options import failures, output_option, print_json, state_folder, state_option
from carrel.cli.running import INTERRUPTED, Screen, run
from carrel.cli.statefolder import is_held
from carrel.client import Client, NotRunning, Result, ShellResult

_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}
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
@click.option("--shell", "is_command", is_flag=True, help="CODE is a command of the shell; exit as it does.")
@click.option(
    "--stream/--no-stream",
    "streams",
    default=None,
    help="Print output as it is written (the default on a terminal), or at the end.",
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
    is_command: bool,
    streams: bool | None,
    images: Path,
    shows_usage: bool,
    output: str,
    state: str | None,
) -> None:
    """Run CODE (or a file, or stdin), print its output and its value, and exit 0 if it succeeded, 1 if it failed.

    Ctrl-C cancels it; a second one leaves at once.
    Without a running server one is started for this call; a session then lasts as long as the call.
    """
    text = _code(code, file)
    screen = Screen() if output != "json" and (sys.stdout.isatty() if streams is None else streams) else None
    with failures(), _client(state, pool, session or f"exec-{secrets.token_hex(8)}") as client:
        program = partial(client.shell if is_command else client.execute, text)
        try:
            result, was_interrupted = run(
                client, program, timeout=timeout, output_limit=_OUTPUT_LIMIT, on_output=screen and screen.show
            )
        finally:
            if session is None:
                with contextlib.suppress(
                    Exception
                ):  # the call's own outcome matters more; an idle session ends by itself
                    client.end()
    if result is not None:
        _print(result, images, output, screen)
        if shows_usage and output != "json":
            click.echo(_usage_line(result), err=True)
    sys.exit(INTERRUPTED if was_interrupted or result is None else _exit_status(result))


def _exit_status(result: Result) -> int:
    """A command's own, where it has one."""
    if isinstance(result, ShellResult) and (result.exit_code or 0) > 0:
        return result.exit_code or 1
    return 0 if result.is_ok else 1


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
def _client(state: str | None, pool: str, identifier: str) -> Iterator[Client]:
    """To the server that is meant, or to one that lives as long as the block."""
    with contextlib.ExitStack() as stack:
        if os.environ.get("CARREL_ENDPOINT") and not state:
            yield stack.enter_context(reach(state, pool, identifier))
            return
        folder = state_folder(state)
        if not is_held(folder):
            if sys.stderr.isatty():  # not in scripts, whose stderr is the program's
                click.echo("no server is running: starting one for this call (a first start builds images) …", err=True)
            try:
                folder = stack.enter_context(private_server(["--log-level", "warning"], pool=pool))
            except LaunchError as error:
                raise click.ClickException(f"no server is running, and none could be started: {error}") from error
        try:
            client = connected(folder, pool, identifier)
        except NotRunning as error:  # the folder is held, so somebody serves there
            raise click.ClickException(
                f"the server with {folder} is still starting or just stopping; try again"
            ) from error
        yield stack.enter_context(client)


def _print(result: Result, images: Path, output: str, screen: Screen | None) -> None:
    saved = _save(result, images)
    if output == "json":
        return print_json(_fields(result, saved))
    if screen is not None and screen.has_shown:
        screen.finish()
    else:
        click.echo(result.stdout, nl=False)
        click.echo(result.stderr, nl=bool(result.stderr) and not result.stderr.endswith("\n"), err=True)
    for path in saved:
        click.echo(str(path))
    if result.image is None and result.result not in ("", None):
        click.echo(result.result if isinstance(result.result, str) else json.dumps(result.result, ensure_ascii=False))
    return None


def _fields(result: Result, saved: list[Path]) -> dict[str, Any]:
    value = str(saved[-1]) if result.image is not None and saved else result.result
    fields = {"status": result.status, "stdout": result.stdout, "stderr": result.stderr, "result": value}
    told = {"durationMs": result.duration_ms, "outcome": result.outcome, "usage": dataclasses.asdict(result.usage)}
    return {**fields, **told, "images": [str(path) for path in saved]}


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


def _save(result: Result, folder: Path) -> list[Path]:
    """Where the images were written: all that were displayed, or the value where the server tells no displays."""
    return [_write(data, extension, folder) for data, extension in _images(result)]


def _images(result: Result) -> Iterator[tuple[bytes, str]]:
    """Bytes and extension. What the format is called is chosen inside the sandbox, so not to be believed."""
    shown = [
        (data, extension)
        for output in result.outputs
        for mime, extension in _EXTENSIONS.items()
        if (data := output.image(mime)) is not None
    ]
    if shown:
        yield from shown
    elif (data := result.image) is not None:
        form = str(result.result.get("format", "png"))
        yield data, form if form.isalnum() else "bin"


def _write(data: bytes, extension: str, folder: Path) -> Path:
    """A file that is there is never replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, 10_000):
        path = folder / f"image-{number}.{extension}"
        with contextlib.suppress(FileExistsError), path.open("xb") as target:
            target.write(data)
            return path
    raise click.ClickException(f"{folder} is full of images: choose another folder with --images")
