"""`GET /.carrel/usage`: what sessions have used, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from carrel.accounts import Sums
from carrel.errors import RequestInvalid
from carrel.store.records import UsageSum
from carrel.wire import jsons

POOL, PRINCIPAL, DAY = "pool", "principal", "day"
GROUPS = (POOL, PRINCIPAL, DAY)
MAX_DAYS = 3660
MAX_ROWS = 50_000
Key = tuple[str | None, str | None, str | None]
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_FIGURES = (
    *("sessionSeconds", "cpuSeconds", "sessions", "peakSessions"),
    *("executions", "failedExecutions", "bytesIn", "bytesOut"),
)


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Days of UTC, both included, and what the sums are parted by."""

    first: date
    last: date
    groups: tuple[str, ...]


def decode_usage_query(query: Mapping[str, str], today: date) -> UsageQuery:
    """From the first of this month to today, by all three, where nothing is said. Raises RequestInvalid."""
    first = _day(query, "from") or today.replace(day=1)
    last = _day(query, "to") or today
    if last < first and "from" in query and "to" in query:
        raise RequestInvalid("'to' lies before 'from'.", target="to")
    if (last - first).days > MAX_DAYS:
        raise RequestInvalid(f"At most {MAX_DAYS} days can be asked for at once.", target="from")
    groups = tuple(each.strip().lower() for each in query.get("groupby", ",".join(GROUPS)).split(",") if each.strip())
    if not set(groups) <= set(GROUPS):
        raise RequestInvalid(f"'groupBy' is a list of {', '.join(GROUPS)}.", target="groupBy")
    return UsageQuery(first, last, tuple(each for each in GROUPS if each in groups))


def weeks(first: date, last: date) -> Iterator[tuple[str, str]]:
    """The days in parts, each so short that a database can sort what is in it."""
    while first <= last:
        end = first + min(timedelta(days=6), last - first)
        yield first.isoformat(), end.isoformat()
        if end == last:
            return
        first = end + timedelta(days=1)


def added(rows: dict[Key, UsageSum], more: Iterable[UsageSum]) -> None:
    """Of further days. Raises RequestInvalid where there are too many rows."""
    for each in more:
        key = each.pool.lower if each.pool else None, each.principal, each.day
        rows.setdefault(key, replace(each, sums=Sums())).sums.add(each.sums)
    if len(rows) > MAX_ROWS:
        raise RequestInvalid(f"These are more than {MAX_ROWS} rows: group by less, or ask for fewer days.")


def ordered(rows: Iterable[UsageSum]) -> list[UsageSum]:
    """By pool, day and principal."""
    return sorted(rows, key=lambda row: (row.pool.lower if row.pool else "", row.day or "", row.principal or ""))


def encode_usage(query: UsageQuery, rows: list[UsageSum], names: Mapping[str, str]) -> bytes:
    """`names` of principals, as far as they are known."""
    total = Sums()
    for row in rows:
        total.add(row.sums)
    return jsons.encode(
        {
            "from": query.first.isoformat(),
            "to": query.last.isoformat(),
            "groupBy": list(query.groups),
            "value": [{**_heads(row, query.groups, names), **_figures(row.sums)} for row in rows],
            "total": _figures(total),
        }
    )


def encode_usage_csv(query: UsageQuery, rows: list[UsageSum], names: Mapping[str, str]) -> bytes:
    """With a line of names. A text that a spreadsheet would take for a formula has an apostrophe before it."""
    file = io.StringIO()
    heads = [name for group in query.groups for name in _NAMES[group]]
    writer = csv.writer(file, lineterminator="\r\n")  # RFC 4180
    writer.writerow([*heads, *_FIGURES])
    for row in rows:
        told = _heads(row, query.groups, names)
        writer.writerow([*(_harmless(told[name] or "") for name in heads), *_figures(row.sums).values()])
    return file.getvalue().encode("utf-8", "replace")


_NAMES = {POOL: ("pool", "poolId"), PRINCIPAL: ("principal", "principalName"), DAY: ("day",)}


def _heads(row: UsageSum, groups: tuple[str, ...], names: Mapping[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if POOL in groups and row.pool is not None:
        told |= {"pool": row.pool.name, "poolId": row.pool.resource_id}
    if PRINCIPAL in groups and row.principal is not None:
        told |= {"principal": row.principal, "principalName": names.get(row.principal.lower())}
    return told | ({"day": row.day} if DAY in groups else {})


def _figures(sums: Sums) -> dict[str, int | float]:
    figures = (
        *(round(sums.session_us / 1e6, 3), round(sums.cpu_us / 1e6, 3), sums.sessions, sums.peak),
        *(sums.executions, sums.failed, sums.bytes_in, sums.bytes_out),
    )
    return dict(zip(_FIGURES, figures, strict=True))


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _day(query: Mapping[str, str], name: str) -> date | None:
    text = query.get(name)
    if not text:
        return None
    try:
        if not (text.isascii() and _DAY.fullmatch(text)):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise RequestInvalid(f"'{name}' is a day of UTC, such as 2026-11-22.", target=name) from None


def today_of(now: float) -> date:
    return datetime.fromtimestamp(now, UTC).date()
