"""The memory that finished executions may hold, those of all sessions of a host together. Books only: the stores do the forgetting.

Each session's store has bounds of its own (store.py), but a host has hundreds of sessions. Where all of them together hold too much, the
one that holds most forgets its oldest result, until it fits: so a session that floods loses its own results, not its neighbours'.
"""

from __future__ import annotations

from typing import Protocol

from carrel.models import MIB

LEAST_BYTES = 64 * MIB
MOST_BYTES = 1024 * MIB
SHARE = 16  # of the machine's memory


def results_bytes(memory_bytes: int) -> int:
    """What the results of all sessions may hold on a machine with so much memory."""
    return min(MOST_BYTES, max(LEAST_BYTES, memory_bytes // SHARE))


class Holder(Protocol):
    """A session's store. `give_up` is called while the budget is exceeded and this one holds most; it makes `size` smaller."""

    @property
    def size(self) -> int: ...

    def give_up(self) -> None: ...


class Budget:
    def __init__(self, most_bytes: int = LEAST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.used_bytes = 0
        self._holders: dict[int, Holder] = {}

    def join(self, holder: Holder) -> None:
        self._holders[id(holder)] = holder

    def leave(self, holder: Holder) -> int:
        """Its session has ended; the bytes that this frees. Safe to call again."""
        if self._holders.pop(id(holder), None) is None:
            return 0
        self.used_bytes -= holder.size
        return holder.size

    def changed(self, holder: Holder, by: int) -> None:
        """A holder's size has changed. What leaves after its end is counted no more."""
        if id(holder) not in self._holders:
            return
        self.used_bytes += by
        while by > 0 and self.used_bytes > self.most_bytes:
            max(self._holders.values(), key=lambda each: each.size).give_up()
