"""Subscriptions, tenants and locations: one of each of the first two, and labels."""

from __future__ import annotations

from carrel.server.arm.call import ArmCall
from carrel.wire import arm_subscriptions as wire


async def listing(call: ArmCall) -> None:
    await call.reply(200, wire.encode_subscriptions([call.config], call.services.tenant))


async def show(call: ArmCall) -> None:
    await call.reply(200, wire.encode_subscription(call.config, call.services.tenant))


async def tenants(call: ArmCall) -> None:
    await call.reply(200, wire.encode_tenants(call.services.tenant))


async def locations(call: ArmCall) -> None:
    await call.reply(200, wire.encode_locations(call.config))
