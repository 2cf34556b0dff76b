"""A session's code: one execution after the other, each with a deadline, each to be canceled, on one interpreter that may be replaced.

An execution takes no task of its own. It is sent when the interpreter is free, and the agent's last frame finishes it, wakes its
callers and sends the next, all in one step of the loop; callers that vanish change nothing. Only what is slow anyway runs as a task:

    deadline, cancel ─▶ interrupt ─▶ within the grace period it ended ─▶ result "timed out" or "canceled", variables kept
                                 └─▶ it did not ─▶ the same result; every process is killed, a fresh interpreter made
                                                                     └─▶ not in time ─▶ the sandbox is killed, the session has ended
    the interpreter died ─▶ result "kernel restarted" and why; a fresh interpreter is made
    restart ─▶ whatever runs or waits is canceled at once; every process is killed, a fresh interpreter made

While an interpreter is being made, calls wait in the queue. It gets the session's environment before any of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque

from carrel import tracing
from carrel.errors import CarrelError, ContentTooLarge, ExecutionMissing, RequestInvalid, SessionBusy, SessionLost
from carrel.models import MIB, ContainerType, ExecutionSpec, Outcome, PoolSpec, Usage
from carrel.sessions import outcomes
from carrel.sessions.budget import Budget
from carrel.sessions.executions import CANCELED, TIMED_OUT, Order, Record, program, restarted
from carrel.sessions.guest import Guest
from carrel.sessions.seat import Seat
from carrel.sessions.states import SESSION, SessionEvent, SessionState, step
from carrel.sessions.store import Store
from carrel.sessions.streams import Caps, Run
from carrel.sessions.tasks import Tasks

QUEUE = 64
QUEUE_BYTES = 32 * MIB  # of code and variables that wait
CODE_BYTES = 8 * MIB  # what an agent takes, of code and of variables each
NAMES_BYTES = 32 * 1024  # of the variables that are asked for
GRACE_S = 1.0  # between the interrupt and the kill
STREAM_CAP = 16 * MIB  # most bytes of one output stream, whatever was asked for
VALUE_CAP = 16 * MIB
DISPLAY_CAP = 16 * MIB  # all displays of an execution
NO_INTERPRETER = frozenset({"died", ""})  # "": the run goes on, or the agent could not run it
NO_ENVIRONMENT = b"{}"

log = logging.getLogger(__name__)


class Runner:
    """Owned by its session. `state` is the session's."""

    def __init__(self, guest: Guest, spec: PoolSpec, seat: Seat, tasks: Tasks, budget: Budget) -> None:
        self.guest = guest
        self.state = SessionState.IDLE
        self.environment = NO_ENVIRONMENT  # a JSON object
        self.store = Store(budget)
        self._meter = guest.sandbox.meter
        self._spec = spec
        self._seat = seat
        self._tasks = tasks
        self._queue: deque[Record] = deque()
        self._run: tuple[Record, Run] | None = None
        self._kills: int | None = (
            None  # for memory, before the run; of commands only, which have an exit code to explain
        )
        self._deadline: asyncio.TimerHandle | None = None
        self._stopped = asyncio.Event()  # the run that was told to stop has ended, or is not waited for any longer
        self._is_unwanted = False  # the interpreter is replaced whether it stops in time or not
        self._ready = asyncio.Event()  # no interpreter is being made
        self._lost: SessionLost | None = None
        guest.on_died = self._died_idle

    @property
    def queued(self) -> int:
        return len(self._queue)

    # -- calls -------------------------------------------------------------------------------------------------------

    def submit(
        self, spec: ExecutionSpec, variables: bytes = b"", principal: str = "", asked_at: float | None = None
    ) -> Record:
        """Queue code to run, or find the execution that this request repeats. Wait for it with its `done`.

        `variables` are the spec's, where those are JSON already; `asked_at` is when its caller asked for the session, where that is new.
        Raises SessionLost, SessionBusy, ExecutionConflict, ContentTooLarge.
        """
        self.check()
        order = _order(spec, variables)
        record = Record(spec, order, time.monotonic(), principal, asked_at)
        if spec.operation_id is not None and (known := self.store.repeated(record)) is not None:
            return known
        waiting = sum(each.order.size for each in self._queue if each.order is not None)
        if len(self._queue) >= QUEUE or (self._queue and waiting + order.size > QUEUE_BYTES):
            raise SessionBusy("Too many calls are waiting for this session.", headers={"Retry-After": "1"})
        if spec.is_asynchronous and self.store.is_full_of_unread:
            raise SessionBusy("Too many results of this session have not been read.", headers={"Retry-After": "5"})
        if self._seat.is_logging:
            record.program = program(spec)
        self.store.add(record)
        self._queue.append(record)
        self._seat.begin()
        self._seat.submitted(order.size)
        self._advance()
        return record

    def execution(self, identifier: str) -> Record:
        """Raises SessionLost, ExecutionMissing."""
        self.check()
        record = self.store.get(identifier)
        if record is None:
            raise ExecutionMissing(f"No execution available for operation Id: {identifier}")
        return record

    async def cancel(self, identifier: str) -> Record:
        """End an execution: one that waits at once, one that runs as its deadline would. One that is over stays what it is."""
        record = self.execution(identifier)
        self._cancel(record)
        await record.done()
        return record

    async def cancel_all(self) -> int:
        """All that run or wait; how many that were."""
        self.check()
        running = [] if self._run is None else [self._run[0]]
        canceled = [record for record in (*self._queue, *running) if self._cancel(record)]
        for record in canceled:
            await record.done()
        return len(canceled)

    async def restart(self) -> None:
        """A fresh interpreter, without variables; what runs or waits is canceled. One that is being made already is the one.

        Goes on without its caller. Raises SessionLost.
        """
        self.check()
        for record in list(self._queue):
            self._cancel(record)
        match self.state:
            case SessionState.IDLE:
                self._replace(None)
            case SessionState.RUNNING if self._run is not None:
                record, run = self._run
                self._cancel_deadline()
                record.stopped(time.monotonic(), self._meter.stop())
                self._finish(record, run, Outcome.CANCELED, CANCELED)
                self._replace(run)
            case SessionState.INTERRUPTING:
                self._is_unwanted = True
                self._ready.clear()
                self._stopped.set()
        await self._ready.wait()
        self.check()

    async def set_environment(self, document: bytes) -> None:
        """Variables for this interpreter and all that follow it; of what is submitted from now on. Raises SessionLost."""
        self.check()
        self.environment = document
        await self.guest.link.environment(document)

    def end(self, error: SessionLost) -> int:
        """The session has ended: lose what is under way. The bytes of results that go with it. Safe to call again."""
        if self.state is SessionState.ENDED:
            return 0
        self._step(SessionEvent.ENDED)
        self._lost = error
        self._cancel_deadline()
        self._stopped.set()
        lost = [*(() if self._run is None else self._run[:1]), *self._queue]
        self._queue.clear()
        self._run = None
        freed = self.store.lose(error)
        for record in lost:
            self._seat.executed(record)
        return freed

    def check(self) -> None:
        """Raises SessionLost where the session has ended."""
        if self._lost is not None:
            raise self._lost

    # -- one execution after the other -------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Send the next execution, if the interpreter is free."""
        if self.state is not SessionState.IDLE or not self._queue:
            return
        record = self._queue.popleft()
        if record.order is None:
            raise RuntimeError("what is over does not wait")
        self._step(SessionEvent.RUN)
        record.start(time.monotonic())
        self._meter.start()
        self._kills = self._meter.count_memory_kills() if self._has_exit_code(record.spec) else None
        text = min(4 * record.spec.stream_limit, STREAM_CAP)  # a character has up to four bytes
        caps = Caps(text, VALUE_CAP, DISPLAY_CAP)
        run = self.guest.link.execute(record.order, caps, record.transcript, self._run_ended)
        self._run = record, run
        longest = self._spec.longest(is_asynchronous=record.spec.is_asynchronous)
        self._deadline = asyncio.get_running_loop().call_later(min(record.spec.timeout, longest), self._overran)

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
            self._tasks.spawn(self._bury(record, run), "interpreter died", record.call)
            return
        self._finish(record, run, outcomes.of_run(run, self._meter, self._kills))
        self._step(SessionEvent.FINISHED)
        self._advance()

    def _finish(self, record: Record, run: Run, outcome: Outcome, ending: str = "") -> None:
        self._run = None
        record.value, record.variables, record.dropped = bytes(run.value), bytes(run.variables), run.dropped
        if not ending:  # else it did not come to its end by itself
            record.exit_code = run.status
        record.finish(outcome, outcomes.usage(record.wall_ms, record.metered, self._meter, run), ending)
        self.store.finished(record)
        self._seat.executed(record)
        self._seat.finish()

    # -- the ladder --------------------------------------------------------------------------------------------------

    def _overran(self) -> None:
        self._halt(SessionEvent.OVERRAN, Outcome.TIMEOUT, TIMED_OUT)

    def _cancel(self, record: Record) -> bool:
        """Begin to end it. Whether that is to do: not for one that is over, or is ending already."""
        if record in self._queue:
            self._queue.remove(record)
            record.finish(Outcome.CANCELED, Usage(), CANCELED)
            self.store.finished(record)
            self._seat.executed(record)
            self._seat.finish()
            return True
        if self._run is None or self._run[0] is not record or self.state is not SessionState.RUNNING:
            return False
        self._cancel_deadline()
        self._halt(SessionEvent.CANCELED, Outcome.CANCELED, CANCELED)
        return True

    def _halt(self, event: SessionEvent, outcome: Outcome, ending: str) -> None:
        if self._run is not None:
            self._stopped.clear()
            self._step(event)
            self._tasks.spawn(self._stop(*self._run, outcome, ending), f"execution {event}", self._run[0].call)

    async def _stop(self, record: Record, run: Run, outcome: Outcome, ending: str) -> None:
        with contextlib.suppress(
            TimeoutError, CarrelError
        ):  # an agent that refuses is no better than one that is silent
            async with asyncio.timeout(GRACE_S):
                await self.guest.link.interrupt()
                await self._stopped.wait()
        if self.state is SessionState.ENDED:
            return
        record.stopped(time.monotonic(), self._meter.stop())
        self._finish(record, run, outcome, ending)
        if run.outcome in NO_INTERPRETER or self._is_unwanted:
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
            self._replace(None)

    # -- another interpreter -----------------------------------------------------------------------------------------

    def _replace(self, run: Run | None) -> None:
        self._step(SessionEvent.LOST)
        self._tasks.spawn(self._restart(run), "interpreter replaced", tracing.current())

    async def _restart(self, run: Run | None) -> None:
        """With its environment. The session ends where that cannot be."""
        try:
            await self.guest.restart()
            if self.environment != NO_ENVIRONMENT:
                await self.guest.link.environment(self.environment)
        except (CarrelError, TimeoutError, OSError) as error:
            if self.state is not SessionState.ENDED:
                log.warning("an interpreter could not be replaced", extra={"reason": str(error)})
            self.guest.link.close("its interpreter could not be replaced")
            return
        if run is not None:
            self.guest.link.forget(run)
        if self.state is not SessionState.ENDED:
            self._step(SessionEvent.RESTARTED)
            self._seat.restarted()
            self._advance()

    # -- small things ------------------------------------------------------------------------------------------------

    def _step(self, event: SessionEvent) -> None:
        self.state = step(SESSION, self.state, event)
        if self.state is SessionState.RESTARTING:
            self._is_unwanted = False
            self._ready.clear()
        elif self.state in (SessionState.IDLE, SessionState.ENDED):
            self._ready.set()

    def _has_exit_code(self, spec: ExecutionSpec) -> bool:
        return spec.shell is not None or self._spec.container_type is ContainerType.SHELL

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _order(spec: ExecutionSpec, variables: bytes) -> Order:
    """Raises ContentTooLarge, RequestInvalid."""
    order = Order.of(spec)
    if variables:
        order = Order(order.code, variables, order.fields)
    if len(order.code) > CODE_BYTES:
        raise ContentTooLarge(f"The code is larger than {CODE_BYTES // MIB} MiB.")
    if len(order.variables) > CODE_BYTES:
        raise ContentTooLarge(f"The variables are larger than {CODE_BYTES // MIB} MiB.")
    if (
        spec.wanted and sum(len(name) + 8 for name in spec.wanted) * 6 > NAMES_BYTES
    ):  # as an escape, a character has six
        raise RequestInvalid("The names of the variables to return are too long together.", target="returnVariables")
    return order
