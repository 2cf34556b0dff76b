"""What gateway and auditor say to each other, over a socket that keeps messages whole.

The gateway numbers its records from 1 on under a name of its own (`boot`), and keeps each until the auditor has written it. The auditor
tells how far it has come; one that has just started tells it too, and is sent again what it does not have. So neither's end loses or
doubles anything as long as the other one lives.

    gateway → auditor   R boot number flags NEWLINE record      Q NEWLINE question, with a descriptor where the answer goes
    auditor → gateway   {"boot": …, "written": N, "synced": N}  {"started": {boot: N, …}}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from carrel.audit.chain import OWN

MOST = (
    120 * 1024
)  # bytes of a message: what fits into a socket's buffer however small the machine has it, and into a line
BUFFER_BYTES = 1024 * 1024  # of the socket, where the machine allows it

WAITED, FIRST = (
    "w",
    "f",
)  # flags: somebody waits for it to be on the disk; nothing that came before it will be sent again

_UNKNOWN = {"action": "audit/unreadable", "outcome": "Failed"}


@dataclass(frozen=True, slots=True)
class Message:
    """One record on its way."""

    boot: str
    number: int
    flags: str
    record: Mapping[str, object]

    def encode(self) -> bytes:
        head = f"R {self.boot} {self.number} {self.flags}\n"
        return head.encode() + json.dumps(self.record, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self | None:
        """None for what is no such message. A record that cannot be read is one all the same: that there was one is worth a line."""
        head, _, body = data.partition(b"\n")
        words = head.decode("latin-1").split(" ")
        if len(words) != 4 or words[0] != "R" or not words[2].isdigit() or not 0 < len(words[1]) <= 32:
            return None
        return cls(words[1], int(words[2]), words[3], record_of(body))


def record_of(body: bytes) -> dict[str, Any]:
    """A record without what is the chain's to say."""
    try:
        record = json.loads(body)
    except (ValueError, RecursionError):
        return dict(_UNKNOWN)
    if not isinstance(record, dict):
        return dict(_UNKNOWN)
    return {name: value for name, value in record.items() if name not in OWN}


def question(data: bytes) -> dict[str, Any] | None:
    """What is asked, where it is a question."""
    head, newline, body = data.partition(b"\n")
    return record_of(body) if head == b"Q" and newline else None


def ask(fields: Mapping[str, object]) -> bytes:
    return b"Q\n" + json.dumps(fields).encode()
