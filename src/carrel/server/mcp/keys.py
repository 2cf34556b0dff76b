"""The pools' keys, with which MCP clients call instead of a token."""

from __future__ import annotations

import contextlib
import hmac

from carrel.errors import PoolNotFound, Unauthorized
from carrel.server.pools import Pools
from carrel.server.request import Target, decode_target

ROUTE = "mcp"
KEY_HEADER = b"x-ms-apikey"


class Keys:
    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    def check(self, target: Target, given: str) -> str:
        """The pool that the key is of, as the host knows it. Raises Unauthorized, with the same words for a pool that is not there."""
        name, key = "", b""
        with contextlib.suppress(PoolNotFound):
            pool = self._pools.seek(target.subscription, target.resource_group, target.pool)
            name, key = pool.key, pool.record.mcp_key.encode() if pool.spec.has_mcp and pool.spec.has_mcp_key else b""
        if not hmac.compare_digest(given.encode("latin-1", "replace"), key) or not key:
            error = Unauthorized("The key in x-ms-apikey is not this session pool's.", target="x-ms-apikey")
            error.why = "key"
            raise error
        return name


def target_of(raw_path: bytes) -> Target | None:
    """The target of a path that is a pool's MCP endpoint; None for any other path."""
    target = decode_target(raw_path)
    return target if target is not None and target.rest.lower() == ROUTE.encode() else None
