"""The last errors of a process: what a person looks for first when something is wrong. A bounded list in memory, newest last.

No path, no identifier, no text of a caller's stands in it: route patterns, codes, and messages that are our own.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from carrel import tracing

KEPT = 100
_LONGEST = 500  # characters of a message
_OURS = ("carrel", "__main__")  # whose loggers say nothing that must not be repeated


@dataclass(frozen=True, slots=True)
class Trouble:
    at: float
    part: str  # which process
    trace: str  # "" where it was no call
    route: str  # method and pattern; "" where it was no request
    pool: str  # its key; "" where it is nobody's
    code: str  # of the error, or the level of a line of the log
    message: str

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Trouble:
        return cls(**fields)


class Troubles(logging.Handler):
    """As a handler of the log it keeps warnings and errors, but for the lines of requests, which are noted with their codes."""

    def __init__(self, part: str = "gateway") -> None:
        super().__init__(logging.WARNING)
        self._part = part
        self._last: deque[Trouble] = deque(maxlen=KEPT)

    def note(
        self, code: str, message: str, *, trace: str = "", route: str = "", pool: str = "", at: float | None = None
    ) -> None:
        now = time.time() if at is None else at
        self._last.append(Trouble(now, self._part, trace, route, pool, code, message[:_LONGEST]))

    def last(self) -> list[Trouble]:
        return list(self._last)

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "carrel.access" or record.name.partition(".")[0] not in _OURS:
            return
        fields = vars(record)
        why = fields.get("reason") or fields.get("why")
        call = tracing.current()
        self.note(
            record.levelname.lower(),
            f"{record.getMessage()}: {why}" if why else record.getMessage(),
            trace=str(fields.get("trace") or (call.trace if call is not None else "")),
            pool=str(fields.get("pool", "")),
            at=record.created,
        )


def latest(*many: Iterable[Trouble]) -> list[Trouble]:
    """The last of them all together, in the order in which they came."""
    return sorted((each for troubles in many for each in troubles), key=lambda each: each.at)[-KEPT:]
