"""What a request is aimed at: the pool and the route by its raw path, and its query.

The raw path is read, not the decoded one: `%2F` inside an identifier or a file name is a character, not a separator.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote_to_bytes

from carrel.errors import RequestInvalid

_MAX_FIELDS = 50
_REPEATED = frozenset(["name"])  # parameters that are lists: what comes more than once is joined by commas

# Fixed words match in any case, and doubled slashes anywhere: clients join their URLs carelessly.
_POOL = re.compile(
    rb"/+subscriptions/+([^/]+)/+resourcegroups/+([^/]+)/+sessionpools/+([^/]+)"
    rb"(?:/+identifier/+([^/]+))?(?:/+(.*))?",
    re.IGNORECASE | re.DOTALL,
)
_SLASHES = re.compile(rb"//+")


# A session's calls have the same path and query each time. Kept small, since both hold names, and only where they are short: a path is
# looked at before anybody knows who asks.
_KEPT = 1024
_SHORT = 1024


@dataclass(frozen=True, slots=True)
class Target:
    """A path below a pool's endpoint. `rest` is what comes after the endpoint, raw, without slashes at its ends."""

    subscription: str
    resource_group: str
    pool: str
    endpoint: str
    identifier: str | None  # of the `identifier/{id}/` form
    rest: bytes


def decode_target(raw_path: bytes) -> Target | None:
    """None where the path is not below a pool. Raises RequestInvalid on names that are not UTF-8."""
    return _kept_target(raw_path) if len(raw_path) <= _SHORT else _target(raw_path)


def _target(raw_path: bytes) -> Target | None:
    match = _POOL.fullmatch(raw_path)
    if match is None:
        return None
    subscription, resource_group, pool, identifier, rest = match.groups()
    # An absolute name after our own slash (`files/content//mnt/data/x`) is that name; any other doubled slash is a slip of the caller's.
    rest = _SLASHES.sub(b"/", (rest or b"").replace(b"//mnt/data/", b"/", 1)).strip(b"/")
    return Target(
        subscription=unquote(subscription),
        resource_group=unquote(resource_group),
        pool=unquote(pool),
        endpoint=raw_path[: match.end(3)].decode("latin-1"),
        identifier=None if identifier is None else unquote(identifier),
        rest=rest,
    )


_kept_target = lru_cache(_KEPT)(_target)


def unquote(raw: bytes) -> str:
    """Percent-decoding of a path or a part of it, once."""
    try:
        return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestInvalid("A name in the path is not UTF-8.", target="path") from error


def decode_query(raw: bytes) -> Mapping[str, str]:
    """The query parameters by lower-case name. One that comes twice must say the same both times. Raises RequestInvalid."""
    return _kept_query(raw) if len(raw) <= _SHORT else _query(raw)


def _query(raw: bytes) -> Mapping[str, str]:
    try:
        pairs = parse_qsl(raw.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise RequestInvalid("The query is not UTF-8, or has too many parameters.", target="query") from error
    query: dict[str, str] = {}
    for name, value in pairs:
        key = name.lower()
        if key in _REPEATED and key in query:
            query[key] += f",{value}"
        elif query.setdefault(key, value) != value:
            raise RequestInvalid(f"The query parameter '{name}' is given twice.", target=name)
    return MappingProxyType(query)


_kept_query = lru_cache(_KEPT)(_query)
