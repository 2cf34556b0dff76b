"""Resource providers: there is nothing to register, and clients that do are told that it is done."""

from __future__ import annotations

from carrel.server.arm.call import ArmCall
from carrel.wire import arm_providers as wire


async def listing(call: ArmCall) -> None:
    call.require_sight(call.subscription_id)
    await call.reply(200, wire.encode_providers(call.config))


async def show(call: ArmCall) -> None:
    call.require_sight(call.subscription_id)
    await call.reply(200, wire.encode_provider(call.config, call.names["namespace"]))


async def register(call: ArmCall) -> None:
    """Changes nothing, so it takes no more than reading does."""
    await show(call)
