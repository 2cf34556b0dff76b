"""Server-sent events, by which a running execution is told (WHATWG HTML §9.2, docs/decisions/0022).

Every `data` is one line of JSON in ASCII: no output of a program can end a line, let alone begin an event. `id` is the event's number in
its execution; who has lost the connection goes on after the last one it saw (`Last-Event-ID`).
"""

from __future__ import annotations

import re
from typing import Any

from carrel.errors import RequestInvalid
from carrel.wire import jsons

CONTENT_TYPE = b"text/event-stream; charset=utf-8"
COMMENT = b": still here\n\n"  # readers skip it; it keeps idle connections from being cut on the way
MAX_NUMBER = 2**53  # what JavaScript's numbers hold

_PARAMETER = re.compile(r"\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*", re.IGNORECASE | re.ASCII)


def encode_event(kind: str, data: bytes | dict[str, Any], number: int | None = None) -> bytes:
    """`data` is a JSON document as jsons.encode writes it, or the fields of one."""
    document = data if isinstance(data, bytes) else jsons.encode(data)
    head = b"event: %s\n" % kind.encode("ascii")
    identity = b"" if number is None else b"id: %d\n" % number
    return b"%s%sdata: %s\n\n" % (head, identity, document)


def wants_events(accept: str | None) -> bool:
    """Whether a caller asks for events rather than JSON."""
    return wants("text/event-stream", accept)


def wants(kind: str, accept: str | None) -> bool:
    """Whether a caller asks for `kind` rather than JSON. It has to name it: wildcards do not. Of two named alike the first counts."""
    if not accept or kind not in accept.lower():  # nearly every call
        return False
    ranks = dict.fromkeys((kind, "application/json"), 0.0)
    first = ""
    for part in accept.split(","):
        named, *parameters = part.split(";")
        named = named.strip().lower()
        if named in ranks:
            ranks[named] = max(ranks[named], _quality(parameters))
            first = first or named
    wanted, json = ranks.values()
    return wanted > json or (wanted == json > 0 and first == kind)


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if match := _PARAMETER.fullmatch(parameter):
            return min(float(match[1]), 1.0)
    return 1.0


def decode_last_event_id(text: str | None) -> int:
    """The number of the last event that a caller has; 0 for none. Raises RequestInvalid."""
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > MAX_NUMBER:
        raise RequestInvalid("Last-Event-ID must be the id of an event of this execution.", target="Last-Event-ID")
    return int(text)
