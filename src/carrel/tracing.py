"""Which call something is done for: W3C Trace Context (https://www.w3.org/TR/trace-context/), and the spans of calls that are recorded.

Every call has a Context from where it enters: its trace id stands in the reply, in each line of the log and in each span. It goes along
with the task (a context variable) and, as a field, over hostlink. `outbox` is where spans go; without one, which is the usual case, nothing
is recorded and `span` costs a look at the variable.

What is begun for a call and outlives it (a sandbox that refills a pool, a timer) is nobody's: such a task is started with `apart`.
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_STATE = re.compile(r"[\x20-\x7e]{1,512}")
_SAMPLED = 1

Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Span:
    """Something that was done for a call, and how long it took. Ids are lower-case hex; times nanoseconds since 1970.

    `attributes` never hold code, output, a token or an identifier as it is.
    """

    name: str
    trace: str
    id: str
    parent: str  # "" for none
    begin: int
    end: int
    kind: str = "internal"  # server, client
    error: str = ""  # a code; "" where it went well
    attributes: Mapping[str, Value] = field(default_factory=dict)
    state: str = ""
    part: str = ""  # which of our processes; "" for this one


class Outbox:
    """Spans on their way out. Nobody waits for a collector: what there is no room for is dropped and counted."""

    def __init__(self, most: int) -> None:
        self._spans: deque[Span] = deque()
        self._most = most
        self.dropped = 0
        self.tell: Callable[[], None] = _nothing  # called after each span

    def put(self, span: Span) -> None:
        if len(self._spans) >= self._most:
            self.dropped += 1
        else:
            self._spans.append(span)
        self.tell()

    def take(self, most: int) -> list[Span]:
        return [self._spans.popleft() for _ in range(min(most, len(self._spans)))]

    def __len__(self) -> int:
        return len(self._spans)


class Context(NamedTuple):
    """Where a call is: `id` is that of the span that it is in, "" where nobody has told one. `state` is the caller's `tracestate`."""

    trace: str
    id: str = ""
    flags: int = 0
    state: str = ""
    outbox: Outbox | None = None

    @property
    def parent_header(self) -> str:
        """`traceparent` for whoever is called next; "" where no span is known: a trace id alone is none."""
        return f"00-{self.trace}-{self.id}-{self.flags:02x}" if self.id else ""

    @property
    def is_sampled(self) -> bool:
        return bool(self.flags & _SAMPLED)

    # -- over hostlink -----------------------------------------------------------------------------------------------

    def carried(self) -> str:
        """As a field of a request. Only a call that is recorded makes spans on the other side too."""
        recorded = "r" if self.outbox is not None else ""
        return f"{self.trace} {self.id} {self.flags:x}{recorded} {self.state}" if self.id else self.trace

    @classmethod
    def taken(cls, text: object, outbox: Outbox) -> Self | None:
        """The other end of `carried`; None where there was nothing."""
        if not isinstance(text, str):
            return None
        trace, _, rest = text.partition(" ")
        if not rest:
            return cls(trace)
        id, flags, state = rest.split(" ", 2)
        return cls(trace, id, int(flags.rstrip("r"), 16), state, outbox if flags.endswith("r") else None)


def parse(parent: str | None, state: str | None) -> Context | None:
    """A caller's headers; None where there are none that hold, as the standard has it: then a trace begins here."""
    found = _PARENT.fullmatch(parent.strip()) if parent is not None and len(parent) <= 512 else None
    if found is None:
        return None
    version, trace, id, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not id.strip("0"):
        return None
    kept = state.strip() if state is not None and _STATE.fullmatch(state) else ""
    return Context(trace, id, int(flags, 16) & _SAMPLED, kept)


def new_trace() -> str:
    return os.urandom(16).hex()


def new_span() -> str:
    return os.urandom(8).hex()


# ---- the call that the running code is for ---------------------------------------------------------------------------------

_CURRENT: Final[contextvars.ContextVar[Context | None]] = contextvars.ContextVar("carrel.trace", default=None)


def current() -> Context | None:
    return _CURRENT.get()


def enter(context: Context | None) -> None:
    """From here on, for this task and those that it starts."""
    _CURRENT.set(context)


@contextlib.contextmanager
def within(context: Context | None) -> Iterator[None]:
    """What is done here in one go is for that call."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def apart(context: Context | None = None) -> contextvars.Context:
    """For `create_task` and `call_later`: work for the call of `context`, or for nobody's, whoever starts it."""
    copy = contextvars.copy_context()
    copy.run(_CURRENT.set, context)
    return copy


class Recording:
    """A span under way, as a context manager. What is done inside is below it. An exception makes it an error."""

    __slots__ = ("_attributes", "_begin", "_kind", "_name", "_parent", "_token", "context", "error")

    def __init__(self, name: str, parent: Context, kind: str, attributes: Mapping[str, Value]) -> None:
        self._name, self._parent, self._kind = name, parent, kind
        self._attributes = dict(attributes)
        self.context = parent._replace(id=new_span())
        self.error = ""

    def note(self, **attributes: Value) -> None:
        self._attributes |= attributes

    def __enter__(self) -> Self:
        self._begin = time.time_ns()
        self._token = _CURRENT.set(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ValueError):  # a generator that is closed by another task than entered it
            _CURRENT.reset(self._token)
        fault = self.error or ("" if error is None else _code(error))
        record(self._parent, self._name, self._begin, self._attributes, self._kind, fault, self.context.id)


class Stages:
    """What takes its time in several steps of the loop, as spans one after the other, of the call that is current when it begins."""

    __slots__ = ("_begin", "_name", "_parent")

    def __init__(self, name: str) -> None:
        parent = _CURRENT.get()
        self._parent = parent if parent is not None and parent.outbox is not None else None
        self._name = name
        self._begin = time.time_ns() if self._parent is not None else 0

    def next(self, name: str) -> None:
        if self._parent is not None:
            record(self._parent, self._name, self._begin)
            self._name, self._begin = name, time.time_ns()

    def end(self, error: str = "") -> None:
        """Safe to call again."""
        if self._parent is not None:
            record(self._parent, self._name, self._begin, error=error)
            self._parent = None


class Outgoing:
    """A call to another process of ours. It is told whose it is, and is a span where those are recorded."""

    __slots__ = ("_begin", "_context", "_name", "_parent")

    def __init__(self, name: str) -> None:
        self._name = name
        self._context = self._parent = parent = _CURRENT.get()
        if parent is not None and parent.outbox is not None:
            self._context, self._begin = parent._replace(id=new_span()), time.time_ns()

    def told(self, request: dict[str, Any]) -> dict[str, Any]:
        return request if self._context is None else {**request, "trace": self._context.carried()}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parent is not None and self._context is not None and self._parent.outbox is not None:
            fault = "" if error is None else _code(error)
            record(self._parent, self._name, self._begin, kind="client", error=fault, id=self._context.id)


def _code(error: BaseException) -> str:
    """Of ours, their code; of others, the kind: never the words."""
    return str(getattr(error, "code", type(error).__name__))


class _Nothing:
    """In the place of a Recording where nobody records."""

    context = None
    error = ""

    def note(self, **attributes: Value) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


_NOTHING: Final = _Nothing()


def span(name: str, kind: str = "internal", attributes: Mapping[str, Value] = {}) -> Recording | _Nothing:
    """What the block does, as a span of the current call; nothing where that is not recorded."""
    parent = _CURRENT.get()
    if parent is None or parent.outbox is None:
        return _NOTHING
    return Recording(name, parent, kind, attributes)


def record(
    parent: Context | None,
    name: str,
    begin: int,
    attributes: Mapping[str, Value] = {},
    kind: str = "internal",
    error: str = "",
    id: str = "",
) -> None:
    """A span that ends now. For what begins in one step of the loop and ends in another."""
    if parent is not None and parent.outbox is not None:
        made = Span(
            name,
            parent.trace,
            id or new_span(),
            parent.id,
            begin,
            time.time_ns(),
            kind,
            error,
            attributes,
            parent.state,
        )
        parent.outbox.put(made)


def _nothing() -> None: ...
