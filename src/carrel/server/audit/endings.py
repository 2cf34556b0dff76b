"""Ends of sessions that no call asked for, and changes of the keys that sign tokens: what the audit log has to have of things that happen.

The host tells of each pool what happened since the last time that this reader said how far it had come, so what ends while a gateway is
replaced is recorded by the next one; a gateway that is killed in between has recorded an end that will be recorded again. More than a
thousand others may not come in the meantime: then it is told how many are missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from carrel.errors import CarrelError, PoolNotFound
from carrel.host.hostlink import HostLink
from carrel.models import Notice, NoticeKind
from carrel.server.audit.scribe import Scribe
from carrel.server.pools import Pool, Pools
from carrel.storage import State

READER = "audit"
AGAIN_S = (1.0, 30.0)  # between two attempts to be told by the host, the first and the last
TOLD_S = KEYS_S = 1.0
LAST_S = 5.0  # for what is still to be told of a pool that is gone
BY_CALLERS = "it was deleted"  # reason of an end that its caller's own record has

_log = logging.getLogger("carrel.audit")


class Endings:
    """Of all pools."""

    def __init__(self, pools: Pools, link: HostLink, scribe: Scribe, digest: Callable[[str], str]) -> None:
        self._pools, self._link, self._scribe, self._digest = pools, link, scribe, digest
        self._running: dict[str, asyncio.Task[None]] = {}
        self._come: dict[str, int] = {}  # by pool: the last notice that was recorded and the host does not know it yet

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:

            def changed(key: str, pool: Pool | None) -> None:
                if pool is not None and key not in self._running:
                    self._running[key] = group.create_task(self._follow(key, pool))
                elif pool is None and (task := self._running.pop(key, None)) is not None:
                    asyncio.get_running_loop().call_later(LAST_S, task.cancel)

            self._pools.on_changed.append(changed)
            for pool in self._pools.list():
                changed(pool.key, pool)
            while True:
                await asyncio.sleep(TOLD_S)
                await self._tell()

    async def _tell(self) -> None:
        """The host, how far it has come: not for each notice, since a busy pool has many."""
        come, self._come = self._come, {}
        for key, number in come.items():
            with contextlib.suppress(CarrelError):  # it will be told the next time, or is gone
                await self._link.delivered(key, number, READER)

    async def _follow(self, key: str, pool: Pool) -> None:
        """While the host is away, or has not opened the pool yet, it is asked again and again."""
        place = f"{pool.record.id.resource_group}/{pool.record.id.name}".lower()
        pause, seen = AGAIN_S[0], 0
        while True:
            try:
                async with self._link.undelivered(key, READER) as notices:
                    pause = AGAIN_S[0]
                    async for notice in notices:
                        self._take(notice, place, seen)
                        seen = self._come[key] = notice.number
            except PoolNotFound:
                seen = 0
            except CarrelError as error:
                seen = 0  # a host that is started anew counts anew
                _log.debug("ends of sessions wait for the host", extra={"pool": key, "why": str(error)})
            except Exception:  # a mistake of ours: it must not end the gateway
                _log.exception("ends of sessions are not recorded", extra={"pool": key})
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_S[1])

    def _take(self, notice: Notice, place: str, seen: int) -> None:
        if seen and notice.number > seen + 1:
            missing = {"what": "ends of sessions may be missing", "count": notice.number - seen - 1}
            self._scribe.own("audit/lose", missing, pool=place)
        if notice.kind is NoticeKind.ENDED and notice.reason != BY_CALLERS:
            details = {"reason": notice.reason, "guid": notice.session.guid}
            self._scribe.own("sessions/end", details, pool=place, session=self._digest(notice.session.identifier))


async def watch_keys(state: State, scribe: Scribe) -> None:
    """Until cancelled: records that there are other keys to sign tokens with than a moment before."""
    known = set(state.public_keys())
    while True:
        await asyncio.sleep(KEYS_S)
        now = set(state.public_keys())
        if now != known:
            scribe.own("keys/change", {"added": sorted(now - known), "removed": sorted(known - now)})
            known = now
