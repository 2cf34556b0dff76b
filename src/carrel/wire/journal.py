"""Lines of the host's journal: a checksum, a space, JSON, and a newline. Written by the host alone and read by it and by the gateway."""

from __future__ import annotations

import json
import zlib
from typing import Any

from carrel.accounts import NAMES, Entry, Logged, Spent, Sums

_CHECKSUM = 8  # hexadecimal digits
_ENCODER = json.JSONEncoder(
    separators=(",", ":"), check_circular=False
)  # one for all: a line is written for each execution


def encode_spent(pool: str, principal: str, day: int, sums: Sums) -> bytes:
    """Zeros are left out."""
    told = {name: value for name in NAMES if (value := getattr(sums, name))}
    return encode({"p": pool, "w": principal, "d": day, "s": told})


def encode_logged(entry: Logged) -> bytes:
    head = {"p": entry.pool, "w": entry.principal, "t": entry.at, "k": entry.keep_s}
    return encode({**head, "i": entry.identifier, "st": entry.status, "l": dict(entry.fields)})


def encode(fields: dict[str, Any]) -> bytes:
    payload = _ENCODER.encode(fields).encode("ascii")
    return b"%08x %s\n" % (zlib.crc32(payload), payload)


def is_whole(line: bytes) -> bool:
    """Whether a line, with its newline, is one that was written to its end and is as it was written."""
    if len(line) < _CHECKSUM + 4 or line[-1:] != b"\n" or line[_CHECKSUM : _CHECKSUM + 1] != b" ":
        return False
    return line[:_CHECKSUM] == b"%08x" % zlib.crc32(memoryview(line)[_CHECKSUM + 1 : -1])


def fields_of(line: bytes) -> dict[str, Any]:
    """Of a whole line."""
    found: dict[str, Any] = json.loads(line[_CHECKSUM + 1 :].decode("ascii"))
    return found


def decode(line: bytes) -> Entry | None:
    """The entry of a whole line; None for what a later version may have written besides. Raises ValueError, TypeError, LookupError."""
    fields = fields_of(line)
    if "s" in fields:
        sums = Sums(**{name: int(value) for name, value in fields["s"].items() if name in NAMES})
        return Spent(str(fields["p"]), str(fields["w"]), int(fields["d"]), sums)
    if "l" in fields:
        names = (str(fields["i"]), str(fields["w"]), str(fields["st"]))
        return Logged(str(fields["p"]), float(fields["t"]), int(fields["k"]), *names, dict(fields["l"]))
    return None
