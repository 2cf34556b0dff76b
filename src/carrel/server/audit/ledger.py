"""The gateway's end of the connection to the auditor: records go out at once and are kept until they are written.

Theory of operation. `record` numbers a record, keeps it, and sends it where the socket takes it; that is all a call pays for it. The
auditor tells how far it has written, and what is written is forgotten here. While it takes nothing, because it is being replaced or the
disk is full, records wait here, so many and no more: then they are counted instead, and the count is recorded once there is room (`drop`),
or calls wait and fail (`block`, see scribe.py). One that has just started says what it has, and is sent the rest again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from carrel.audit import messages
from carrel.audit.messages import FIRST, WAITED, Message
from carrel.audit.trail import stamp
from carrel.errors import AuditUnavailable

MOST_KEPT = 8192  # records
MOST_KEPT_BYTES = 16 * 1024 * 1024
WAIT_S = 5.0  # for room, for the disk, for an answer

_LAST_S = 0.5  # of a gateway that ends

_AWAY = "The audit log cannot be written now, and this server does nothing that it cannot record. Try again later."
_log = logging.getLogger("carrel.audit")


class Ledger:
    """Made before there is a loop, in which `run` goes on as long as the gateway serves."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._boot = os.urandom(4).hex()
        self._number = 0
        self._kept: deque[tuple[int, bytes]] = deque()  # numbered one after the other, not known to be written
        self._kept_bytes = 0
        self._sent = 0  # the last number that the socket took
        self._written = self._synced = 0
        self._dropped = 0
        self._flowing = asyncio.Event()  # the socket takes messages
        self._flowing.set()
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []  # for the disk
        self._room = asyncio.Event()
        self._room.set()
        end.setblocking(False)

    async def run(self) -> None:
        """Until cancelled. What has not been sent by then is, unless the auditor takes nothing."""
        asyncio.get_running_loop().add_reader(self._end, self._read)
        try:
            await asyncio.Event().wait()
        finally:
            asyncio.get_running_loop().remove_reader(self._end)
            self._finish()

    def _finish(self) -> None:
        self._end.settimeout(_LAST_S)
        unsent = [data for number, data in self._kept if number > self._sent]
        try:
            for data in unsent:
                self._end.send(data)
        except OSError:
            _log.error("records for the audit log could not be sent any more")

    @property
    def has_room(self) -> bool:
        return len(self._kept) < MOST_KEPT and self._kept_bytes < MOST_KEPT_BYTES

    @property
    def waiting(self) -> int:
        """Records that are not known to be written."""
        return len(self._kept)

    def record(self, record: Mapping[str, object], *, is_waited: bool = False, is_dropped: bool = True) -> int:
        """Its number; 0 where there was no room for it and `is_dropped` lets it go. Those who wait for room have some over."""
        if (is_dropped and not self.has_room) or len(self._kept) >= 2 * MOST_KEPT:
            self._dropped += 1
            if self._dropped == 1:
                _log.error("the audit log does not keep up: records are dropped")
            return 0
        if self._dropped:
            self._tell_dropped()
        return self._put(record, WAITED if is_waited else "")

    async def written(self, number: int) -> None:
        """Wait until a record is on the disk. Raises AuditUnavailable."""
        if number <= self._synced:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((number, future))
        try:
            async with asyncio.timeout(WAIT_S):
                await future
        except TimeoutError as error:
            raise AuditUnavailable(_AWAY, headers={"Retry-After": "5"}) from error

    async def room(self) -> None:
        """Wait until there is room for records. Raises AuditUnavailable."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not self.has_room:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError as error:
            raise AuditUnavailable(_AWAY, headers={"Retry-After": "5"}) from error

    async def ask(self, question: Mapping[str, object]) -> dict[str, Any]:
        """Ask about the log, which has by then all that was recorded before. Raises AuditUnavailable."""
        try:
            async with asyncio.timeout(WAIT_S * 2):
                await self._flowing.wait()
                return await self._asked(question)
        except (TimeoutError, OSError, ValueError) as error:
            raise AuditUnavailable(
                "The audit log cannot be read now. Try again later.", headers={"Retry-After": "5"}
            ) from error

    async def _asked(self, question: Mapping[str, object]) -> dict[str, Any]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with ours:
            with theirs:
                socket.send_fds(self._end, [messages.ask(question)], [theirs.fileno()])
            ours.setblocking(False)
            pieces = []
            while piece := await asyncio.get_running_loop().sock_recv(ours, 256 * 1024):
                pieces.append(piece)
        answer = json.loads(b"".join(pieces))
        if "error" in answer:
            raise ValueError(answer["error"])
        return dict(answer)

    # ---- sending ---------------------------------------------------------------------------------------------------------------

    def _put(self, record: Mapping[str, object], flags: str) -> int:
        self._number += 1
        data = Message(self._boot, self._number, flags, record).encode()
        if len(data) > messages.MOST:
            details = {"what": "the record was too large", "bytes": len(data)}
            data = Message(self._boot, self._number, flags, {**record, "details": details}).encode()
        self._kept.append((self._number, data))
        self._kept_bytes += len(data)
        if self._flowing.is_set() and self._sent == self._number - 1:
            self._send(data)
        return self._number

    def _tell_dropped(self) -> None:
        count, self._dropped = self._dropped, 0
        details = {"what": "records were dropped while the log could not be written", "count": count}
        self._put({"at": stamp(time.time()), "action": "audit/drop", "outcome": "Succeeded", "details": details}, "")

    def _send(self, data: bytes) -> bool:
        try:
            self._end.send(data)
        except OSError:  # no room in the socket, or in the kernel
            self._flowing.clear()
            asyncio.get_running_loop().add_writer(self._end, self._go_on)
            return False
        self._sent += 1
        return True

    def _go_on(self) -> None:
        """The socket takes more."""
        asyncio.get_running_loop().remove_writer(self._end)
        self._flowing.set()
        first = self._kept[0][0] if self._kept else self._number + 1
        at = max(0, self._sent + 1 - first)
        for _number, data in [self._kept[each] for each in range(at, len(self._kept))]:
            if not self._send(data):
                return

    # ---- hearing ---------------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        while True:
            try:
                data = self._end.recv(65_536)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:  # the supervisor is gone, and the kernel ends us with it
                asyncio.get_running_loop().remove_reader(self._end)
                return
            self._hear(json.loads(data))

    def _hear(self, told: Mapping[str, Any]) -> None:
        """What is said to a gateway before this one is none of ours."""
        if "started" in told:
            self._forget(int(told["started"].get(self._boot, 0)))
            self._send_again()
        elif told.get("boot") == self._boot:
            self._forget(int(told["written"]))
            self._synced = max(self._synced, int(told["synced"]))
            self._wake()

    def _forget(self, written: int) -> None:
        self._written = max(self._written, written)
        while self._kept and self._kept[0][0] <= self._written:
            self._kept_bytes -= len(self._kept.popleft()[1])
        if self._dropped and self.has_room:
            self._tell_dropped()
        self._room.set()

    def _send_again(self) -> None:
        """All that the auditor does not have. It passes over what it finds twice."""
        if not self._kept:
            return
        number, data = self._kept[0]
        head, newline, body = data.partition(b"\n")
        if FIRST.encode() not in head.rpartition(b" ")[2]:
            self._kept[0] = (number, head + FIRST.encode() + newline + body)
            self._kept_bytes += 1
        self._sent = number - 1
        if self._flowing.is_set():
            self._go_on()

    def _wake(self) -> None:
        for number, future in self._waiting:
            if number <= self._synced and not future.done():
                future.set_result(None)
        self._waiting = [(number, future) for number, future in self._waiting if not future.done()]
