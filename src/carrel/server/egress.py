"""The routes about a pool's egress list: what its sessions may reach. For operators; none of them allocates a session."""

from __future__ import annotations

from carrel.server.call import Call
from carrel.wire.egress import decode_policy, decode_target, encode_policy, encode_verdict

_MAX_BODY = 256 * 1024


async def show(call: Call) -> None:
    """`GET .carrel/egress`."""
    await call.exchange.reply(200, encode_policy(await call.link.egress(call.pool.name)))


async def replace(call: Call) -> None:
    """`PUT .carrel/egress`: from now on and for sessions that live."""
    allow = decode_policy(await call.exchange.body(_MAX_BODY))
    call.exchange.details = {"allow": list(allow)}
    policy = await call.link.set_egress(call.pool.name, allow)
    await call.keep("egress", {"allow": list(allow)})
    await call.exchange.reply(200, encode_policy(policy))


async def test(call: Call) -> None:
    """`POST .carrel/egress/test`: what the list does with a target, and why; the name is really resolved, nothing is connected to."""
    target = decode_target(await call.exchange.body(_MAX_BODY))
    await call.exchange.reply(200, encode_verdict(await call.link.test_egress(call.pool.name, target)))
