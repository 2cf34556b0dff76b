"""What is recorded of which call, and when: before its reply goes out, so that no caller knows of what the log does not.

A gateway that is killed between the two has recorded what nobody was answered for; never the other way round.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping

from carrel.audit.trail import stamp
from carrel.errors import AuditUnavailable
from carrel.server.audit import describing, noting
from carrel.server.audit.actions import ACTIONS, BEGUN, TOOLS, Action, Weight
from carrel.server.audit.ledger import Ledger
from carrel.server.audit.refusals import WINDOW_S, Refusals
from carrel.server.exchange import Exchange, Headers

_FREE = ("/health", "/metrics", "/openapi.json", "/console", "/.carrel/")  # how the server is can always be asked
# What a device is told while nobody has answered it; and what cannot be recorded.
_UNTOLD = ("authorization_pending", "slow_down", AuditUnavailable.code)
_NEW = (b"x-ms-new-allocation", b"true")
_TAR = b"application/x-tar"

_log = logging.getLogger("carrel.audit")


class Scribe:
    """`is_blocking`: nothing is done that cannot be recorded."""

    def __init__(self, ledger: Ledger, *, is_blocking: bool) -> None:
        self.ledger, self._is_blocking = ledger, is_blocking
        self._refusals = Refusals()
        self._is_telling = False

    async def admit(self, path: str) -> None:
        """Asked before anything is done. Raises AuditUnavailable."""
        if self._is_blocking and not self.ledger.has_room and not path.startswith(_FREE):
            await self.ledger.room()

    async def intend(self, exchange: Exchange) -> None:
        """Called before a change is begun, once it is known what it is. Raises AuditUnavailable where that cannot be recorded."""
        action = ACTIONS.get((exchange.route, exchange.method))
        if self._is_blocking and action is not None and action.weight is Weight.CHANGE:
            number = self._put(noting.of_call(exchange, action, "Begun"), is_waited=True)
            await self.ledger.written(number)

    def reply(self, exchange: Exchange, headers: Headers) -> Awaitable[None] | None:
        """Called when a reply is about to go out; what it has to wait for, if it has to."""
        action, status = ACTIONS.get((exchange.route, exchange.method)), exchange.status
        outcome = noting.outcome_of(status)
        if exchange.fault in _UNTOLD or (status < 400 and (exchange.is_deferred or action is None)):
            return None
        if outcome == "Refused" or (action is not None and 400 <= status < 500 and action.weight is Weight.GIVES):
            self._refuse(exchange, action)
            return None
        if action is None or (action.name == "files/archive" and not _is_archive(headers)):
            return None
        if action.name == "devices/answer" and "answer" not in exchange.details:
            return None  # a step on the way
        is_waited = self._is_blocking and action.weight is not Weight.PLAIN
        if _NEW in headers:
            self._put(
                {**noting.of_call(exchange, BEGUN, "Succeeded"), "details": {}}
            )  # what it was used for comes next
        number = self._put(noting.of_call(exchange, action, outcome), is_waited=is_waited)
        if not is_waited:
            return None
        return self._given(number) if action.weight is Weight.GIVES else self._done(number)

    def event(self, exchange: Exchange, action: Action, outcome: str, details: Mapping[str, object]) -> None:
        """Something that a call came to beside its reply, or after that had begun."""
        record = noting.of_call(exchange, action, outcome)
        self._put({**record, "details": {**exchange.details, **details}})

    def tool(
        self,
        exchange: Exchange,
        tool: str,
        outcome: str,
        noted: Mapping[str, object],
        digest: Callable[[str], str],
    ) -> None:
        """A tool of MCP, as the call that does the same."""
        action = TOOLS.get(tool)
        if action is None:
            return
        details = {name: value for name, value in noted.items() if name not in ("path", "isNew")}
        if isinstance(path := noted.get("path"), str):
            details |= describing.file(digest, path)
        if noted.get("isNew"):
            self.event(exchange, BEGUN, "Succeeded", {})
        self.event(exchange, action, outcome, details)

    def own(self, action: str, details: Mapping[str, object], **fields: object) -> None:
        """What nobody called for."""
        self._put(
            {"at": stamp(time.time()), "action": action, "outcome": "Succeeded", **fields, "details": dict(details)}
        )

    def _put(self, record: Mapping[str, object], *, is_waited: bool = False) -> int:
        return self.ledger.record(record, is_waited=is_waited, is_dropped=not self._is_blocking)

    async def _given(self, number: int) -> None:
        """Raises AuditUnavailable: then nothing is given."""
        await self.ledger.written(number)

    async def _done(self, number: int) -> None:
        """What is done is done, and that it was begun is on the disk: its caller is told, late at most."""
        with contextlib.suppress(AuditUnavailable):
            return await self.ledger.written(number)
        _log.error("a change was made whose end is not in the audit log yet")
        return None

    def _refuse(self, exchange: Exchange, action: Action | None) -> None:
        record = noting.of_call(exchange, action, "Refused")
        if self._refusals.let(noting.peer_of(exchange), str(record["action"]), time.monotonic()):
            self._put(record)
        elif not self._is_telling:
            self._is_telling = True
            asyncio.get_running_loop().call_later(WINDOW_S, self._tell_omitted)

    def _tell_omitted(self) -> None:
        self._is_telling = False
        if told := self._refusals.ended(time.monotonic()):
            self.own("audit/omit", {"what": "refused calls were left out", **told})
        elif self._refusals.has_omitted:
            self._is_telling = True
            asyncio.get_running_loop().call_later(1.0, self._tell_omitted)


def _is_archive(headers: Headers) -> bool:
    return any(name == b"content-type" and value.startswith(_TAR) for name, value in headers)
