"""`GET /.carrel/health`: how this server is, for those who run it, and how their pools are, for those who use them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from carrel.errors import HostUnavailable, StoreUnavailable
from carrel.models import PoolStatus, Vitals
from carrel.server.operator.call import OperatorCall, OperatorServices
from carrel.troubles import Trouble, latest
from carrel.wire import health as wire

_ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class Host:
    """What the host says; of one that says nothing, nothing."""

    vitals: Vitals | None
    took_ms: float = 0.0
    troubles: tuple[Trouble, ...] = ()
    statuses: tuple[PoolStatus, ...] = ()


async def show(call: OperatorCall) -> None:
    """Answers also while host and store are away: that is when somebody asks."""
    services, sees_all = call.services, call.sees_all
    # Whoever may only see a pool costs the database nothing.
    host, size = await asyncio.gather(_host(services), _store_bytes(services) if sees_all else _nothing())
    statuses = {each.spec.name: each for each in host.statuses}
    pools = [wire.PoolHealth(each.record, each.level, statuses.get(each.key)) for each in call.pools()]
    keys = {each.key for each in call.pools()}
    troubles = latest(services.instruments.troubles.last(), host.troubles)
    report = wire.Report(
        services.instruments.started_at,
        wire.HostHealth(host.vitals is not None, host.took_ms),
        pools,
        [each for each in troubles if sees_all or each.pool in keys],
        _server(services, host.vitals, size) if sees_all else None,
    )
    await call.reply(200, wire.encode_health(report, time.time()))


def _server(services: OperatorServices, host: Vitals | None, size: int | None) -> wire.ServerHealth:
    own, keys = services.instruments, services.state.keys
    outbox, counts = own.telemetry.outbox, own.telemetry.counts
    return wire.ServerHealth(
        supervisor=own.supervisor,
        gateway=own.pid,
        host=host,
        store=wire.StoreHealth(services.store.engine_name, size),
        certificate_ends=own.certificate.end.timestamp(),
        signing_keys=len(keys.public),
        newest_key_made=keys.newest.made_at,
        passed_over=[(each.level, each.reason, each.advice) for each in own.findings.passed_over],
        warnings=own.findings.warnings,
        audit=None if own.ledger is None else (own.ledger.has_room, own.ledger.waiting),
        traces=None if counts is None or outbox is None else (counts.sent, counts.lost + outbox.dropped, len(outbox)),
    )


async def _host(services: OperatorServices) -> Host:
    began = time.perf_counter()
    try:
        async with asyncio.timeout(_ANSWER_S):
            vitals, troubles = await services.link.vitals()
            took_ms = round((time.perf_counter() - began) * 1000, 2)
            return Host(vitals, took_ms, tuple(troubles), tuple(await services.link.pools()))
    except (TimeoutError, HostUnavailable):
        return Host(None)


async def _nothing() -> None: ...


async def _store_bytes(services: OperatorServices) -> int | None:
    """None where the store does not answer."""
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await services.store.run(lambda books: books.size_bytes())
    except (TimeoutError, StoreUnavailable):
        return None
