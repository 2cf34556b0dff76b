"""One session: its executions one after the other, its file calls straight through.

An execution takes no task of its own. It is sent when the interpreter is free, and the agent's last frame finishes it, wakes its
callers and sends the next, all in one step of the loop; callers that vanish change nothing. Only what is slow anyway runs as a task:

    deadline ─▶ interrupt ─▶ within the grace period it ended ─▶ result "timed out", variables kept
                         └─▶ it did not ─▶ result "timed out"; every process is killed, a fresh interpreter made
                                                             └─▶ not in time ─▶ the sandbox is killed, the session has ended
    the interpreter died ─▶ result "kernel restarted" and why; a fresh interpreter is made

While an interpreter is being made, calls wait in the queue.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from carrel.errors import CarrelError, ContentTooLarge, ExecutionMissing, SessionBusy, SessionLost
from carrel.models import ANYTHING, MIB, Condition, ExecutionSpec, FileInfo, Outcome, PoolSpec, SessionView
from carrel.sessions import outcomes
from carrel.sessions.executions import TIMED_OUT, Record, Store, cut, restarted
from carrel.sessions.guest import Guest
from carrel.sessions.link import lost
from carrel.sessions.states import SESSION, SessionEvent, SessionState, step
from carrel.sessions.streams import Run
from carrel.sessions.tasks import Tasks

QUEUE = 64
CODE_BYTES = 8 * MIB  # what an agent takes
GRACE_S = 1.0  # between the interrupt and the kill
STREAM_CAP = 16 * MIB  # most bytes of one output stream, whatever was asked for
VALUE_CAP = 16 * MIB
NO_INTERPRETER = frozenset({"died", ""})  # "": the run goes on, or the agent could not run it

log = logging.getLogger(__name__)


class Seat(Protocol):
    """The session's place in its pool. While calls are under way, executions without a caller included, it does not expire."""

    def begin(self) -> None: ...

    def finish(self) -> None: ...

    def view(self, is_new: bool = False) -> SessionView: ...


@dataclass(slots=True)
class Reading:
    """A file being downloaded: `length` bytes from `start`."""

    file: FileInfo
    start: int
    length: int
    chunks: AsyncIterator[bytes]


class Session:
    """Owned by the keeper, which kills the guest when the session ends."""

    def __init__(self, guest: Guest, spec: PoolSpec, seat: Seat, tasks: Tasks) -> None:
        self.guest = guest
        self._meter = guest.sandbox.meter
        self.state = SessionState.IDLE
        self._spec = spec
        self.seat = seat
        self._tasks = tasks
        self._store = Store()
        self._queue: deque[Record] = deque()
        self._run: tuple[Record, Run] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()  # the run that is past its deadline has ended
        self._lost: SessionLost | None = None
        guest.on_died = self._died_idle

    # -- executions --------------------------------------------------------------------------------------------------

    def submit(self, spec: ExecutionSpec) -> Record:
        """Queue code to run, or find the execution that this request repeats. Wait for it with its `done`.

        Raises SessionLost, SessionBusy, ExecutionConflict, ContentTooLarge.
        """
        self._check()
        code = spec.code.encode("utf-8", "surrogatepass")
        if len(code) > CODE_BYTES:
            raise ContentTooLarge(f"The code is larger than {CODE_BYTES // MIB} MiB.")
        record = Record(spec, code, time.monotonic())
        if spec.operation_id is not None and (known := self._store.repeated(record)) is not None:
            return known
        if len(self._queue) >= QUEUE:
            raise SessionBusy("Too many calls are waiting for this session.", headers={"Retry-After": "1"})
        self._store.add(record)
        self._queue.append(record)
        self.seat.begin()
        self._advance()
        return record

    def execution(self, identifier: str) -> Record:
        self._check()
        record = self._store.get(identifier)
        if record is None:
            raise ExecutionMissing(f"No execution available for operation Id: {identifier}")
        return record

    def touch(self) -> None:
        """Count as use."""
        with self._call():
            pass

    # -- files -------------------------------------------------------------------------------------------------------

    async def list_files(self, directory: str, recursive: bool) -> list[FileInfo]:
        with self._call():
            return await self.guest.link.list_files(directory, recursive)

    async def stat(self, path: str) -> FileInfo:
        with self._call():
            return await self.guest.link.stat(path)

    async def delete_file(self, path: str, condition: Condition = ANYTHING) -> None:
        with self._call():
            await self.guest.link.delete(path, condition)

    async def make_directory(self, path: str) -> tuple[FileInfo, bool]:
        with self._call():
            return await self.guest.link.make_directory(path)

    async def rename(self, path: str, to: str, overwrite: bool, condition: Condition) -> FileInfo:
        with self._call():
            return await self.guest.link.rename(path, to, overwrite, condition)

    async def upload(self, path: str, content: AsyncIterator[bytes], condition: Condition = ANYTHING) -> FileInfo:
        """Whatever `content` raises aborts the upload and leaves nothing of it."""
        with self._call():
            return await self.guest.link.upload(path, content, condition)

    def download(self, path: str, offset: int = 0, length: int | None = None) -> AbstractAsyncContextManager[Reading]:
        return self._download(path, offset, length)

    @contextlib.asynccontextmanager
    async def _download(self, path: str, offset: int, length: int | None) -> AsyncIterator[Reading]:
        link = self.guest.link
        with self._call():
            async with link.download(path, offset, length) as stream:
                if stream.info is None:
                    raise RuntimeError("a download is entered with its file")
                yield Reading(stream.info, stream.start, stream.length, link.read(stream))

    # -- the end -----------------------------------------------------------------------------------------------------

    def end(self, reason: str) -> None:
        """Lose what is under way. Called by the keeper only, which then kills the guest. Safe to call again."""
        if self.state is SessionState.ENDED:
            return
        self._step(SessionEvent.ENDED)
        self._lost = lost(reason)
        self._cancel_deadline()
        self._stopped.set()
        self._queue.clear()
        self._run = None
        self._store.lose(self._lost)

    # -- one execution after the other -------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Send the next execution, if the interpreter is free."""
        if self.state is not SessionState.IDLE or not self._queue:
            return
        record = self._queue.popleft()
        self._step(SessionEvent.RUN)
        record.start(time.monotonic())
        self._meter.start()
        stream_cap = min(4 * record.spec.stream_limit, STREAM_CAP)  # a character has up to four bytes
        run = self.guest.link.execute(record.code, stream_cap, VALUE_CAP, self._run_ended)
        self._run = record, run
        timeout = min(record.spec.timeout, self._spec.maximum_execution)
        self._deadline = asyncio.get_running_loop().call_later(timeout, self._overran)

    def _run_ended(self) -> None:
        """The agent's last word on the execution, or the end of the link."""
        if self._run is None or self.guest.link.is_broken:
            return  # the session gave it up, or the keeper is about to end the session
        record, run = self._run
        record.stopped(time.monotonic(), self._meter.stop())
        if self.state is SessionState.INTERRUPTING:
            self._stopped.set()
            return
        self._cancel_deadline()
        if run.outcome in NO_INTERPRETER:
            self._step(SessionEvent.LOST)
            self._tasks.spawn(self._bury(record, run), "interpreter died")
            return
        self._finish(record, run, outcomes.of_run(run))
        self._step(SessionEvent.FINISHED)
        self._advance()

    def _finish(self, record: Record, run: Run, outcome: Outcome, ending: str = "") -> None:
        self._run = None
        limit, output = record.spec.stream_limit, run.output
        usage = outcomes.usage(record.wall_ms, record.metered, self._meter, run)
        stdout, stderr = cut(output["stdout"], limit), cut(output["stderr"], limit, ending)
        record.finish(outcome, usage, stdout, stderr, bytes(output["value"]))
        self._store.finished(record)
        self.seat.finish()

    # -- the ladder --------------------------------------------------------------------------------------------------

    def _overran(self) -> None:
        if self._run is not None:
            self._stopped.clear()
            self._step(SessionEvent.OVERRAN)
            self._tasks.spawn(self._stop(*self._run), "execution overran")

    async def _stop(self, record: Record, run: Run) -> None:
        with contextlib.suppress(
            TimeoutError, CarrelError
        ):  # an agent that refuses is no better than one that is silent
            async with asyncio.timeout(GRACE_S):
                await self.guest.link.interrupt()
                await self._stopped.wait()
        if self.state is SessionState.ENDED:
            return
        record.stopped(time.monotonic(), self._meter.stop())
        self._finish(record, run, Outcome.TIMEOUT, TIMED_OUT)
        if run.outcome in NO_INTERPRETER:
            self._step(SessionEvent.LOST)
            await self._restart(run)
        else:
            self._step(SessionEvent.FINISHED)
            self._advance()

    async def _bury(self, record: Record, run: Run) -> None:
        death = outcomes.death(await self.guest.death(), run)
        if self.state is SessionState.ENDED:
            return
        self._finish(record, run, outcomes.of_death(death), restarted(death, self._spec.memory_bytes))
        await self._restart(run)

    def _died_idle(self) -> None:
        """The interpreter ended with no code running; while code runs the execution itself says so."""
        if self.state is SessionState.IDLE:
            self._step(SessionEvent.LOST)
            self._tasks.spawn(self._restart(None), "interpreter died idle")

    async def _restart(self, run: Run | None) -> None:
        try:
            await self.guest.restart()
        except (CarrelError, TimeoutError, OSError) as error:
            if self.state is not SessionState.ENDED:
                log.warning("an interpreter could not be replaced", extra={"reason": str(error)})
            self.guest.link.close("its interpreter could not be replaced")
            return
        if run is not None:
            self.guest.link.forget(run)
        if self.state is not SessionState.ENDED:
            self._step(SessionEvent.RESTARTED)
            self._advance()

    # -- small things ------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._lost is not None:
            raise self._lost

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        self._check()
        self.seat.begin()
        try:
            yield
        finally:
            self.seat.finish()

    def _step(self, event: SessionEvent) -> None:
        self.state = step(SESSION, self.state, event)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
