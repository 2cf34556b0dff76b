"""A session pool as the resource that the control plane shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrel.models import Level, Network, PoolSpec
from carrel.store.records import PoolRecord
from carrel.wire.arm_bags import at, merged
from carrel.wire.arm_resources import encode_system_data
from carrel.wire.arm_versions import has_nested_lifecycle

_COOLDOWN = "dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds"


def brief_resource(record: PoolRecord) -> dict[str, Any]:
    """As in lists of resources of any kind."""
    return {
        "id": record.id.resource_id,
        "name": record.id.name,
        "type": "Microsoft.App/sessionPools",
        "location": record.location,
        "tags": dict(record.tags),
        "provisioningState": record.state,
    }


def pool_resource(record: PoolRecord, spec: PoolSpec, level: Level | None, origin: str, version: str) -> dict[str, Any]:
    """`origin` is ours as the caller sees it: endpoints are addresses that it can reach. `spec` has the values that are in force."""
    return {
        "id": record.id.resource_id,
        "name": record.id.name,
        "type": "Microsoft.App/sessionPools",
        "location": record.location,
        "tags": dict(record.tags),
        "systemData": encode_system_data(record.created, record.modified),
        "etag": f'"{record.etag}"',
        "properties": _encoded_properties(record, spec, level, f"{origin}{data_path(record)}", version),
    }


def data_path(record: PoolRecord) -> str:
    """Where the pool's own endpoint is."""
    return f"{record.id.group_id}/sessionPools/{record.id.name}"


def _encoded_properties(
    record: PoolRecord, spec: PoolSpec, level: Level | None, endpoint: str, version: str
) -> dict[str, Any]:
    bag = record.properties
    scale = bag.get("scaleConfiguration", {})

    def told(path: str, otherwise: object) -> object:
        """As it was written, which is there also where the pool cannot be served; what was left out as it is in force."""
        value = at(bag, path)
        return otherwise if value is None else value

    network = "EgressDisabled" if spec.network is Network.NONE else "EgressEnabled"
    return {
        "provisioningState": record.state,
        "poolManagementType": "Dynamic",
        "containerType": told("containerType", spec.container_type),
        "environmentId": bag.get("environmentId"),
        # What nobody asked for is not told: Terraform's azurerm would want to take it away, at each plan.
        "scaleConfiguration": {
            "maxConcurrentSessions": told("scaleConfiguration.maxConcurrentSessions", spec.maximum),
            **{name: scale[name] for name in ("readySessionInstances",) if scale.get(name) is not None},
        },
        "dynamicPoolConfiguration": _lifecycle_of(told(_COOLDOWN, spec.cooldown), version),
        "sessionNetworkConfiguration": {"status": told("sessionNetworkConfiguration.status", network)},
        "secrets": [{"name": name} for name in record.secrets] or None,
        "customContainerTemplate": None,
        "managedIdentitySettings": [],
        "mcpServerSettings": _mcp_of(bag, endpoint),
        "poolManagementEndpoint": endpoint,
        "carrel": _ours_of(bag, record, level),
    }


def _lifecycle_of(cooldown: object, version: str) -> dict[str, Any]:
    if has_nested_lifecycle(version):
        return {"lifecycleConfiguration": {"lifecycleType": "Timed", "cooldownPeriodInSeconds": cooldown}}
    return {"executionType": "Timed", "cooldownPeriodInSeconds": cooldown}


def _mcp_of(bag: Mapping[str, Any], endpoint: str) -> dict[str, Any]:
    settings = bag.get("mcpServerSettings", {})
    is_enabled = bool(settings.get("isMcpServerEnabled"))
    told = {
        "isMcpServerEnabled": is_enabled,
        "isMcpServerApiKeyDisabled": bool(settings.get("isMcpServerApiKeyDisabled")),
    }
    return told | ({"mcpServerEndpoint": f"{endpoint}/mcp"} if is_enabled else {})


def _ours_of(bag: Mapping[str, Any], record: PoolRecord, level: Level | None) -> dict[str, Any]:
    """As it was written, but for what only operators know; and what the server says: the boundary in force, and why there is none."""
    ours = merged(bag.get("carrel", {}), dict.fromkeys(("secrets", "webhook")))
    if at(ours, "packages.wheels") is not None:
        ours = merged(ours, {"packages": {"wheels": None}})
    return ours | {"level": level, "error": record.error or None}
