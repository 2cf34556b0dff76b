"""Structured logs on stderr, the same for supervisor, gateway and host: one line per event, as text or as JSON.

A line about a call says which: `trace` is its trace id (tracing.py), by itself. docs/reference/logs.md lists events and fields.
Call sites give values as fields, `log.info("session ended", extra={"pool": "python"})`, and never a secret or an identifier.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Literal

from carrel import tracing

LogFormat = Literal["text", "json"]

_OWN_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def configure(level: str, form: LogFormat, part: str) -> None:
    """Send every logger of this process to stderr. `part` is the process's name in the lines: supervisor, gateway or host."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(part) if form == "json" else _Text(part))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for talkative in ("httpx", "httpcore", "alembic"):  # they would log each request's address, where identifiers stand
        logging.getLogger(talkative).setLevel(logging.WARNING)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = {name: value for name, value in vars(record).items() if name not in _OWN_FIELDS}
    if "trace" not in fields and (context := tracing.current()) is not None:
        fields["trace"] = context.trace
    return fields


def _time(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


class _Json(logging.Formatter):
    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "part": self._part,
            "event": record.getMessage(),
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event | _fields(record), default=str)


class _Text(logging.Formatter):
    def __init__(self, part: str) -> None:
        super().__init__()
        self._part = part

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        line = f"{_time(record)} {record.levelname.lower():7} {self._part}: {record.getMessage()}{fields}"
        return line + "\n" + self.formatException(record.exc_info) if record.exc_info else line
