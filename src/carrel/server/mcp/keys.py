"""The pools' keys, with which MCP clients call instead of a token."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from carrel.errors import Unauthorized
from carrel.server.request import decode_target

ROUTE = "mcp"
KEY_HEADER = b"x-ms-apikey"


class Keys:
    """In memory: whoever serves cannot read the state folder any more. By the pools' names in any case."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = {pool.lower(): key.encode() for pool, key in keys.items()}

    def check(self, pool: str, given: str) -> None:
        """Raises Unauthorized, with the same words for a pool that is not there."""
        key = self._keys.get(pool.lower(), b"")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), key) or not key:
            raise Unauthorized("The key in x-ms-apikey is not this session pool's.", target="x-ms-apikey")


def pool_of(raw_path: bytes) -> str | None:
    """The pool whose MCP endpoint a path is; None for any other path."""
    target = decode_target(raw_path)
    return target.pool if target is not None and target.rest.lower() == ROUTE.encode() else None
