"""A pool of the registry as the resource of one caller: with addresses that it can reach, in the form of its api-version."""

from __future__ import annotations

from typing import Any

from carrel.server.arm.call import ArmCall
from carrel.server.pools import Pool
from carrel.wire import jsons
from carrel.wire.arm_pool_resource import pool_resource


def described(call: ArmCall, pool: Pool) -> dict[str, Any]:
    return pool_resource(pool.record, pool.spec, pool.level, call.exchange.origin(), call.version)


def encoded_pool(call: ArmCall, pool: Pool) -> bytes:
    return jsons.encode(described(call, pool))
