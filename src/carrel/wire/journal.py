"""Lines of the host's journal: a checksum, a space, JSON, and a newline. Written by the host alone and read by it and by the gateway."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from carrel.accounts import NAMES, Entry, Logged, Spent, Sums

_CHECKSUM = 8  # hexadecimal digits


def encode_spent(pool: str, principal: str, day: int, sums: Sums) -> bytes:
    """Zeros are left out."""
    told = {name: value for name in NAMES if (value := getattr(sums, name))}
    return encode({"p": pool, "w": principal, "d": day, "s": told})


def encode_logged(entry: Logged) -> bytes:
    head = {"p": entry.pool, "w": entry.principal, "t": entry.at, "k": entry.keep_s}
    return encode({**head, "i": entry.identifier, "st": entry.status, "l": dict(entry.fields)})


def encode(fields: dict[str, Any]) -> bytes:
    payload = json.dumps(fields, separators=(",", ":")).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def is_whole(line: bytes) -> bool:
    """Whether a line, with its newline, is one that was written to its end and is as it was written."""
    if len(line) < _CHECKSUM + 4 or line[-1:] != b"\n" or line[_CHECKSUM : _CHECKSUM + 1] != b" ":
        return False
    return line[:_CHECKSUM] == b"%08x" % zlib.crc32(memoryview(line)[_CHECKSUM + 1 : -1])


def fields_of(line: bytes) -> dict[str, Any]:
    """Of a whole line."""
    found: dict[str, Any] = json.loads(line[_CHECKSUM + 1 :])
    return found


def decode(lines: Iterable[bytes]) -> Iterator[Entry]:
    """Entries of whole lines. What a later version may have written besides is passed over."""
    for line in lines:
        fields = fields_of(line)
        if "s" in fields:
            sums = Sums(**{name: value for name, value in fields["s"].items() if name in NAMES})
            yield Spent(fields["p"], fields["w"], fields["d"], sums)
        elif "l" in fields:
            yield Logged(fields["p"], fields["t"], fields["k"], fields["i"], fields["w"], fields["st"], fields["l"])
