"""What commands in the manner of `az` share: options that take several values, failures with az's exit statuses, questions, progress."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from carrel.cli.options import failures
from carrel.cli.target import Target

if TYPE_CHECKING:
    from carrel.client import Fault, Progress

F = TypeVar("F", bound=Callable[..., Any])


class Several(click.Option):
    """An option with one value or more: `--tags a=1 b=2`. A value has "=" or begins with "/", which no name of a resource does.

    It is to be `multiple` as well.
    """


class NotFound(click.ClickException):
    exit_code = 3  # as az


class AzCommand(click.Command):
    """Repeats the name of a Several before each of its values, which is how click takes them."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        names = {
            name for each in self.params if isinstance(each, Several) for name in (*each.opts, *each.secondary_opts)
        }
        return super().parse_args(context, list(_repeated(args, names)))


def _repeated(args: Sequence[str], names: set[str]) -> Iterator[str]:
    option, is_first = "", False  # the option that further values are of, and whether its first value comes next
    for each in args:
        if each in names:
            option, is_first = each, True
        elif is_first:
            is_first = False
        elif option and not each.startswith("-") and ("=" in each or each.startswith("/")):
            yield option
        else:
            option = ""
        yield each


def pairs(option: str, values: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE of each. What was written instead is not repeated: it may be a secret."""
    found: dict[str, str] = {}
    for each in values:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise click.UsageError(f"{option}: NAME=VALUE, or several of them")
        found[name] = value
    return found


def name_of(positional: str | None, named: str | None) -> str:
    """Of a command that takes its resource's name as az does, by `-n`, or alone."""
    if positional and named and positional != named:
        raise click.UsageError(f"is it {positional} or {named}? one name is enough")
    if not (positional or named):
        raise click.UsageError("Missing option '-n' / '--name'.")
    return str(named or positional)


def name_options(command: F) -> F:
    option = click.option("-n", "--name", "named", metavar="NAME", help="Name.")
    return click.argument("positional", metavar="[NAME]", required=False)(option(command))


@contextlib.contextmanager
def az_failures(options: Mapping[str, str] | None = None) -> Iterator[None]:
    """As `failures`, with exit status 3 for what is not there, and what to change: `options` has it by property, or by error code."""
    from carrel.client import ApiError

    try:
        with failures():
            yield
    except TimeoutError as error:
        raise click.ClickException(str(error)) from error
    except click.ClickException as error:
        cause = error.__cause__
        if isinstance(cause, ApiError):
            kind = NotFound if cause.status == 404 else click.ClickException
            raise kind("\n".join([error.message, *_hints(cause, options or {})])) from cause
        raise


def _hints(error: Any, options: Mapping[str, str]) -> Iterator[str]:
    """A line for each thing that is wrong beyond the first message, and for each that an option of the command can change."""
    faults: list[Fault] = [each for each in error.details if each.message != error.message]
    for each in faults:
        yield f"  {each.message}"
    targets = [error.code, error.target, *(each.target for each in error.details)]
    named = {option: None for target in targets if (option := option_of(target, options))}
    if named:
        yield f"  change {', '.join(named)}"


def option_of(target: str | None, options: Mapping[str, str]) -> str | None:
    """The option for a property, or for what is within it, in any case."""
    path = (target or "").removeprefix("properties.").lower()
    for known, option in options.items():
        if path == known.lower() or path.startswith((f"{known.lower()}.", f"{known.lower()}[")):
            return option
    return None


def confirm(question: str, is_sure: bool) -> None:
    """Ask on a terminal; without one nothing is done unasked."""
    if is_sure:
        return
    if not sys.stdin.isatty():
        raise click.ClickException("nobody can be asked here, as this is no terminal: say --yes")
    if not click.confirm(question, err=True):
        raise click.exceptions.Exit(1)


def yes_option(command: F) -> F:
    return click.option("-y", "--yes", "is_sure", is_flag=True, help="Do not ask.")(command)


def no_wait_option(command: F) -> F:
    return click.option("--no-wait", is_flag=True, help="Do not wait until it is done.")(command)


class Teller:
    """Tells on stderr how long work goes on: on a terminal in one line that is written over, elsewhere a line for each new state."""

    def __init__(self, what: str, target: Target) -> None:
        self._what = what
        self._is_quiet = target.is_quiet
        self._is_terminal = sys.stderr.isatty()
        self._last = ""

    def __call__(self, progress: Progress) -> None:
        if self._is_quiet:
            return
        if self._is_terminal:
            click.echo(f"\r{self._what}: {progress.state}, {progress.seconds:.0f} s ", nl=False, err=True)
        elif progress.state != self._last:
            click.echo(f"{self._what}: {progress.state}", err=True)
        self._last = progress.state

    def __enter__(self) -> Teller:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._is_terminal and self._last:
            click.echo("\r\x1b[K", nl=False, err=True)
        if kind is KeyboardInterrupt and not self._is_quiet:
            click.echo("not waited for: the server goes on with it", err=True)
