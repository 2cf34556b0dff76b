"""`carrel top`: pools, sessions and rates, as they change."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from carrel.cli.azlike import AzCommand, az_failures
from carrel.cli.output import Printer, output_options
from carrel.cli.target import Target, target_options, whole_or_group_option
from carrel.cli.top_sampling import SORTS, Sampler, Snapshot, ordered

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_BETWEEN_S = 1.1  # the looks of a single snapshot: what the server tells is at most a second old


@click.command(cls=AzCommand)
@click.option("-n", "--name", "--pool", "pool", metavar="NAME", help="This pool alone.")
@whole_or_group_option
@click.option("--sort", type=click.Choice(SORTS), default="cpu", show_default=True, help="Order of the sessions.")
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(0.5, 3600),
    default=2.0,
    show_default=True,
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Print one snapshot; so does a pipe, and -o json.")
@output_options("table")
@target_options
def top(
    pool: str | None,
    resource_group: str | None,
    sort: str,
    interval: float,
    once: bool,
    out: Printer,
    target: Target,
) -> None:
    """Show pools, sessions by what they use, and rates, as they change. Keys: s sorts otherwise, q quits."""
    with az_failures(), target.management() as management, Sampler(management, pool, resource_group) as sampler:
        if out.is_table and not once and sys.stdout.isatty():
            return _watch(sampler, sort, interval)
        sampler.look()
        time.sleep(_BETWEEN_S)
        snapshot = sampler.look()
    return _print(snapshot, sort, out)


def _print(snapshot: Snapshot, sort: str, out: Printer) -> None:
    if not out.is_table:
        sessions = tuple(ordered(snapshot.sessions, sort))
        return out(Snapshot(snapshot.at, snapshot.pools, sessions).to_json())
    from rich.console import Console

    from carrel.cli.top_view import whole

    width = None if sys.stdout.isatty() else 1000  # a pipe has no edge to cut at
    console = Console(width=width)
    with console.capture() as text:
        console.print(whole(snapshot, sort, console.width))
    click.echo("\n".join(line.rstrip() for line in text.get().splitlines()))
    return None


def _watch(sampler: Sampler, sort: str, interval: float) -> None:
    """Until q or Ctrl-C. On the terminal's other screen, so that what was there before is there afterwards."""
    from rich.console import Console
    from rich.live import Live

    from carrel.cli.top_keys import keys

    console = Console()
    snapshot = sampler.look()  # a failure of the first is one line and an exit status
    trouble = ""
    try:
        with keys() as wait, Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(_seen(snapshot, sort, console, trouble), refresh=True)
                looked_at = time.monotonic()
                while (left := looked_at + interval - time.monotonic()) > 0:
                    key = wait(left)
                    if key == "q":
                        return
                    if key == "s":
                        sort = SORTS[(SORTS.index(sort) + 1) % len(SORTS)]
                        live.update(_seen(snapshot, sort, console, trouble), refresh=True)
                snapshot, trouble = _looked(sampler, snapshot)
    except KeyboardInterrupt:
        return


def _seen(snapshot: Snapshot, sort: str, console: Console, trouble: str) -> RenderableType:
    from carrel.cli.top_view import screen

    return screen(snapshot, sort, *console.size, trouble)


def _looked(sampler: Sampler, before: Snapshot) -> tuple[Snapshot, str]:
    """Another look; where the server is away, what was seen last, and why there is nothing newer."""
    import httpx

    from carrel.client import ApiError

    try:
        return sampler.look(), ""
    except ApiError as error:
        return before, f"The server refuses: {error}"
    except httpx.HTTPError as error:
        return before, f"The server does not answer: {type(error).__name__}"
