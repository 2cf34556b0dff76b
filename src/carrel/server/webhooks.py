"""Webhooks: the operator of a pool is told before a session expires, and when it has ended.

    POST URL
    carrel-webhook-id: GUID-NUMBER, the same when it is sent again
    carrel-webhook-timestamp: Unix seconds
    carrel-webhook-signature: v1=HMAC-SHA256 of "TIMESTAMP.BODY" under the pool's secret, in hex
    traceparent, tracestate: of the call that caused it, where that has told them or is recorded

Sent by the gateway, a few at once, each a few times until it is taken. What was sent is told to the host, so that the next gateway goes on
where this one was killed: something may be told twice, and nothing is left out but what a receiver did not take, or what over a thousand
others came after in the meantime. The address is the operator's, so it may be a private one; redirects are not followed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import logging
import ssl
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from carrel.errors import CarrelError, PoolNotFound
from carrel.host.hostlink import HostLink
from carrel.models import Notice, NoticeKind
from carrel.server import outgoing
from carrel.server.pools import Pool, Pools
from carrel.wire.sessions import encode_webhook

if TYPE_CHECKING:
    import httpx

READER = "webhook"
AT_ONCE = 8
PAUSES_S = (0.0, 1.0, 5.0, 25.0)  # before each try
ANSWER_S = 10.0
AGAIN_S = (1.0, 30.0)  # between two attempts to be told by the host, the first and the last
LAST_S = 10.0  # for what is still to be told of a pool that is gone
_TOLD = (NoticeKind.EXPIRING, NoticeKind.ENDED)
_LATER = (408, 425, 429)  # the answers of 4xx that may be others next time

log = logging.getLogger("carrel.webhooks")


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a pool's notices go. Made by those who may read the secret."""

    pool: str
    url: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Hook({self.pool})"


class Webhooks:
    """Of all pools. Made while files can still be read, since what sends them loads code when it is first used.

    Only pools that have one in the configuration can have one later: `is_wanted` says whether there is any.
    """

    def __init__(self, pools: Pools, link: HostLink, authorities: Path, *, is_wanted: bool) -> None:
        self._pools, self._link, self._is_wanted = pools, link, is_wanted
        self._running: dict[str, tuple[Sender, asyncio.Task[None]]] = {}
        if is_wanted:
            self._trust = ssl.create_default_context(cafile=authorities)
            asyncio.run(outgoing.rehearse())

    async def run(self) -> None:
        """Until cancelled."""
        if not self._is_wanted:
            return
        async with outgoing.client(self._trust, ANSWER_S, AT_ONCE * 4) as http, asyncio.TaskGroup() as group:
            self._start = partial(self._send_for, group, http)
            self._pools.on_changed.append(self._changed)
            for pool in self._pools.list():
                self._changed(pool.key, pool)
            await asyncio.Event().wait()

    def _send_for(
        self, group: asyncio.TaskGroup, http: httpx.AsyncClient, hook: Hook
    ) -> tuple[Sender, asyncio.Task[None]]:
        sender = Sender(hook, self._link, http)
        return sender, group.create_task(sender.run())

    def _changed(self, key: str, pool: Pool | None) -> None:
        """Of a pool that is being deleted the ends of its sessions are still told."""
        hook = _hook(pool) if pool is not None else None
        running = self._running.get(key)
        if running is not None and running[0].hook != hook:
            del self._running[key]
            running[0].is_last = True
            asyncio.get_running_loop().call_later(LAST_S if pool is None else 0, running[1].cancel)
        if hook is not None and key not in self._running:
            self._running[key] = self._start(hook)


def _hook(pool: Pool) -> Hook | None:
    secret = pool.secrets.webhook.encode()
    return Hook(pool.key, pool.spec.webhook, secret) if pool.spec.webhook and secret else None


class Sender:
    """Of one pool."""

    def __init__(self, hook: Hook, link: HostLink, http: httpx.AsyncClient) -> None:
        self.hook, self._link, self._http = hook, link, http
        self.is_last = False  # the pool is gone: nothing that is told from now on is for this one
        self._under_way: set[int] = set()
        self._seen = 0
        self._free = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """While the host is away, or has not opened the pool yet, it is asked again and again, and that is said once."""
        pause = AGAIN_S[0]
        while not self.is_last:
            self._under_way.clear()
            try:
                async with self._link.undelivered(self.hook.pool, READER) as notices, asyncio.TaskGroup() as group:
                    pause = AGAIN_S[0]
                    with contextlib.suppress(PoolNotFound):  # it was deleted: what is under way goes on to its end
                        async for notice in notices:
                            await self._take(notice, group)
            except* CarrelError as errors:
                level = logging.WARNING if pause == AGAIN_S[0] else logging.DEBUG
                why = str(errors.exceptions[0])
                log.log(level, "webhooks wait for the host", extra={"pool": self.hook.pool, "why": why})
            except* Exception:  # a mistake of ours: it must not end the gateway
                log.exception("webhooks failed", extra={"pool": self.hook.pool})
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_S[1])

    async def _take(self, notice: Notice, group: asyncio.TaskGroup) -> None:
        if self._seen and notice.number > self._seen + 1:
            log.error("notices were lost", extra={"pool": self.hook.pool, "count": notice.number - self._seen - 1})
        self._seen = notice.number
        if notice.kind in _TOLD and not (notice.kind is NoticeKind.EXPIRING and _is_past(notice)):
            self._under_way.add(notice.number)
            await self._free.acquire()
            group.create_task(self._send(notice))

    async def _send(self, notice: Notice) -> None:
        try:
            await self._deliver(notice)
        finally:
            self._free.release()
            self._under_way.discard(notice.number)
        with contextlib.suppress(PoolNotFound):  # nobody will ask for it any more
            await self._link.delivered(self.hook.pool, min(self._under_way, default=self._seen + 1) - 1, READER)

    async def _deliver(self, notice: Notice) -> None:
        answer = ""
        for pause in PAUSES_S:
            await asyncio.sleep(pause)
            if notice.kind is NoticeKind.EXPIRING and _is_past(notice):
                return  # its end will be told
            answer, is_final = await self._post(notice)
            if not answer:
                return
            if is_final:
                break
        log.error("a webhook was not taken", extra={"pool": self.hook.pool, "what": notice.kind, "answer": answer})

    async def _post(self, notice: Notice) -> tuple[str, bool]:
        """What went wrong, "" for nothing; and whether there is no use in trying again."""
        body, moment = encode_webhook(self.hook.pool, notice), str(int(time.time()))
        headers = {
            "content-type": "application/json",
            "user-agent": "carrel-webhook/1",
            "carrel-webhook-id": f"{notice.session.guid}-{notice.number}",
            "carrel-webhook-timestamp": moment,
            "carrel-webhook-signature": f"v1={signature(self.hook.secret, moment, body)}",
        }
        headers |= {
            name: value for name, value in zip(("traceparent", "tracestate"), notice.trace, strict=False) if value
        }
        try:
            async with (
                asyncio.timeout(ANSWER_S),
                self._http.stream("POST", self.hook.url, content=body, headers=headers) as reply,
            ):
                status = reply.status_code  # its body may be endless
        except Exception as error:  # whatever the library raises for whatever an address may be
            return type(error).__name__, False
        return ("", True) if 200 <= status < 300 else (str(status), 400 <= status < 500 and status not in _LATER)


def signature(secret: bytes, moment: str, body: bytes) -> str:
    return hmac.new(secret, moment.encode() + b"." + body, hashlib.sha256).hexdigest()


def _is_past(notice: Notice) -> bool:
    return notice.session.expires_at < time.time()
