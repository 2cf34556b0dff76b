"""`carrel console`: where the web console is, how to sign in there, and a browser on it where there is one."""

from __future__ import annotations

import os
import sys
import webbrowser
from collections.abc import Mapping

import click

from carrel.cli.options import failures
from carrel.cli.target import Target, target_options

_PATH = "/console/"


@click.command()
@click.option("--no-browser", is_flag=True, help="Open none.")
@click.option("--tokens", is_flag=True, help="Print tokens to sign in with, for an hour, and nothing else.")
@target_options
def console(no_browser: bool, tokens: bool, target: Target) -> None:
    """Print where the web console is and how to sign in; open it in a browser where there is one."""
    with failures():
        if tokens:
            return _print_tokens(target)
        address = f"{target.endpoint.rstrip('/') if target.endpoint else _local(target)}{_PATH}"
    click.echo(address)
    target.say(_HOW)
    if not no_browser and has_browser(os.environ) and not webbrowser.open(address):
        target.say("No browser could be opened: copy the address.")
    return None


_HOW = """
Press "Sign in": a page opens that asks for the name and password of a user of this server. To make one, who may do all there is:
  carrel identity create NAME --user
  carrel role assignment create --role Owner --assignee NAME
  carrel role assignment create --role "Azure ContainerApps Session Executor" --assignee NAME
Without any user: "Other ways", "With tokens", and what `carrel console --tokens` prints."""


def has_browser(environ: Mapping[str, str]) -> bool:
    """Whether there is a screen to open one on. Browsers of the terminal would be started too, and they run no scripts."""
    if "BROWSER" in environ or sys.platform in ("darwin", "win32"):
        return True
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def _local(target: Target) -> str:
    """HTTP on loopback needs no certificate that a browser would have to trust."""
    from carrel.client import Connection

    fields = Connection.read(target.folder).fields
    return str(fields["http"] or fields["https"])


def _print_tokens(target: Target) -> None:
    """With the rights that commands have, one for the control plane and one for pools."""
    from carrel.client.credentials import ARM_SCOPE, DATA_SCOPE

    with target.management() as management:
        for scope in (ARM_SCOPE, DATA_SCOPE):
            click.echo(target.token(management, scope).token)
