"""How many refused calls are recorded: anybody can make as many as they like, and the log must not be theirs to fill.

Decides, performs nothing. A window of time has so many for each peer and for all; what was left out is counted and told at its end.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

WINDOW_S = 10.0
OF_A_PEER, OF_ALL = 20, 200  # in one window


@dataclass(slots=True)
class Refusals:
    _until: float = 0.0
    _let: Counter[str] = field(default_factory=Counter)
    _omitted: Counter[str] = field(default_factory=Counter)  # by action

    @property
    def has_omitted(self) -> bool:
        return bool(self._omitted)

    def let(self, peer: str, action: str, now: float) -> bool:
        """Whether this one is recorded."""
        if now >= self._until and not self._omitted:
            self._until = now + WINDOW_S
            self._let.clear()
        if self._let[peer] < OF_A_PEER and self._let.total() < OF_ALL:
            self._let[peer] += 1
            return True
        self._omitted[action] += 1
        return False

    def ended(self, now: float) -> dict[str, int]:
        """What was left out in a window that is over, by action; empty where there is nothing to tell."""
        if now < self._until or not self._omitted:
            return {}
        told = dict(self._omitted)
        self._omitted.clear()
        return told
