"""One line of the log: how it is sealed, and what it says when its seal holds.

The seal is over bytes as they stand in the file, never over what JSON makes of them: there is no second spelling of a line to agree on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from carrel.statefiles import parsed

START = "0" * 64  # what the first line of all has for `previous`
MOST_LINE = (
    128 * 1024
)  # bytes: code that was asked for has 64 KiB at most (server/audit/noting.py), and escapes double it
OWN = ("seq", "previous", "hash")  # the chain's fields of a record; nobody else gives them

_END = b',"hash":"%s"}'
_END_BYTES = len(_END) - 2 + 64


class Broken(Exception):
    """A line is not what was written. The message says why, in a few words."""


@dataclass(frozen=True, slots=True)
class Link:
    """A line whose seal holds."""

    seq: int
    previous: str
    hash: str
    fields: Mapping[str, object] = field(repr=False)


class Seal:
    """The key at work. `purpose` parts what is sealed for one use from the other."""

    def __init__(self, key: bytes) -> None:
        self._line = hmac.new(key, b"carrel audit line\0", hashlib.sha256)
        self._head = hmac.new(key, b"carrel audit head\0", hashlib.sha256)

    @classmethod
    def of(cls, file: Path) -> Seal:
        """With the key of a file, made if missing. Raises StateError."""
        return cls(parsed(file, lambda: secrets.token_hex(32).encode() + b"\n", _key))

    def line(self, seq: int, previous: str, record: Mapping[str, object]) -> tuple[bytes, str]:
        """A record as it stands in the file, and its hash."""
        body = json.dumps({"seq": seq, "previous": previous, **record}, separators=(",", ":")).encode()[:-1]
        digest = self._of(self._line, body)
        return body + _END % digest.encode() + b"\n", digest

    def opened(self, line: bytes) -> Link:
        """What a line says, which stands without its newline. Raises Broken."""
        body, end = line[:-_END_BYTES], line[-_END_BYTES:]
        digest = end[9:-2].decode("latin-1")
        if len(line) > MOST_LINE or end != _END % digest.encode("latin-1") or not body.startswith(b'{"seq":'):
            raise Broken("it is not a line of this log")
        if not hmac.compare_digest(self._of(self._line, body).encode(), digest.encode("latin-1")):
            raise Broken("its hash is not that of what it says")
        fields = json.loads(line)
        return Link(int(fields["seq"]), str(fields["previous"]), digest, fields)

    def head(self, text: bytes) -> str:
        return self._of(self._head, text)

    @staticmethod
    def _of(begun: hmac.HMAC, text: bytes) -> str:
        mac = begun.copy()
        mac.update(text)
        return mac.hexdigest()


def _key(text: bytes) -> bytes:
    key = bytes.fromhex(text.decode("ascii").strip())
    if len(key) != 32:
        raise ValueError("a key is 32 bytes in hex")
    return key
