"""How `carrel top` looks: two tables within the terminal's height. What comes from the server is text, never markup."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from carrel.cli.top_sampling import PoolLine, SessionLine, Snapshot, ordered

_FRAME = 6  # lines that are neither a pool's nor a session's: the head, two tables' heads, and one line between them


def screen(snapshot: Snapshot, sort: str, height: int, trouble: str = "") -> RenderableType:
    """What fits; `trouble` is why there is nothing newer."""
    pools = snapshot.pools[: max(1, (height - _FRAME) // 2)]
    rows = max(1, height - _FRAME - len(pools))
    sessions = ordered(snapshot.sessions, sort)
    return Group(
        _head(snapshot, sort, trouble),
        _pools(pools),
        Text(""),
        _sessions(sessions[:rows], sort),
    )


def whole(snapshot: Snapshot, sort: str) -> RenderableType:
    """All of it, for a pipe or a file."""
    return Group(_pools(snapshot.pools), Text(""), _sessions(ordered(snapshot.sessions, sort), sort))


def _head(snapshot: Snapshot, sort: str, trouble: str) -> Text:
    if trouble:
        return Text(f"{trouble} (as it was at {_clock(snapshot.at)}; q: quit)", "bold red", no_wrap=True)
    live = len(snapshot.sessions)
    rate = sum(each.executions_per_second or 0.0 for each in snapshot.pools)
    text = f"carrel top  {_clock(snapshot.at)}  {len(snapshot.pools)} pools, {live} sessions, {rate:.1f} executions/s"
    return Text.assemble((text, "bold"), (f"  sorted by {sort} (s: another, q: quit)", "dim"), no_wrap=True)


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _table(*columns: tuple[str, str]) -> Table:
    """Columns with their alignment: left or right. The last takes what is left of the width."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=False, pad_edge=False)
    for name, side in columns:
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True, overflow="ellipsis")
    return table


def _pools(pools: Iterable[PoolLine]) -> Table:
    numbers = ("Warm", "Starting", "Live", "Max", "Failed", "Run/s", "Fail/s", "First p99", "Run p50", "Run p99")
    table = _table(("Pool", "left"), ("Isolation", "left"), *((each, "right") for each in numbers), ("", "left"))
    for each in pools:
        style = "" if each.isolation else "red"
        table.add_row(
            Text(each.name, style),
            Text(each.isolation or "refused", style),
            *map(str, (each.warm, each.starting, each.live, each.maximum, each.failed)),
            _rate(each.executions_per_second),
            _rate(each.failures_per_second),
            *(_ms(time_ms) for time_ms in (each.first_call_p99_ms, each.execution_p50_ms, each.execution_p99_ms)),
            Text(each.message, "yellow"),
        )
    return table


def _sessions(sessions: Iterable[SessionLine], sort: str) -> Table:
    marks = {"cpu": "Cpu %", "memory": "Memory", "executions": "Runs", "idle": "Idle", "name": "Session"}
    table = _table(
        *((each, "left") for each in ("Session", "Pool", "State")),
        *((each, "right") for each in ("Cpu %", "Cpu s", "Memory", "Disk", "Runs", "Idle", "Ends in")),
        ("Last", "left"),
    )
    for column in table.columns:
        if column.header == marks[sort]:
            column.header_style = "bold reverse"
    for each in sessions:
        table.add_row(
            Text(each.identifier, "bold" if each.state != "Idle" else ""),
            Text(each.pool),
            Text(each.state),
            "-" if each.cpu_percent is None else f"{each.cpu_percent:.1f}",
            "-" if each.cpu_ms is None else f"{each.cpu_ms / 1000:.2f}",
            _bytes(each.memory_bytes),
            _bytes(each.disk_bytes),
            str(each.executions),
            *((_span(each.idle_s), _span(each.expires_in_s)) if each.state == "Idle" else ("-", "-")),
            Text(each.last_status or "-", "red" if each.last_status == "Failed" else ""),
        )
    return table


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
