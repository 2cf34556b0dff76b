"""Keys of pools' MCP endpoints: told and exchanged."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

from carrel.arm_errors import BeingDeleted, McpNotEnabled
from carrel.server.arm.call import ArmCall
from carrel.server.arm.pools import found
from carrel.server.pools import Pool, new_key
from carrel.wire import jsons

_KIND = "Microsoft.App/sessionPools"


async def fetch(call: ArmCall) -> None:
    pool = await _pool(call, "fetchMCPServerCredentials")
    await call.reply(200, jsons.encode({"apiKey": pool.record.mcp_key}))


async def rotate(call: ArmCall) -> None:
    """The old key is refused from now on (in Azure it may be good for five minutes more)."""
    pool = await _pool(call, "rotateMCPServerCredentials")
    key, stamp = new_key(), call.stamp(time.time())
    await call.services.pools.amend(
        pool, lambda record: replace(record, mcp_key=key, modified=stamp, etag=uuid.uuid4().hex)
    )
    await call.reply(200, jsons.encode({"apiKey": key}))


async def _pool(call: ArmCall, verb: str) -> Pool:
    pool = await found(call, f"{_KIND}/{verb}/action")
    name = pool.record.id.name
    if pool.record.state == "Deleting":
        raise BeingDeleted(f"The session pool '{name}' is being deleted.")
    if not pool.spec.has_mcp:
        raise McpNotEnabled(f"Session pool '{name}' does not have MCP Server enabled.")
    if not pool.spec.has_mcp_key:
        raise McpNotEnabled(f"Session pool '{name}' has no key: isMcpServerApiKeyDisabled is true.")
    return pool
