"""Options that commands share, and how failures become one line and an exit status."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from carrel.config import SETTINGS, Config, ConfigError, load

F = TypeVar("F", bound=Callable[..., Any])


def all_settings(command: F) -> F:
    """The flags of every setting, and `--config`. They arrive as keyword arguments of the settings' attribute names."""
    for setting in reversed(SETTINGS):
        text = f"{setting.help}  [{setting.variable}; default: {setting.default}]"
        if setting.is_switch:
            command = click.option(f"--{setting.name}/--no-{setting.name}", default=None, help=text)(command)
            continue
        command = click.option(f"--{setting.name}", metavar=setting.metavar, multiple=setting.is_list, help=text)(
            command
        )
    return config_option(command)


def config_option(command: F) -> F:
    return click.option("--config", metavar="FILE", help="TOML file with settings and pools.  [CARREL_CONFIG]")(command)


def state_option(command: F) -> F:
    text = "State folder of the server.  [CARREL_STATE; default: ~/.local/share/carrel]"
    return click.option("--state", metavar="DIR", help=text)(command)


def store_option(command: F) -> F:
    text = "Address of its store, where that is not in the folder.  [CARREL_STORE]"
    return click.option("--store", metavar="URL", help=text)(command)


def output_option(command: F) -> F:
    choice = click.Choice(["json", "table"])
    return click.option("-o", "--output", type=choice, default="table", show_default=True, help="How to print.")(
        command
    )


def load_config(flags: Mapping[str, Any]) -> Config:
    """The configuration from a command's arguments. A setting that cannot be used is a usage error (exit status 2)."""
    try:
        return load({name.replace("_", "-"): value for name, value in flags.items()}, os.environ)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error


def state_folder(state: str | None) -> Path:
    return load_config({"state": state}).state


@contextlib.contextmanager
def failures() -> Iterator[None]:
    """Turn what calls to a server raise into one line that says what to do, and exit status 1."""
    # Imported here: the HTTP library takes a tenth of a second to load, which commands without calls need not pay.
    import httpx

    from carrel.client import ApiError, NotRunning
    from carrel.client.connection import is_untrusted

    try:
        yield
    except NotRunning as error:
        raise click.ClickException(
            f"{error}: start one with `carrel serve`, or name its folder with --state"
        ) from error
    except ApiError as error:
        trace = f" (trace {error.trace})" if error.trace else ""
        raise click.ClickException(f"{error}{trace}") from error
    except httpx.ConnectError as error:
        if is_untrusted(error):
            raise click.ClickException(
                f"the server's certificate is not trusted ({error}): name its authority with SSL_CERT_FILE"
            ) from error
        raise click.ClickException(
            "the server does not answer: is it still running? start it with `carrel serve`"
        ) from error
    except httpx.TimeoutException as error:
        raise click.ClickException("the server took too long to answer") from error
    except httpx.HTTPError as error:
        raise click.ClickException(f"the call failed: {error}") from error


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=1, default=str))
