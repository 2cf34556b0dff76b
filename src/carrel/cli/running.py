"""A program of `carrel exec` while it runs: shown as it comes, ended by Ctrl-C."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from carrel.client import Client, Event, Result

INTERRUPTED = 130  # what a shell says of a program that Ctrl-C ended


class Screen:
    """Shows events as they come. What a terminal has seen is not printed again at the end."""

    def __init__(self) -> None:
        self.has_shown = False
        self._ends_line = True

    def show(self, event: Event) -> None:
        if event.kind in ("stdout", "stderr"):
            self.has_shown = True
            self._ends_line = event.text.endswith("\n")
            click.echo(event.text, nl=False, err=event.kind == "stderr")

    def finish(self) -> None:
        if not self._ends_line:
            click.echo()


def run(client: Client, program: Callable[..., Result], **options: Any) -> tuple[Result | None, bool]:
    """What `program` came to, and whether Ctrl-C ended it: then as far as it came, None where it had not begun.

    A second Ctrl-C leaves at once; the request to cancel has most likely arrived by then.
    """
    operation_id = f"exec-{secrets.token_hex(8)}"  # ours, so that it can be canceled before any answer has told its id
    try:
        return program(operation_id=operation_id, **options), False
    except KeyboardInterrupt:
        click.echo("canceling …", err=True)
        return _cancel(client, operation_id), True


def _cancel(client: Client, operation_id: str) -> Result | None:
    from carrel.client import ApiError

    with contextlib.suppress(KeyboardInterrupt):
        try:
            return client.cancel(operation_id)
        except ApiError as error:
            if error.status != 404:
                raise
    return None
