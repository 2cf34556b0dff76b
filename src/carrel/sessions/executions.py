"""Executions as the host keeps them: what was asked, how far it is, what came of it.

Output stays as the bytes that the sandbox sent, within their caps: nothing here reads them, so that one session's megabytes cost the
others no time. Whoever shows them decodes and checks them (host/codec.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shlex
import signal
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from carrel import tracing
from carrel.backends.base import Death, Metered
from carrel.errors import CarrelError, SessionBusy
from carrel.guest.frames import Header
from carrel.models import MIB, ExecutionSpec, Outcome, ShellCommand, Status, Usage
from carrel.sessions.transcript import Transcript

SHORT = 4096  # bytes of a program that are not worth forgetting
WATCHERS = 64  # of one execution at a time
TIMED_OUT = "Request timed out waiting for code execution to complete"  # Azure's words; clients look for them
RESTARTED = "Kernel restarted"
CANCELED = "The execution was canceled"


@dataclass(frozen=True, slots=True)
class Order:
    """A request to run something, as it goes to the agent. `variables` is a JSON object, or nothing."""

    code: bytes
    variables: bytes
    fields: Header

    @property
    def size(self) -> int:
        return len(self.code) + len(self.variables)

    @classmethod
    def of(cls, spec: ExecutionSpec) -> Order:
        """`spec`, whose texts may hold halves of surrogate pairs."""
        code = spec.code.encode("utf-8", "surrogatepass")
        variables = b"" if spec.variables is None else _json(spec.variables)
        fields: Header = {"get": list(spec.wanted)} if spec.wanted else {}
        if spec.has_summary:
            fields["summary"] = 1
        if (shell := spec.shell) is not None:
            what = {"command": shell.command} if shell.argv is None else {"argv": shell.argv}
            stdin = {} if shell.stdin is None else {"stdin": shell.stdin}
            code, fields["kind"] = _json({**what, "shell": shell.shell, **stdin}), "shell"
        return cls(code, variables, fields)


class Record:
    """One execution. Waited for by any number of callers, watched by a few; goes on without them."""

    def __init__(
        self, spec: ExecutionSpec, order: Order, now: float, principal: str = "", asked_at: float | None = None
    ) -> None:
        """`asked_at`: when the call came that began the session with this."""
        self.principal = principal  # whose call it is
        self.call = tracing.current()
        self._stage = tracing.Stages("queue")
        self.id = spec.operation_id or str(uuid.uuid4())
        self.spec = _remembered(spec, order)
        self.order: Order | None = order  # until it is over
        self.program_bytes = order.size
        self.program: bytes | None = None  # as it was written, where a session log is to have it
        self.has_begun = False
        self.likeness = _likeness(spec, order)
        self.status = Status.NOT_STARTED
        self.is_over = False
        self.transcript = Transcript(spec.stream_limit)
        self.value = self.variables = b""
        self.dropped = 0
        self.exit_code: int | None = None
        self.wall_ms = 0.0
        self.queued_ms = 0
        self.outcome: Outcome | None = None
        self.usage: Usage | None = None
        self.metered = Metered()
        self._stderr: bytes | None = None  # where it is not what the code wrote
        self._error: CarrelError | None = None
        self.first_call_ms: float | None = None  # of a session's first: from the call that began it to the end of this
        self._asked_at = asked_at
        self._at = now
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def stdout(self) -> bytes:
        return self.transcript.text("stdout") if self.is_over else b""

    @property
    def stderr(self) -> bytes:
        if self._stderr is not None:
            return self._stderr
        return self.transcript.text("stderr") if self.is_over else b""

    @property
    def displays(self) -> list[bytes]:
        return self.transcript.displays() if self.is_over else []

    @property
    def output_bytes(self) -> int:
        """What it printed, displayed and returned."""
        return self.transcript.length + len(self.value) + len(self.variables)

    @property
    def size(self) -> int:
        return self.transcript.size + len(self.value) + len(self.variables)

    def start(self, now: float) -> None:
        self.status, self.has_begun = Status.RUNNING, True
        self.queued_ms, self._at = _ms(now - self._at), now
        self._stage.next("execute")

    def stopped(self, now: float, metered: Metered) -> None:
        """The code has ended: what comes before the result is known does not count."""
        self.wall_ms, self.metered = max(0.0, round((now - self._at) * 1000, 3)), metered
        if self._asked_at is not None:
            self.first_call_ms = (now - self._asked_at) * 1000

    def finish(self, outcome: Outcome, usage: Usage, ending: str = "") -> None:
        """It is over. `ending` is a last line of ours; value, variables and the rest are set before."""
        self.status, self.is_over = _STATUS.get(outcome, Status.FAILED), True
        self.outcome, self.usage = outcome, usage
        self._stage.end("" if outcome is Outcome.OK else str(outcome))
        if ending:
            self._stderr = cut(self.transcript.text("stderr"), self.spec.stream_limit, ending)
        self.transcript.close(ending)
        self._release()

    def lose(self, error: CarrelError) -> None:
        """The session ended before the execution did."""
        if not self.is_over:
            self.status, self.is_over, self._error = Status.FAILED, True, error
            self._stage.end(error.code)
            self.transcript.close()
            self._release()

    async def done(self) -> None:
        """Until it is over. Raises SessionLost where the session ended first. Being cancelled does not touch the execution."""
        if not self.is_over:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        self.check()

    def check(self) -> None:
        """Raises SessionLost where the session ended before it was over."""
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def watched(self) -> Iterator[asyncio.Event]:
        """An event that is set whenever there is more to read, or it is over. Raises SessionBusy for one watcher too many."""
        watchers, event = self.transcript.watchers, asyncio.Event()
        if len(watchers) >= WATCHERS:
            raise SessionBusy("Too many readers follow this execution.", headers={"Retry-After": "1"})
        watchers.add(event)
        try:
            yield event
        finally:
            watchers.discard(event)

    def _release(self) -> None:
        self.order = None
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.transcript.wake()


_STATUS = {Outcome.OK: Status.SUCCEEDED, Outcome.CANCELED: Status.CANCELED}


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


def _likeness(spec: ExecutionSpec, order: Order) -> int:
    """The same for the same request; Python's keyed hash is enough to tell a caller's own requests apart, and the quickest."""
    asked = (spec.timeout, spec.is_asynchronous, spec.stream_limit, spec.wanted, spec.has_summary, spec.shell is None)
    return hash((order.code, order.variables, asked))


def _remembered(spec: ExecutionSpec, order: Order) -> ExecutionSpec:
    """`spec` without a long program, which the order has: records are kept by the hundred, and a program may have megabytes."""
    if order.size <= SHORT:
        return spec
    return replace(spec, code="", variables=None, shell=spec.shell and ShellCommand())


def program(spec: ExecutionSpec) -> bytes:
    """What a person would say was run."""
    text = spec.code
    if (shell := spec.shell) is not None:
        text = shlex.join(shell.argv) if shell.argv is not None else shell.command or ""
    return text.encode("utf-8", "surrogatepass")


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
