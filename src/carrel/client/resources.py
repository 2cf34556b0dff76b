"""What the control plane knows, parsed from replies at the door: pools, groups, roles, principals.

Each has the reply itself as `resource`, for what these classes do not name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self


def _reply() -> Any:
    return field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """How a pool is to be. What is None is not sent: on creation the server's default, on an update what it was.

    `carrel` are the settings that Azure has no name for (docs/reference/settings.md), without their prefix: {"memory": "512MiB"}.
    """

    container_type: str | None = None  # PythonLTS, NodeLTS, Shell; fixed once the pool is there
    max_sessions: int | None = None
    ready_sessions: int | None = None
    lifecycle: str | None = None  # Timed
    cooldown: int | None = None  # seconds
    max_alive: int | None = None  # seconds; for lifecycle OnContainerExit
    network: str | None = None  # EgressEnabled or EgressDisabled
    has_mcp: bool | None = None
    environment: str | None = None  # resource id of a managed environment
    secrets: Mapping[str, str] | None = field(default=None, repr=False)
    carrel: Mapping[str, Any] | None = None
    tags: Mapping[str, str] | None = None

    def properties(self) -> dict[str, Any]:
        """The property bag, with nothing in it that is not set."""
        lifecycle = {
            "lifecycleType": self.lifecycle,
            "cooldownPeriodInSeconds": self.cooldown,
            "maxAlivePeriodInSeconds": self.max_alive,
        }
        scale = {"maxConcurrentSessions": self.max_sessions, "readySessionInstances": self.ready_sessions}
        secrets = None if self.secrets is None else [{"name": n, "value": v} for n, v in self.secrets.items()]
        bag: dict[str, Any] = {
            "containerType": self.container_type,
            "environmentId": self.environment,
            "scaleConfiguration": _given(scale),
            "dynamicPoolConfiguration": {"lifecycleConfiguration": given} if (given := _given(lifecycle)) else None,
            "sessionNetworkConfiguration": _given({"status": self.network}),
            "mcpServerSettings": _given({"isMcpServerEnabled": self.has_mcp}),
            "secrets": secrets,
            "carrel": dict(self.carrel) if self.carrel else None,
        }
        return _given(bag) or {}


def _given(values: dict[str, Any]) -> dict[str, Any] | None:
    return {name: value for name, value in values.items() if value is not None} or None


@dataclass(frozen=True, slots=True)
class SessionPool:
    """A pool as a resource. `endpoint` is where its sessions are called, `mcp_endpoint` for MCP where that is on."""

    id: str
    name: str
    resource_group: str
    location: str
    state: str  # InProgress, Succeeded, Failed, Canceled, Deleting
    container_type: str
    endpoint: str
    mcp_endpoint: str | None
    max_sessions: int | None
    ready_sessions: int | None
    cooldown: int | None
    network: str
    tags: Mapping[str, str]
    carrel: Mapping[str, Any]
    etag: str
    resource: Mapping[str, Any] = _reply()

    @classmethod
    def parse(cls, body: dict[str, Any], etag: str = "") -> Self:
        bag = _bag(body)
        scale, mcp = _bag(bag, "scaleConfiguration"), _bag(bag, "mcpServerSettings")
        lifecycle = _bag(_bag(bag, "dynamicPoolConfiguration"), "lifecycleConfiguration")
        return cls(
            id=body["id"],
            name=body["name"],
            resource_group=group_of(body["id"]),
            location=body.get("location") or "",
            state=bag.get("provisioningState") or "",
            container_type=bag.get("containerType") or "",
            endpoint=bag.get("poolManagementEndpoint") or "",
            mcp_endpoint=mcp.get("mcpServerEndpoint") if mcp.get("isMcpServerEnabled") else None,
            max_sessions=scale.get("maxConcurrentSessions"),
            ready_sessions=scale.get("readySessionInstances"),
            cooldown=lifecycle.get("cooldownPeriodInSeconds"),
            network=_bag(bag, "sessionNetworkConfiguration").get("status") or "",
            tags=_bag(body, "tags"),
            carrel=_bag(bag, "carrel"),
            etag=etag or body.get("etag") or "",
            resource=body,
        )


@dataclass(frozen=True, slots=True)
class ResourceGroup:
    id: str
    name: str
    location: str
    tags: Mapping[str, str]
    resource: Mapping[str, Any] = _reply()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        return cls(body["id"], body["name"], body.get("location") or "", _bag(body, "tags"), body)


@dataclass(frozen=True, slots=True)
class Subscription:
    id: str
    name: str
    tenant: str
    state: str
    resource: Mapping[str, Any] = _reply()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        state, tenant = body.get("state") or "", body.get("tenantId") or ""
        return cls(body["subscriptionId"], body.get("displayName") or "", tenant, state, body)


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    """`id` is the resource id, `name` the GUID, `role` what people call it."""

    id: str
    name: str
    role: str
    description: str
    actions: Sequence[str]
    data_actions: Sequence[str]
    resource: Mapping[str, Any] = _reply()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        bag = _bag(body)
        permissions = bag.get("permissions") or []
        actions, data = (
            tuple(action for each in permissions for action in each.get(key) or ())
            for key in ("actions", "dataActions")
        )
        return cls(
            body["id"], body["name"], bag.get("roleName") or "", bag.get("description") or "", actions, data, body
        )


@dataclass(frozen=True, slots=True)
class RoleAssignment:
    id: str
    name: str
    scope: str
    role_id: str  # resource id of the definition
    principal_id: str
    principal_kind: str  # User, Group, ServicePrincipal
    resource: Mapping[str, Any] = _reply()

    @property
    def role_guid(self) -> str:
        return self.role_id.rpartition("/")[2].lower()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        bag = _bag(body)
        return cls(
            id=body["id"],
            name=body["name"],
            scope=bag["scope"],
            role_id=bag["roleDefinitionId"],
            principal_id=bag["principalId"],
            principal_kind=bag.get("principalType") or "",
            resource=body,
        )


@dataclass(frozen=True, slots=True)
class Principal:
    """Who may have roles. `name` is what people know it by: a user's name, a service principal's application id."""

    id: str
    kind: str  # User, Group, ServicePrincipal
    name: str
    display_name: str
    app_id: str
    resource: Mapping[str, Any] = _reply()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> Self:
        app_id, user = body.get("appId") or "", body.get("userPrincipalName") or ""
        kinds = {"#microsoft.graph.user": "User", "#microsoft.graph.group": "Group"}
        default = "ServicePrincipal" if app_id else "User" if user else "Group"
        kind = kinds.get(str(body.get("@odata.type", "")).lower(), default)
        return cls(
            body["id"],
            kind,
            user or app_id or body.get("displayName") or "",
            body.get("displayName") or "",
            app_id,
            body,
        )


def group_of(resource_id: str) -> str:
    found = re.match(r"/subscriptions/[^/]+/resourceGroups/([^/]+)", resource_id, re.IGNORECASE)
    return found[1] if found else ""


def _bag(body: Mapping[str, Any], name: str = "properties") -> dict[str, Any]:
    found = body.get(name)
    return found if isinstance(found, dict) else {}
