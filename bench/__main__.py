"""`python -m bench [--quick] [--only LINE …] [--user NAME] [--write-docs]`: measure the budgets, print them, write them down.

The exit status is 0 also where a budget is missed, unless `--strict`: numbers taken on a busy machine must not fail a build by themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import calls, creation, gvisor, memory, neighbour, node, programs, shell, streaming, transfer
from bench.lines import Line, as_json, as_page, as_table
from bench.machine import Machine, load
from bench.product import Product, serving
from carrel.backends import images
from carrel.backends.images import Image
from carrel.config import load as load_config

LINES = ("first", "later", "many", "stream", "neighbour", "new", "memory", "transfer", "gvisor", "shell", "node")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything; small enough to stay within its time, large enough for a steady ratio."""

    first_calls: int
    later_rounds: int
    many_rounds: int
    many_s: float
    new_rounds: int
    sessions: int
    batches: int
    transfers: int
    neighbour_rounds: int
    gvisor_rounds: int
    stream_writes: int
    node_sessions: int


FULL = Size(
    first_calls=250,
    later_rounds=25,
    many_rounds=8,
    many_s=2.0,
    new_rounds=8,
    sessions=200,
    batches=5,
    transfers=7,
    neighbour_rounds=8,
    gvisor_rounds=25,
    stream_writes=500,
    node_sessions=60,
)
QUICK = Size(
    first_calls=40,
    later_rounds=8,
    many_rounds=3,
    many_s=1.0,
    new_rounds=2,
    sessions=45,
    batches=3,
    transfers=2,
    neighbour_rounds=3,
    gvisor_rounds=5,
    stream_writes=100,
    node_sessions=30,
)


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    account = pwd.getpwnam(options.user) if options.user else None
    folder = options.images or load_config({}, os.environ).images
    image = images.ensure("python", folder, programs.say)
    load_before, began = load(), time.monotonic()
    lines: list[Line] = []
    is_whole = True
    try:
        for line in measured(options.only or LINES, QUICK if options.quick else FULL, image, folder, account):
            lines.append(line)
            programs.say(f"{time.monotonic() - began:5.0f} s  {line.what}: {line.measured} [{line.ratio}]")
    except KeyboardInterrupt:
        is_whole = False
        programs.say("stopped")
    _report(lines, Machine.here(load_before, load()), write_docs=options.write_docs and is_whole)
    if not is_whole:
        return 130
    return 1 if options.strict and any(line.is_met is False for line in lines) else 0


def measured(
    names: list[str] | tuple[str, ...], size: Size, image: Image, folder: Path, account: pwd.struct_passwd | None
) -> Iterator[Line]:
    """The lines asked for, as they come. What only some of them need is started for these only."""
    if "new" in names:  # first, with nothing else of ours running
        yield creation.line(folder, size.new_rounds)
        if account is not None:
            try:
                yield creation.line(folder, size.new_rounds, account)
            except creation.CannotMeasure as error:
                programs.say(str(error))
    if "gvisor" in names and gvisor.is_offered():
        yield from gvisor.lines(folder, size.gvisor_rounds)
    if "shell" in names:
        yield from shell.lines(folder, size.first_calls, size.later_rounds, size.sessions, size.batches)
    if "node" in names:
        yield from node.lines(folder, size.first_calls // 4, size.later_rounds, size.node_sessions, size.batches)
    if set(names) <= {"new", "gvisor", "shell", "node"}:
        return
    with contextlib.ExitStack() as stack:
        product = stack.enter_context(serving(folder))
        yield from _with_server(names, size, image, product, stack)


def _with_server(
    names: list[str] | tuple[str, ...], size: Size, image: Image, product: Product, stack: contextlib.ExitStack
) -> Iterator[Line]:
    pool = product.pool("python")
    if "memory" in names:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carrel-bench-")))
        yield memory.idle_sessions(product.pool("crowd"), image, folder, size.sessions, size.batches)
    if "first" in names:
        yield calls.first_call(pool, size.first_calls)
    if "stream" in names:
        yield streaming.latency(pool, size.stream_writes)
    if "neighbour" in names:
        yield neighbour.line(pool, size.neighbour_rounds)
    if not {"later", "many", "transfer"} & set(names):
        return
    floor = stack.enter_context(calls.floor(image, stack.enter_context(transfer.sink())))
    if "later" in names:
        yield calls.later_call(pool, floor, size.later_rounds)
    if "many" in names:
        yield calls.many_calls(pool, floor, size.many_rounds, size.many_s)
    if "transfer" in names:
        yield from transfer.both_ways(pool, floor, size.transfers)


def _report(lines: list[Line], machine: Machine, *, write_docs: bool) -> None:
    """A run that was cut short is shown too, and does not become the documentation."""
    out = programs.ROOT / "out"
    out.mkdir(exist_ok=True)
    (out / "bench.json").write_text(as_json(lines, machine))
    print(f"\n{as_table(lines)}\n\nMeasured {machine}.\nJSON: {out / 'bench.json'}")
    if write_docs:
        page = programs.ROOT / "docs" / "reference" / "benchmarks.md"
        page.write_text(as_page(lines, machine))
        print(f"Page: {page}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description="Measure the budgets, each beside its floor.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: less than a minute, and less steady")
    parser.add_argument("--only", nargs="+", choices=LINES, metavar="LINE", help=f"of {', '.join(LINES)}")
    parser.add_argument("--user", metavar="NAME", help="as root: make sandboxes as this ordinary user too")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of built images (default: the server's)")
    parser.add_argument("--write-docs", action="store_true", help="write docs/reference/benchmarks.md")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where a budget is missed")
    return parser.parse_args()


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
