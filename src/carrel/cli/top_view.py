"""How `carrel top` looks: two tables within the terminal's height and width. What comes from the server is text, never markup.

A table that is too wide leaves columns out, those that matter least first, rather than cutting all of them short.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from carrel.cli.top_sampling import PoolLine, SessionLine, Snapshot, ordered

_FRAME = (
    5  # lines that are neither a pool's nor a session's: the head, two tables' heads, one line between them, the last
)
_GAP = 2  # between columns
_MESSAGES = 3  # lines of them at most

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column(Generic[T]):
    """`rank`: the higher, the sooner it is left out; 0 never is."""

    name: str
    rank: int
    cell: Callable[[T], str]
    style: Callable[[T], str] = lambda _: ""
    is_number: bool = True


def screen(snapshot: Snapshot, sort: str, width: int, height: int, trouble: str = "") -> RenderableType:
    """What fits; `trouble` is why there is nothing newer."""
    pools = snapshot.pools[: max(1, (height - _FRAME) // 2)]
    messages = _messages(snapshot.pools)[:_MESSAGES]
    rows = max(0, height - _FRAME - len(pools) - len(messages))
    sessions = ordered(snapshot.sessions, sort)[:rows]
    return Group(
        _head(snapshot, sort, trouble),
        _table(_POOLS, pools, width),
        *messages,
        Text(""),
        _table(_SESSIONS, sessions, width, _MARKED[sort]),
    )


def whole(snapshot: Snapshot, sort: str, width: int) -> RenderableType:
    """All rows of it, for a pipe or a file."""
    sessions = ordered(snapshot.sessions, sort)
    pools = _table(_POOLS, snapshot.pools, width)
    return Group(pools, *_messages(snapshot.pools), Text(""), _table(_SESSIONS, sessions, width))


def _head(snapshot: Snapshot, sort: str, trouble: str) -> Text:
    if trouble:
        return Text(f"{_printable(trouble)} (as it was at {_clock(snapshot.at)}; q: quit)", "bold red", no_wrap=True)
    rate = sum(each.executions_per_second or 0.0 for each in snapshot.pools)
    counts = f"{_many(len(snapshot.pools), 'pool')}, {_many(len(snapshot.sessions), 'session')}, {rate:.1f} runs/s"
    keys = f"  sorted by {sort} (s: another, q: quit)"
    return Text.assemble((f"carrel top  {_clock(snapshot.at)}  {counts}", "bold"), (keys, "dim"), no_wrap=True)


def _table(columns: Sequence[Column[T]], rows: Sequence[T], width: int, marked: str = "") -> Table:
    table = Table(box=None, padding=(0, _GAP, 0, 0), header_style="bold", pad_edge=False)
    shown = _fitting(columns, rows, width)
    for each in shown:
        style = "bold reverse" if each.name == marked else "bold"
        table.add_column(
            each.name,
            justify="right" if each.is_number else "left",
            header_style=style,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(_printable(each.cell(row)), each.style(row)) for each in shown))
    return table


def _fitting(columns: Sequence[Column[T]], rows: Sequence[T], width: int) -> list[Column[T]]:
    needed = {each.name: max(map(len, [each.name, *(each.cell(row) for row in rows)])) + _GAP for each in columns}
    shown = list(columns)
    while sum(needed[each.name] for each in shown) > width + _GAP:
        least = max(shown, key=lambda each: each.rank)
        if not least.rank:
            break
        shown.remove(least)
    return shown


def _messages(pools: Sequence[PoolLine]) -> list[Text]:
    """Why a pool is not served, or not yet; a line each."""
    told = (f"{each.name}: {each.message}" for each in pools if each.message)
    return [Text(_printable(text), "yellow", no_wrap=True, overflow="ellipsis") for text in told]


def _printable(text: str) -> str:
    """Without what a terminal would obey."""
    return "".join(each if each.isprintable() else " " for each in text)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _rate(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} ms" if value < 1000 else f"{value / 1000:.1f} s"


def _bytes(value: int | None) -> str:
    if value is None:
        return "-"
    size = float(value)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}" if minutes else f"{rest} s"


def _refused(pool: PoolLine) -> str:
    return "" if pool.isolation else "red"


_POOLS: tuple[Column[PoolLine], ...] = (
    Column("Pool", 0, lambda each: each.name, _refused, is_number=False),
    Column("Isolation", 4, lambda each: each.isolation or "refused", _refused, is_number=False),
    Column("Warm", 2, lambda each: str(each.warm)),
    Column("Starting", 8, lambda each: str(each.starting)),
    Column("Live", 0, lambda each: str(each.live)),
    Column("Max", 6, lambda each: str(each.maximum)),
    Column("Failed", 5, lambda each: str(each.failed)),
    Column("Runs/s", 0, lambda each: _rate(each.executions_per_second)),
    Column("Fails/s", 7, lambda each: _rate(each.failures_per_second)),
    Column("First p99", 3, lambda each: _ms(each.first_call_p99_ms)),
    Column("Run p50", 9, lambda each: _ms(each.execution_p50_ms)),
    Column("Run p99", 1, lambda each: _ms(each.execution_p99_ms)),
)
_SESSIONS: tuple[Column[SessionLine], ...] = (
    Column("Session", 0, lambda each: each.identifier, lambda each: "" if each.state == "Idle" else "bold", False),
    Column("Pool", 3, lambda each: each.pool, is_number=False),
    Column("State", 5, lambda each: each.state, is_number=False),
    Column("Cpu %", 0, lambda each: "-" if each.cpu_percent is None else f"{each.cpu_percent:.1f}"),
    Column("Cpu s", 7, lambda each: "-" if each.cpu_ms is None else f"{each.cpu_ms / 1000:.2f}"),
    Column("Memory", 0, lambda each: _bytes(each.memory_bytes)),
    Column("Disk", 6, lambda each: _bytes(each.disk_bytes)),
    Column("Runs", 2, lambda each: str(each.executions)),
    Column("Idle", 1, lambda each: _span(each.idle_s) if each.state == "Idle" else "-"),
    Column("Ends in", 8, lambda each: _span(each.expires_in_s) if each.state == "Idle" else "-"),
    Column(
        "Last",
        4,
        lambda each: each.last_status or "-",
        lambda each: "red" if each.last_status == "Failed" else "",
        False,
    ),
)
_MARKED = {"cpu": "Cpu %", "memory": "Memory", "executions": "Runs", "idle": "Idle", "name": "Session"}
