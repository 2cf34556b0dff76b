"""A keeper's pools in numbers, for whoever scrapes them."""

from __future__ import annotations

from carrel.counts import PoolCounts
from carrel.models import PoolStatus
from carrel.sessions.pool import Pool
from carrel.sessions.session import Session
from carrel.sessions.tally import Tally


def counts_of(status: PoolStatus, pool: Pool | None, sessions: list[Session], tally: Tally) -> PoolCounts:
    """`pool` are its books, None of one that is refused; `sessions` are all of it, also of its earlier definitions."""
    return PoolCounts(
        refused=int(pool is None),
        warm=status.warm,
        starting=status.starting,
        live=len(sessions),
        callers=0 if pool is None else len(pool.waiting),
        queued=sum(session.queued for session in sessions),
        ready=status.spec.ready,
        maximum=status.spec.maximum,
        failed=tally.failed,
        sessions=tally.sessions,
        restarts=tally.restarts,
        bytes_in=tally.bytes_in,
        bytes_out=tally.bytes_out,
        made=dict(tally.made),
        ended=dict(tally.ends),
        executions=dict(tally.outcomes),
        times={
            "start": tally.start,
            "allocation": tally.allocation,
            "first_call": tally.first_call,
            "queue": tally.queued,
            "execution": tally.execution,
        },
    )
