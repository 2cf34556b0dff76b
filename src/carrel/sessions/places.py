"""The places for sandboxes that the pools of a host share. Books only, as in pool.py: what should happen is each pool's owner to do.

A place is taken from the decision to start a sandbox on, and free again once its pool has decided to kill it: for the moment that a kill
takes there may be more. Sessions go before readiness:
where no place is free, a caller gets that of a sandbox which another pool keeps ready.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from carrel.sessions.actions import Action
from carrel.sessions.pool import Pool

Perform = Callable[[Iterable[Action]], None]


class Places:
    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._pools: list[tuple[Pool, Perform]] = []

    def share(self, pool: Pool, perform: Perform) -> None:
        self._pools.append((pool, perform))

    def leave(self, pool: Pool) -> None:
        """It is no more. Safe to call again."""
        self._pools = [each for each in self._pools if each[0] is not pool]

    @property
    def held(self) -> int:
        """Sandboxes of all pools."""
        return sum(pool.held for pool, _perform in self._pools)

    def free(self) -> int:
        """Never below zero: a pool that is defined anew holds for a moment what it gives up and what it starts."""
        return max(0, self.maximum - self.held)

    def make_way(self, pool: Pool) -> None:
        """Before a new identifier asks `pool`: let the pool with most to spare give one up, if it takes that."""
        if not pool.needs_place or pool.active >= pool.spec.maximum:
            return
        donor, perform = max(self._pools, key=lambda each: each[0].spare)
        if donor.spare:
            perform(donor.give_up())
