"""The route about a pool's image. For operators; it allocates no session."""

from __future__ import annotations

from carrel.server.call import Call
from carrel.wire.images import decode_image, encode_image

_MAX_BODY = 4096


async def show(call: Call) -> None:
    """`GET .carrel/image`."""
    await call.exchange.reply(200, encode_image(await call.link.image(call.pool.name)))


async def replace(call: Call) -> None:
    """`PUT .carrel/image`: for new sessions; answers when they get it."""
    name = decode_image(await call.exchange.body(_MAX_BODY))
    call.exchange.details = {"image": name}
    image = await call.link.set_image(call.pool.name, name)
    await call.keep("image", name)
    await call.exchange.reply(200, encode_image(image))
