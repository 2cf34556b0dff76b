"""Commands of the server where its packages are not installed: `pip install carrel` brings the client and its commands alone."""

from __future__ import annotations

import sys

import click

_OURS = frozenset({"carrel", "certifi", "click", "httpx", "jmespath", "rich"})


def reason(error: ModuleNotFoundError, what: str) -> str | None:
    """What to do about a module that is missing; None where an installation is broken in another way."""
    name = (error.name or "").partition(".")[0]
    if not name or name in _OURS:
        return None
    if name in sys.stdlib_module_names:
        return f"{what} is of the server, which runs on Linux (on Windows, in WSL 2)"
    return f"{what} needs the server: pip install 'carrel[server]' (there is no module {name!r})"


def absent(name: str, why: str) -> click.Command:
    """In the command's place: it says why it cannot be had, whatever its arguments."""

    def refuse() -> None:
        raise click.ClickException(why)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, callback=refuse, help=why, short_help="Not installed.", context_settings=settings)
