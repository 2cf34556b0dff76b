"""The auditor at work: one loop that takes what gateways send, writes it in batches, and tells them how far it has come.

Messages are looked at, written, and only then taken out of the socket: an auditor that is killed in between leaves them to the next one,
which knows by their numbers what is in the log already. A batch is what has come since the last one; between two there is a short sleep,
so that a busy server costs one write and one answer for many records. What somebody waits for is synchronised with its batch, the rest
once a second. While the disk takes nothing, nothing more is taken from the socket either: gateways then do what the setting `audit-full`
says.
"""

from __future__ import annotations

import array
import json
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from carrel import __version__
from carrel.audit import messages
from carrel.audit.chain import MOST_LINE
from carrel.audit.messages import WAITED, Message
from carrel.audit.trail import Record, Trail, stamp
from carrel.auditor.arrivals import Arrivals, written
from carrel.auditor.questions import Questions
from carrel.pulse import BEAT_S, Pulse

REST_S = 0.01  # between two batches
SYNC_S = 1.0
AGAIN_S = 1.0  # after a write that failed
PRUNE_S = 3600.0
_BATCH = 1024  # messages
_SO_PEEK_OFF = 42  # asm-generic/socket.h; Python has no name for it
_MOST_RECORD = MOST_LINE - 1024  # what the chain adds has room beside it

log = logging.getLogger(__name__)


class Auditor:
    """`end` is the supervisor's too: what is in it when this process dies is there for the next."""

    def __init__(self, end: socket.socket, trail: Trail, questions: Questions, pulse: Pulse) -> None:
        self._end, self._trail, self._questions, self._pulse = end, trail, questions, pulse
        self._arrivals = Arrivals(written(link.fields.get("id", "") for link in trail.tail))
        self._batch: list[Record] = []  # to be written, in this order
        self._asked: list[tuple[dict[str, Any], socket.socket]] = []
        self._is_waited = False  # somebody waits for the batch
        self._is_stuck = False
        self._is_ending = False
        self._is_acknowledged = True
        self._synced: dict[str, int] = {}
        self._sync_at = self._prune_at = self._beat_at = self._again_at = 0.0
        self._pruned_at = 0  # files that were begun by then
        self._buffer = bytearray(messages.MOST + 1024)
        self._looked_at = 0  # messages that are in the socket still
        end.setblocking(False)
        self._most = _BATCH if _looks_on(end) else 1

    def run(self) -> None:
        """Until SIGTERM, or until nobody holds the other end."""
        wake = self._signals()
        self._tell_beginning()
        self._pulse.tell({"ready": True, "pid": os.getpid()})
        self._send({"started": self._arrivals.come})
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        while not self._is_ending:
            poll.modify(self._end, 0 if self._is_stuck else select.POLLIN)
            poll.poll(self._patience() * 1000)
            if not self._is_stuck:
                self._receive()
            self._step()
            if not self._is_waited:
                time.sleep(REST_S)
        self._finish()

    def _signals(self) -> int:
        read, write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_is_ending", True))
        return read

    def _patience(self) -> float:
        now = time.monotonic()
        return max(0.0, min(self._beat_at - now, SYNC_S))

    # ---- taking ----------------------------------------------------------------------------------------------------------------

    def _receive(self) -> int:
        """Look at what is in the socket, up to a batch; how many messages that was. They stay there until they are written."""
        for count in range(self._most):
            try:
                size = self._end.recv_into(self._buffer, 0, socket.MSG_PEEK)
            except BlockingIOError:
                return count
            except ConnectionResetError:  # gone, with something of ours unread
                size = 0
            if not size:  # everybody has gone, the supervisor too
                self._is_ending = True
                return count
            self._looked_at += 1
            self._take(bytes(self._buffer[:size]))
        return self._most

    def _take(self, data: bytes) -> None:
        if messages.question(data) is not None:
            return None  # once it is taken out: what it brings comes with it then
        message = Message.decode(data)
        if message is None:
            return log.error("a message to the auditor is none", extra={"bytes": len(data)})
        found, is_missing = self._arrivals.take(message, time.monotonic())
        self._put(found)
        self._is_acknowledged = False
        if is_missing:
            self._send({"started": self._arrivals.come})
        return None

    def _take_out(self) -> None:
        """What was looked at and is written now; questions are put."""
        room = socket.CMSG_SPACE(array.array("i").itemsize)
        while self._looked_at:
            self._looked_at -= 1
            size, ancillary, _, _ = self._end.recvmsg_into([self._buffer], room, socket.MSG_CMSG_CLOEXEC)
            descriptors = _descriptors(ancillary)
            asked = messages.question(bytes(self._buffer[:size])) if descriptors else None
            if asked is not None:
                self._asked.append((asked, socket.socket(fileno=descriptors.pop())))
            for each in descriptors:
                os.close(each)

    def _put(self, found: Sequence[Message]) -> None:
        for message in found:
            self._is_waited = self._is_waited or WAITED in message.flags
            self._batch.append({**_bounded(message.record), "id": f"{message.boot}-{message.number}"})

    def _own(self, action: str, details: Mapping[str, object]) -> None:
        self._batch.append({"at": stamp(time.time()), "action": action, "outcome": "Succeeded", "details": details})

    def _tell_beginning(self) -> None:
        if self._trail.end.seq == 0:
            self._own("audit/begin", {"version": __version__})
        self._batch += self._trail.mended
        self._own("audit/start", {"version": __version__, "pid": os.getpid()})
        for each in self._trail.mended:
            log.warning("the audit log was mended", extra={"what": each["details"]})
        self._write(time.monotonic())

    # ---- doing -----------------------------------------------------------------------------------------------------------------

    def _step(self) -> None:
        now = time.monotonic()
        if self._arrivals.waits:
            self._give_up(now)
        if not self._is_stuck or now >= self._again_at:
            self._write(now)
        if not self._is_stuck:
            self._acknowledge()
            self._answer()
            self._prune(now)
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            self._pulse.beat_once()

    def _give_up(self, now: float) -> None:
        found, told = self._arrivals.overdue(now, is_ending=self._is_ending)
        for each in told:
            self._own(
                "audit/lose", {"what": "records were lost with the gateway and the auditor that had them", **each}
            )
        self._put(found)

    def _write(self, now: float) -> None:
        """The batch; the disk, where somebody waits or it is time. What fails stays, and is tried again."""
        try:
            if self._batch:
                self._trail.append(self._batch, time.time())
                self._batch = []
                self._sync_at = self._sync_at or now + SYNC_S
            self._take_out()
            if self._is_waited or (self._sync_at and now >= self._sync_at) or self._is_ending:
                self._trail.sync()
                self._sync_at, self._is_waited = 0.0, False
                self._synced = self._arrivals.come
                self._is_acknowledged = False
        except OSError as error:
            if not self._is_stuck:
                log.error("the audit log cannot be written", extra={"why": str(error)})
            self._is_stuck, self._again_at = True, now + AGAIN_S
        else:
            if self._is_stuck:
                log.info("the audit log is written again")
            self._is_stuck = False

    def _acknowledge(self) -> None:
        """To the latest gateway: those before it are gone. One that does not read now is told with the next batch."""
        if self._is_acknowledged:
            return
        boot, number = list(self._arrivals.come.items())[-1:][0] if self._arrivals.come else ("", 0)
        told = {"boot": boot, "written": number, "synced": self._synced.get(boot, 0)}
        self._is_acknowledged = self._send(told)

    def _answer(self) -> None:
        for asked, answer in self._asked:
            self._questions.put(asked, answer)
        self._asked = []

    def _prune(self, now: float) -> None:
        if now < self._prune_at and self._trail.begun == self._pruned_at:
            return None
        self._prune_at, self._pruned_at = now + PRUNE_S, self._trail.begun
        try:
            removed = self._trail.prune(time.time())
        except OSError as error:
            return log.error("old files of the audit log cannot be removed", extra={"why": str(error)})
        if removed:
            log.info("removed old files of the audit log", extra={"count": len(removed)})
        return None

    def _finish(self) -> None:
        """What is in the socket still, and the end. A disk that takes nothing keeps nobody from ending."""
        while not self._is_stuck and self._receive():
            self._step()
        self._give_up(time.monotonic())
        self._own("audit/stop", {"pid": os.getpid()})
        self._write(time.monotonic())
        self._acknowledge()
        if self._batch:
            log.error("records of the audit log are lost: it cannot be written", extra={"count": len(self._batch)})
        self._trail.close()

    def _send(self, fields: Mapping[str, object]) -> bool:
        try:
            self._end.send(json.dumps(fields).encode())
        except OSError:  # no gateway is there, or it does not read
            return False
        return True


def _looks_on(end: socket.socket) -> bool:
    """Have each look at the socket go on where the one before ended (socket(7)), from the first message on; whether it can."""
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_PEEK_OFF, 0)
    except OSError:
        return False
    return True


def _descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found.frombytes(content[: len(content) - len(content) % found.itemsize])
    return list(found)


def _bounded(record: Record) -> Record:
    """A record that fits into a line. A gateway sends no other; whoever is in its place may."""
    size = len(json.dumps(record))
    if size <= _MOST_RECORD:
        return record
    kept = {name: str(record.get(name, ""))[:512] for name in ("at", "action", "outcome", "principal", "pool", "trace")}
    return {**kept, "details": {"what": "the record was too large", "bytes": size}}
