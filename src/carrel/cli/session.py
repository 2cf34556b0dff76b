"""`carrel session`: look at the sessions of a pool, and end what runs in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from carrel.cli.clients import reach
from carrel.cli.code_interpreter import code_interpreter
from carrel.cli.options import failures, state_option
from carrel.cli.output import Printer, output_options
from carrel.cli.target import group_option

if TYPE_CHECKING:
    from carrel.client import Session

F = TypeVar("F", bound=Callable[..., Any])


def pool_option(command: F) -> F:
    return click.option("--pool", metavar="NAME", default="python", show_default=True, help="Pool of the session.")(
        command
    )


def pool_options(command: F) -> F:
    """The same by az's names, in any resource group."""
    text = "Pool of the session."
    option = click.option(
        "-n", "--name", "--pool", "pool", metavar="NAME", default="python", show_default=True, help=text
    )
    return option(group_option(command))


def identifier_options(command: F) -> F:
    """The session by az's name, or alone."""
    option = click.option("-i", "--identifier", "named", metavar="ID", help="The session.")
    return click.argument("positional", metavar="[IDENTIFIER]", required=False)(option(pool_options(command)))


def _identifier(positional: str | None, named: str | None) -> str:
    if positional and named and positional != named:
        raise click.UsageError(f"is it {positional} or {named}? one identifier is enough")
    if not (positional or named):
        raise click.UsageError("Missing option '-i' / '--identifier'.")
    return str(named or positional)


@click.group()
def session() -> None:
    """Look at sessions, restart and stop them, and cancel what runs in them."""


session.add_command(code_interpreter)


@session.command("list")
@pool_options
@output_options("table")
@state_option
def list_sessions(pool: str, resource_group: str | None, out: Printer, state: str | None) -> None:
    """List the live sessions of a pool."""
    with failures(), reach(state, pool, resource_group=resource_group) as client:
        found = [_fields(each) for each in client.sessions()]
    out(found, _named)


@session.command()
@identifier_options
@output_options("table")
@state_option
def show(
    positional: str | None, named: str | None, pool: str, resource_group: str | None, out: Printer, state: str | None
) -> None:
    """Show a session and the executions of it that the server knows."""
    identifier = _identifier(positional, named)
    with failures(), reach(state, pool, identifier, resource_group=resource_group) as client:
        fields, executions = _fields(client.session()), client.executions()
    out({**fields, "executions": [asdict(each) for each in executions]}, _named)
    if executions and out.is_table:
        click.echo()
        out([asdict(each) for each in executions], _executions)


@session.command()
@identifier_options
@state_option
def stop(positional: str | None, named: str | None, pool: str, resource_group: str | None, state: str | None) -> None:
    """End a session: its variables and files are gone."""
    identifier = _identifier(positional, named)
    with failures(), reach(state, pool, identifier, resource_group=resource_group) as client:
        client.end()


@session.command()
@click.argument("identifier")
@pool_option
@state_option
def restart(identifier: str, pool: str, state: str | None) -> None:
    """Give a session a fresh interpreter: variables are lost, files stay, what runs is canceled."""
    with failures(), reach(state, pool, identifier) as client:
        client.restart()


@session.command()
@click.argument("identifier")
@click.argument("execution", required=False)
@pool_option
@state_option
def cancel(identifier: str, execution: str | None, pool: str, state: str | None) -> None:
    """Cancel EXECUTION, or all that runs or waits in the session; print how many that were, or how the execution ended."""
    with failures(), reach(state, pool, identifier) as client:
        click.echo(client.cancel_all() if execution is None else client.cancel(execution).status)


@session.command("open")
@click.argument("identifier")
@click.option(
    "--env", "texts", metavar="NAME[=VALUE]", multiple=True, help="Variable of its environment; repeat for more."
)
@click.option(
    "--secret", "secrets", metavar="NAME=SECRET", multiple=True, help="Variable that is a secret of the pool."
)
@pool_option
@state_option
def open_session(
    identifier: str, texts: tuple[str, ...], secrets: tuple[str, ...], pool: str, state: str | None
) -> None:
    """Begin a session with an environment of its own. Without VALUE it is that of this command's environment."""
    environment: dict[str, str | dict[str, str]] = {}
    for name, equals, value in (text.partition("=") for text in texts):
        if not equals and name not in os.environ:
            raise click.UsageError(f"--env {name}: there is no such variable here")
        environment[name] = value if equals else os.environ[name]
    for name, equals, value in (text.partition("=") for text in secrets):
        if not equals:
            raise click.UsageError("--secret: NAME=SECRET")
        environment[name] = {"secretRef": value}
    with failures(), reach(state, pool, identifier) as client:
        click.echo(client.open(environment).etag)


@session.command("keep-alive")
@click.argument("identifier")
@pool_option
@state_option
def keep_alive(identifier: str, pool: str, state: str | None) -> None:
    """Count as use of a session that lives; print when it expires now."""
    with failures(), reach(state, pool, identifier) as client:
        click.echo(client.keep_alive().expires_at.isoformat(timespec="seconds"))


@session.command()
@click.argument("identifier")
@pool_option
@state_option
def events(identifier: str, pool: str, state: str | None) -> None:
    """Print what happens to a session, a line for each event, to its end. Looking does not keep it alive."""
    with failures(), reach(state, pool, identifier) as client:
        for event in client.session_events():
            expiry = f"expires {event.session.expires_at.isoformat(timespec='seconds')}"
            click.echo(f"{event.kind} {event.reason or expiry}")


def _executions(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "Execution": each["id"],
            "Status": each["status"],
            "Outcome": each["outcome"] or "-",
            "Time": f"{each['duration_ms']} ms",
        }
        for each in found
    ]


def _named(found: Any) -> Any:
    """Columns in the order of a session's life; an etag is for programs."""
    if isinstance(found, list):
        return [_named(each) for each in found]
    return {name: value for name, value in found.items() if name not in ("etag", "executions")}


def _fields(found: Session) -> dict[str, str]:
    return {
        "identifier": found.identifier,
        "createdAt": found.created_at.isoformat(timespec="seconds"),
        "lastAccessedAt": found.last_accessed_at.isoformat(timespec="seconds"),
        "expireAt": found.expires_at.isoformat(timespec="seconds"),
        "etag": found.etag,
    }
