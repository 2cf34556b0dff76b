"""`carrel serve`: run the server until a signal."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import Any

import click
import httpx

from carrel import logs
from carrel.cli import capabilities
from carrel.cli.banner import answering, banner
from carrel.cli.children import ChildError
from carrel.cli.hello import say_hello
from carrel.cli.listeners import ListenError
from carrel.cli.options import all_settings, load_config
from carrel.cli.statefolder import FolderError
from carrel.cli.supervisor import Supervisor
from carrel.config import ConfigError
from carrel.errors import StoreUnavailable
from carrel.models import ContainerType
from carrel.storage import StateError
from carrel.store import StoreError


@click.command()
@all_settings
@click.option(
    "--hello", is_flag=True, help="Once ready, run the how-to's hello-world through the API and print the answer."
)
@click.option("--until-eof", is_flag=True, help="Stop also when stdin ends: with a pipe, when whoever started it does.")
def serve(*, hello: bool, until_eof: bool, **flags: Any) -> None:
    """Serve session pools until SIGINT or SIGTERM; a second signal stops at once."""
    config = load_config(flags)
    logs.configure(config.log_level, config.log_format, "supervisor")

    capabilities.limit()

    def announce(connection: dict[str, Any], ready: dict[str, Any]) -> None:
        click.echo(banner(config, connection, ready))
        if hello and (greeted := answering(connection, ready)):
            # Beside the supervisor's own loop, which has the processes to look after.
            threading.Thread(target=_hello, args=(str(connection["token"]), *greeted), daemon=True).start()

    try:
        status = asyncio.run(Supervisor(config, announce, until_eof).run())
    except (ChildError, ConfigError, ListenError, FolderError, StateError, StoreError, StoreUnavailable) as error:
        raise click.ClickException(str(error)) from error
    sys.exit(status)


def _hello(token: str, endpoint: str, kind: ContainerType) -> None:
    try:
        answer = say_hello(token, endpoint, kind)
        click.echo(f"The how-to's hello-world, through the API:\n\n{answer}\nServing; Ctrl-C stops.")
    except httpx.HTTPError as error:
        click.echo(f"the hello-world failed: {error}", err=True)
