"""`carrel completion`: the script that teaches a shell to complete `carrel`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: source <(carrel completion bash)."""
    from carrel.cli import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    # ShellComplete.source() would first run bash to learn its version, and refuse where it cannot.
    complete = kind(cli, {}, "carrel", "_CARREL_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())
