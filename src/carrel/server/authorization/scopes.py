"""Scopes: which paths roles can be assigned at, and whether there is anything."""

from __future__ import annotations

from dataclasses import dataclass

from carrel.arm_errors import GroupNotFound, ParameterInvalid, ResourceNotFound, SubscriptionNotFound
from carrel.store import PoolId, Transaction
from carrel.store.records import Home

_MOST = 1024  # characters
_GROUP = 4  # segments of a group's path
_POOL = 8  # and of a pool's


@dataclass(frozen=True, slots=True)
class AssignableScope:
    """A subscription, group, pool, or something below a pool. `path` is as it was asked for; `found` spells it as the resource does."""

    path: str

    @property
    def segments(self) -> list[str]:
        return [part for part in self.path.split("/") if part]

    def found(self, transaction: Transaction, home: Home) -> AssignableScope:
        """The same as the resource spells itself. Raises an ArmError where there is no such thing."""
        parts = self.segments
        if not parts:
            return self
        if len(parts) < 2 or parts[0].lower() != "subscriptions":
            raise ResourceNotFound(
                "Roles are assigned at a subscription, a resource group, a session pool or below one."
            )
        if parts[1].lower() != home.subscription.lower():
            raise SubscriptionNotFound("There is no such subscription here. GET /subscriptions tells the one there is.")
        parts[:2] = ["subscriptions", home.subscription]
        if len(parts) > 2:
            parts[:_GROUP] = _group(transaction, home, parts)
        if len(parts) > _GROUP:
            parts[:_POOL] = _pool(transaction, parts)
        return AssignableScope("/" + "/".join(parts))


def decode_scope(path: str) -> AssignableScope:
    """Of the path in an address. Raises ParameterInvalid."""
    if len(path) > _MOST or not path.isprintable():
        raise ParameterInvalid(f"A scope has {_MOST} printable characters at most.", target="scope")
    return AssignableScope(path)


def _group(transaction: Transaction, home: Home, parts: list[str]) -> list[str]:
    if len(parts) < _GROUP or parts[2].lower() != "resourcegroups":
        raise ResourceNotFound("Roles are assigned at a subscription, a resource group, a session pool or below one.")
    record = transaction.groups.get(home.subscription, parts[3])
    name = record.name if record is not None else home.resource_group
    if name.lower() != parts[3].lower():
        raise GroupNotFound("The resource group of this scope could not be found.")
    return [*parts[:2], "resourceGroups", name]


def _pool(transaction: Transaction, parts: list[str]) -> list[str]:
    if len(parts) < _POOL or [each.lower() for each in parts[4:7]] != ["providers", "microsoft.app", "sessionpools"]:
        raise ResourceNotFound("Of resources there are session pools (Microsoft.App/sessionPools) only.")
    record = transaction.pools.get(PoolId(parts[1], parts[3], parts[7]))
    if record is None:
        raise ResourceNotFound("The session pool of this scope could not be found.")
    return ["subscriptions", parts[1], "resourceGroups", parts[3], *record.id.resource_id.split("/")[5:]]
