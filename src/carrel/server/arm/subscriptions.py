"""Subscriptions, tenants and locations: one of each of the first two, and labels.

Whoever has any right in the subscription may know that it is there: clients list subscriptions before they do anything else.
"""

from __future__ import annotations

from carrel.server.arm.call import ArmCall
from carrel.wire import arm_subscriptions as wire


async def listing(call: ArmCall) -> None:
    seen = [call.config] if call.sees(call.subscription_id) else []
    await call.reply(200, wire.encode_subscriptions(seen, call.services.tenant))


async def show(call: ArmCall) -> None:
    call.require_sight(call.subscription_id)
    await call.reply(200, wire.encode_subscription(call.config, call.services.tenant))


async def tenants(call: ArmCall) -> None:
    """Everybody who has a token of it may know it."""
    await call.reply(200, wire.encode_tenants(call.services.tenant))


async def locations(call: ArmCall) -> None:
    call.require_sight(call.subscription_id)
    await call.reply(200, wire.encode_locations(call.config))
