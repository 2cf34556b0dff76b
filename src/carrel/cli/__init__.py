"""The command `carrel`: one file per command, loaded when it is called, as completion and `--help` should not wait for a web server."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

from carrel import __version__
from carrel.cli.absent import absent, reason

# Name → module of this package and attribute in it.
COMMANDS = {
    "serve": ("serve", "serve"),
    "exec": ("execute", "execute"),
    "session": ("session", "session"),
    "file": ("file", "file"),
    "mcp": ("mcp", "mcp"),
    "token": ("token", "token"),
    "identity": ("identity", "identity"),
    "env": ("env", "env"),
    "sessionpool": ("sessionpool", "sessionpool"),
    "group": ("group", "group"),
    "role": ("role", "role"),
    "account": ("account", "account"),
    "ad": ("account", "ad"),
    "image": ("image", "image"),
    "audit": ("audit", "audit"),
    "doctor": ("doctor", "doctor"),
    "health": ("health", "health"),
    "top": ("top", "top"),
    "console": ("console", "console"),
    "usage": ("usage", "usage"),
    "logs": ("logs", "logs"),
    "backup": ("backup", "backup"),
    "restore": ("restore", "restore"),
    "completion": ("completion", "completion"),
}


class Commands(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, _context: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute = COMMANDS[name]
        try:
            command: click.Command = getattr(importlib.import_module(f"carrel.cli.{module}"), attribute)
        except ModuleNotFoundError as error:
            if why := reason(error, f"`carrel {name}`"):
                return absent(name, why)
            raise
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="carrel %(version)s")
def cli() -> None:
    """A locked code interpreter for every user, conversation or agent."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: exit status 0 for success, 1 for failure, 2 for a command used wrongly."""
    try:
        cli.main(args=arguments, prog_name="carrel", standalone_mode=True)
    except ModuleNotFoundError as error:  # of commands that need the server for some of what they do
        if not (why := reason(error, "This")):
            raise
        click.echo(f"Error: {why}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader (`carrel … | head`) has seen enough. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
