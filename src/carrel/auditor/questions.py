"""Answers to what a gateway asks about the log, each in a thread of its own, so that the log is written meanwhile."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from carrel.audit.reading import MOST, Filter, page

AT_ONCE = 2
_SEND_S = 10.0  # an asker that takes nothing for so long has gone

log = logging.getLogger(__name__)


class Questions:
    """About the folder that the descriptor is."""

    def __init__(self, folder: int) -> None:
        self._folder = folder
        self._free = threading.Semaphore(AT_ONCE)

    def put(self, asked: Mapping[str, Any], answer: socket.socket) -> None:
        """Answers what is in the files now. One too many is told so at once."""
        if not self._free.acquire(blocking=False):
            return _reply(answer, {"error": "busy"})
        work = threading.Thread(target=self._work, args=(asked, answer), daemon=True)
        try:
            work.start()
        except RuntimeError:  # no thread is to be had
            self._free.release()
            _reply(answer, {"error": "busy"})
        return None

    def _work(self, asked: Mapping[str, Any], answer: socket.socket) -> None:
        try:
            _reply(answer, _guarded(lambda: self._answer(asked)))
        finally:
            self._free.release()

    def _answer(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        cursor, limit = asked.get("cursor"), asked.get("limit")
        found = page(
            self._folder,
            Filter.from_json(asked.get("filter") or {}),
            cursor=cursor if isinstance(cursor, int) else None,
            limit=min(max(limit, 1), MOST) if isinstance(limit, int) else MOST,
            is_newest_first=asked.get("order") != "asc",
        )
        return {"records": found.records, "cursor": found.cursor}


def _guarded(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return work()
    except Exception:  # whatever stands in files and questions: it must not end the thread without an answer
        log.exception("a question about the log could not be answered")
        return {"error": "failed"}


def _reply(answer: socket.socket, fields: Mapping[str, Any]) -> None:
    with answer, contextlib.suppress(OSError):
        answer.settimeout(_SEND_S)
        answer.sendall(json.dumps(fields).encode())
