"""`head`: how far the chain had come when it was last safe on the disk, so that a log whose end was cut can be told.

Two slots that take turns, and say whose turn it was: a write that a power cut tears leaves the other, and a slot that is not the one which
belongs beside the other is told. It is written after the lines it speaks of are on the disk, so it is never ahead of them by itself.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from typing import Self

from carrel.audit.chain import START, Seal

NAME = "head"
_SLOT = 512  # one sector


@dataclass(frozen=True, slots=True)
class Head:
    """The last line: its number and hash."""

    seq: int = 0
    hash: str = START


@dataclass(frozen=True, slots=True)
class Slot:
    turn: int  # from 1
    head: Head

    def encode(self, seal: Seal) -> bytes:
        text = b"%d %d %s " % (self.turn, self.head.seq, self.head.hash.encode())
        return (text + seal.head(text).encode()).ljust(_SLOT - 1) + b"\n"

    @classmethod
    def decode(cls, content: bytes, seal: Seal) -> Self | None:
        words = content.split()
        if len(words) != 4 or not (words[0].isdigit() and words[1].isdigit()):
            return None
        text = b"%s %s %s " % (words[0], words[1], words[2])
        if not hmac.compare_digest(seal.head(text).encode(), words[3]):
            return None
        return cls(int(words[0]), Head(int(words[1]), words[2].decode()))


@dataclass(frozen=True, slots=True)
class Found:
    """What the file says: the newest slot, and whether the file is as it was written. Of a new log there is none."""

    newest: Slot | None
    is_sound: bool

    @property
    def head(self) -> Head | None:
        return self.newest.head if self.newest else None


def read(descriptor: int, seal: Seal) -> Found:
    content = os.pread(descriptor, 2 * _SLOT, 0)
    slots = [Slot.decode(content[at : at + _SLOT], seal) for at in (0, _SLOT)]
    here = [slot for number, slot in enumerate(slots) if slot is not None and slot.turn % 2 == number]
    newest = max(here, key=lambda slot: slot.turn, default=None)
    if newest is None:
        return Found(None, is_sound=not content)
    is_paired = len(here) == 2 and abs(here[0].turn - here[1].turn) == 1
    return Found(newest, is_sound=is_paired or (newest.turn == 1 and not content[:_SLOT].strip(b"\0")))


def write(descriptor: int, slot: Slot, seal: Seal) -> None:
    os.pwrite(descriptor, slot.encode(seal), slot.turn % 2 * _SLOT)
