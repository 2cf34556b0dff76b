"""Records in the order in which each gateway numbered them, also where an auditor before this one died with some of them in its hands.

Decides, performs nothing: a number that was written already is passed over, one that comes too early waits for those before it. Whoever
numbered them is asked to send them again; where it does not, because it is dead too, they are lost, which is written.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from carrel.audit.messages import FIRST, Message

PATIENCE_S = 3.0  # for what is asked for again
_MOST_BOOTS = 16  # gateways that are remembered
_MOST_EARLY = 20_000  # records

Record = Mapping[str, object]


@dataclass(slots=True)
class _Boot:
    last: int = 0
    early: dict[int, Message] = field(default_factory=dict)
    since: float = 0.0  # when the first of them came


class Arrivals:
    def __init__(self, written: Mapping[str, int]) -> None:
        """`written`: how far each gateway's records are in the log already."""
        self._boots: OrderedDict[str, _Boot] = OrderedDict((name, _Boot(last)) for name, last in written.items())

    @property
    def come(self) -> dict[str, int]:
        """How far each gateway's records have come, the latest gateway last."""
        return {name: boot.last for name, boot in self._boots.items()}

    @property
    def waits(self) -> bool:
        return any(boot.early for boot in self._boots.values())

    def take(self, message: Message, now: float) -> tuple[list[Message], bool]:
        """What can be written now, and whether its gateway is to be asked for what is missing."""
        boot = self._boots.setdefault(message.boot, _Boot())
        self._boots.move_to_end(message.boot)
        while len(self._boots) > _MOST_BOOTS:
            self._boots.popitem(last=False)
        if FIRST in message.flags and message.number > boot.last + 1:
            boot.last = message.number - 1  # those before were written, or it would send them
        if message.number <= boot.last:
            return [], False
        if message.number > boot.last + 1:
            is_first = not boot.early
            if is_first:
                boot.since = now
            if len(boot.early) < _MOST_EARLY:
                boot.early[message.number] = message
            return [], is_first
        boot.last = message.number
        return [message, *_following(boot)], False

    def overdue(self, now: float, *, is_ending: bool = False) -> tuple[list[Message], list[Record]]:
        """What is not waited for any longer: the records that came too early, and for each run of those before them what to tell."""
        found: list[Message] = []
        told: list[Record] = []
        for name, boot in self._boots.items():
            while boot.early and (is_ending or now - boot.since > PATIENCE_S):
                first = min(boot.early)
                told.append({"gateway": name, "first": boot.last + 1, "last": first - 1})
                boot.last = first - 1
                found += _following(boot)
        return found, told


def _following(boot: _Boot) -> list[Message]:
    found = []
    while (message := boot.early.pop(boot.last + 1, None)) is not None:
        boot.last += 1
        found.append(message)
    return found


def written(ids: Iterable[object]) -> dict[str, int]:
    """From the ids of records that are in the log, in their order."""
    found: dict[str, int] = {}
    for id in ids:
        boot, _, number = str(id).rpartition("-")
        if boot and number.isdigit():
            found[boot] = max(int(number), found.pop(boot, 0))
    return found
