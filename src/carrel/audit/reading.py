"""Records that fit a filter, a page at a time, from files that may be large: each page looks at a bounded part of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from carrel.audit.folder import File, files, opened
from carrel.audit.trail import stamp

MOST = 300  # records of a page
LOOKED_BYTES = 32 * 1024 * 1024  # of files, for one page; at least one file

Fields = Mapping[str, Any]

# What a filter compares, as it is: in any case, and whole.
COMPARED = ("principal", "action", "outcome", "pool", "session", "trace")


@dataclass(frozen=True, slots=True)
class Filter:
    """Empty: any. `pool` is a pool's name, or its group and name; `action` may be the first part of one, such as `pools`."""

    since: str = ""  # times in the log's own form: they compare as text
    until: str = ""
    principal: str = ""
    action: str = ""
    outcome: str = ""
    pool: str = ""
    session: str = ""
    trace: str = ""

    @classmethod
    def from_json(cls, given: Fields) -> Self:
        return cls(**{each.name: str(given.get(each.name, "")) for each in fields(cls)})

    def to_json(self) -> dict[str, str]:
        return {name: value for name, value in asdict(self).items() if value}

    def fits(self, record: Fields) -> bool:
        at = str(record.get("at", ""))
        if (self.since and at < self.since) or (self.until and at >= self.until):
            return False
        return all(_fits(name, wanted, record) for name in COMPARED if (wanted := getattr(self, name).lower()))

    def may_hold(self, file: File, following: File | None) -> bool:
        """Whether a file may have records of the time that is asked for. Clocks may go back a little, and files of theirs overlap."""
        begins, ends = stamp(file.began_at - _SLACK_S), stamp(following.began_at + _SLACK_S) if following else ""
        return not (self.until and begins >= self.until) and not (self.since and ends and ends < self.since)


_SLACK_S = 3600.0


def _fits(name: str, wanted: str, record: Fields) -> bool:
    value = str(record.get(name, "")).lower()
    if value == wanted:
        return True
    if name == "principal":
        return str(record.get("name", "")).lower() == wanted
    if name == "action":
        return value.startswith(f"{wanted.rstrip('/')}/")
    return name == "pool" and value.rpartition("/")[2] == wanted


@dataclass(frozen=True, slots=True)
class Page:
    """`cursor` is where the next one goes on, None at the end. A page may be empty and not the last."""

    records: list[Fields]
    cursor: int | None


def page(folder: int, wanted: Filter, *, cursor: int | None, limit: int = MOST, is_newest_first: bool = True) -> Page:
    """The records after `cursor`, in either direction. Lines that cannot be read are left out here: `verify` tells them."""
    there = _there(folder, wanted, cursor, is_newest_first)
    looked = 0
    found: list[Fields] = []
    for number, file in enumerate(there):
        if number and looked >= LOOKED_BYTES:
            return Page(found, _beyond(there[number - 1], file, is_newest_first))
        descriptor = opened_or_gone(folder, file)
        if descriptor is None:
            continue
        with os.fdopen(descriptor, "rb") as stream:
            looked += os.fstat(descriptor).st_size
            fitting = [each for each in _records(stream) if _is_beyond(each, cursor, is_newest_first)]
        fitting = [each for each in fitting if wanted.fits(each)]
        found += reversed(fitting) if is_newest_first else fitting
        if len(found) > limit:
            return Page(found[:limit], int(found[limit - 1]["seq"]))
    return Page(found, None)


def _there(folder: int, wanted: Filter, cursor: int | None, is_newest_first: bool) -> list[File]:
    everything = files(folder)
    following: Sequence[File | None] = [*everything[1:], None]
    kept = []
    for file, after in zip(everything, following, strict=True):
        is_passed = cursor is not None and (
            file.first >= cursor if is_newest_first else after is not None and after.first <= cursor + 1
        )
        if not is_passed and wanted.may_hold(file, after):
            kept.append(file)
    return kept[::-1] if is_newest_first else kept


def _beyond(done: File, file: File, is_newest_first: bool) -> int:
    """A cursor between two files, of which the first was looked through."""
    return done.first if is_newest_first else file.first - 1


def _is_beyond(record: Fields, cursor: int | None, is_newest_first: bool) -> bool:
    if cursor is None:
        return True
    seq = int(record["seq"])
    return seq < cursor if is_newest_first else seq > cursor


def _records(lines: Iterator[bytes]) -> Iterator[Fields]:
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and isinstance(record.get("seq"), int):
            yield record


def opened_or_gone(folder: int, file: File) -> int | None:
    """None for one that was removed meanwhile, because it was old."""
    try:
        return opened(folder, file.name, os.O_RDONLY)
    except FileNotFoundError:
        return None
