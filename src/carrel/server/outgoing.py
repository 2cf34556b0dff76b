"""Calls that the gateway makes itself, to webhooks and issuers: what they need is loaded while files can still be read."""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

log = logging.getLogger(__name__)


def client(trust: ssl.SSLContext, timeout: float, most: int) -> httpx.AsyncClient:
    """Follows no redirect: an address is what an operator wrote, and not what a stranger makes of it."""
    import httpx  # a tenth of a second and some megabytes, which a gateway that calls nobody need not pay

    limits = httpx.Limits(max_connections=most)
    return httpx.AsyncClient(verify=trust, timeout=timeout, limits=limits, follow_redirects=False)


async def rehearse() -> None:
    """Have the library load all that it needs to connect: later, its files may be out of reach."""
    async with client(ssl.create_default_context(), 1.0, 4) as http:
        for address in ("http://127.0.0.1:1/", "https://localhost:1/"):
            try:
                await http.get(address)
            except Exception as error:  # nobody is there
                log.debug("outgoing calls are ready", extra={"how": type(error).__name__})
