"""Executions as the host keeps them: what was asked, how far it is, what came of it.

Output stays as the bytes that the sandbox sent, within their caps: nothing here reads them, so that one session's megabytes cost the
others no time. Whoever shows them decodes and checks them (host/codec.py).
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import uuid
from collections import deque

from carrel.backends.base import Death, Metered
from carrel.errors import CarrelError, ExecutionConflict
from carrel.models import MIB, ExecutionSpec, Outcome, Status, Usage

KEPT = 100  # finished executions of a session
KEPT_BYTES = 64 * MIB
TIMED_OUT = "Request timed out waiting for code execution to complete"  # Azure's words; clients look for them
RESTARTED = "Kernel restarted"


class Record:
    """One execution. Waited for by any number of callers; goes on without them."""

    def __init__(self, spec: ExecutionSpec, code: bytes, now: float) -> None:
        self.id = spec.operation_id or str(uuid.uuid4())
        self.spec = spec
        self.code = code
        self.digest = _digest(spec, code)
        self.status = Status.NOT_STARTED
        self.stdout = self.stderr = self.value = b""
        self.wall_ms = 0.0
        self.queued_ms = 0
        self.outcome: Outcome | None = None
        self.usage: Usage | None = None
        self.metered = Metered()
        self._error: CarrelError | None = None
        self._at = now
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_over(self) -> bool:
        return self.status in (Status.SUCCEEDED, Status.FAILED)

    @property
    def size(self) -> int:
        return len(self.stdout) + len(self.stderr) + len(self.value)

    def start(self, now: float) -> None:
        self.status = Status.RUNNING
        self.queued_ms, self._at = _ms(now - self._at), now

    def stopped(self, now: float, metered: Metered) -> None:
        """The code has ended: what comes before the result is known does not count."""
        self.wall_ms, self.metered = max(0.0, round((now - self._at) * 1000, 3)), metered

    def finish(self, outcome: Outcome, usage: Usage, stdout: bytes, stderr: bytes, value: bytes) -> None:
        self.status = Status.SUCCEEDED if outcome is Outcome.OK else Status.FAILED
        self.outcome, self.usage = outcome, usage
        self.stdout, self.stderr, self.value = stdout, stderr, value
        self._release()

    def lose(self, error: CarrelError) -> None:
        """The session ended before the execution did."""
        if not self.is_over:
            self.status, self._error = Status.FAILED, error
            self._release()

    async def done(self) -> None:
        """Until it is over. Raises SessionLost where the session ended first. Being cancelled does not touch the execution."""
        if not self.is_over:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        if self._error is not None:
            raise self._error

    def _release(self) -> None:
        self.code = b""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Store:
    """A session's executions by id: those that wait or run, and of the finished ones as many as fit."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._finished: deque[Record] = deque()  # oldest first
        self._finished_bytes = 0

    def get(self, identifier: str) -> Record | None:
        return self._records.get(identifier)

    def repeated(self, record: Record) -> Record | None:
        """The stored execution of which `record` is a repeat. Raises ExecutionConflict where only the id is the same."""
        known = self._records.get(record.id)
        if known is not None and known.digest != record.digest:
            raise ExecutionConflict("This operation-id was used in this session before, with another request.")
        return known

    def add(self, record: Record) -> None:
        self._records[record.id] = record

    def finished(self, record: Record) -> None:
        """Count it in, and let the oldest ones go where they are too many or too large together."""
        self._finished.append(record)
        self._finished_bytes += record.size
        while len(self._finished) > KEPT or (self._finished_bytes > KEPT_BYTES and len(self._finished) > 1):
            oldest = self._finished.popleft()
            self._finished_bytes -= oldest.size
            del self._records[oldest.id]

    def lose(self, error: CarrelError) -> None:
        for record in self._records.values():
            record.lose(error)


def cut(output: bytes | bytearray, limit: int, ending: str = "") -> bytes:
    """`output` cut to `limit` characters without a marker, `ending` on a line of its own included."""
    if not ending and len(output) <= limit:
        return bytes(output)
    text = output.decode("utf-8", "replace")
    if not ending:
        return text[:limit].encode()
    text = text[: max(0, limit - len(ending) - 1)]
    return (text + ("" if not text or text.endswith("\n") else "\n") + ending).encode()


def restarted(death: Death, memory_bytes: int) -> str:
    """What the caller reads where the interpreter ended under the code."""
    if death.was_out_of_memory:
        return f"{RESTARTED}: out of memory (the limit is {memory_bytes // MIB} MiB)"
    if death.signal is not None:
        return f"{RESTARTED}: the process was killed by {_signal_name(death.signal)}"
    if death.exit_code is not None:
        return f"{RESTARTED}: the process exited with code {death.exit_code}"
    return RESTARTED


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
    return f"{name} ({signal.strsignal(number)})"


def _digest(spec: ExecutionSpec, code: bytes) -> bytes:
    digest = hashlib.blake2b(code, digest_size=16)
    digest.update(f"{spec.timeout} {spec.is_asynchronous} {spec.stream_limit}".encode())
    return digest.digest()


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
