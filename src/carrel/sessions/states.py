"""The lives of a session and of a sandbox, each as one table: what is not in a table cannot happen.

A session exists from the moment a sandbox is assigned to its identifier. At most one execution runs in it; one that overruns its
deadline or is canceled is interrupted, and where that does not help, where the interpreter died, or where a caller wants a fresh one, the
interpreter is replaced (RESTARTING) while variables are lost and files stay. A sandbox belongs to one session only and is never used
again, so its life has no way back.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar


class SessionState(StrEnum):
    IDLE = "idle"  # the interpreter waits for code
    RUNNING = "running"  # one execution is under way
    INTERRUPTING = "interrupting"  # it is past its deadline, or canceled: told to stop, within a grace period
    RESTARTING = "restarting"  # a fresh interpreter is being made; calls wait
    ENDED = "ended"  # for good; the identifier's next call allocates another session


class SessionEvent(StrEnum):
    RUN = "run"
    FINISHED = "finished"
    OVERRAN = "overran"
    CANCELED = "canceled"
    LOST = "lost"  # the interpreter died, does not stop, or is not wanted any longer
    RESTARTED = "restarted"
    ENDED = "ended"


class SandboxState(StrEnum):
    STARTING = "starting"
    WARM = "warm"  # ready, nobody's
    LIVE = "live"  # some session's
    GONE = "gone"


class SandboxEvent(StrEnum):
    READY = "ready"
    ASSIGNED = "assigned"
    ENDED = "ended"


SESSION: Mapping[tuple[SessionState, SessionEvent], SessionState] = {
    (SessionState.IDLE, SessionEvent.RUN): SessionState.RUNNING,
    (SessionState.IDLE, SessionEvent.LOST): SessionState.RESTARTING,
    (SessionState.RUNNING, SessionEvent.FINISHED): SessionState.IDLE,
    (SessionState.RUNNING, SessionEvent.OVERRAN): SessionState.INTERRUPTING,
    (SessionState.RUNNING, SessionEvent.CANCELED): SessionState.INTERRUPTING,
    (SessionState.RUNNING, SessionEvent.LOST): SessionState.RESTARTING,
    (SessionState.INTERRUPTING, SessionEvent.FINISHED): SessionState.IDLE,
    (SessionState.INTERRUPTING, SessionEvent.LOST): SessionState.RESTARTING,
    (SessionState.RESTARTING, SessionEvent.RESTARTED): SessionState.IDLE,
    **{(state, SessionEvent.ENDED): SessionState.ENDED for state in SessionState},
}

SANDBOX: Mapping[tuple[SandboxState, SandboxEvent], SandboxState] = {
    (SandboxState.STARTING, SandboxEvent.READY): SandboxState.WARM,
    (SandboxState.WARM, SandboxEvent.ASSIGNED): SandboxState.LIVE,
    **{(state, SandboxEvent.ENDED): SandboxState.GONE for state in SandboxState},
}

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class TransitionError(Exception):
    """A step that the table does not have: a mistake of ours, never of a caller or of a guest."""


def step(table: Mapping[tuple[S, E], S], state: S, event: E) -> S:
    """The state after `event`. Raises TransitionError where the table has no such step."""
    following = table.get((state, event))
    if following is None:
        raise TransitionError(f"no step from {state!r} by {event!r}")
    return following
