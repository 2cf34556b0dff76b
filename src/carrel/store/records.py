"""What the store holds, as values. Times are Unix seconds; ids are kept as written and compared in lower case.

Tags, properties and fields are mappings of plain JSON values: what they mean is known to whoever wrote them (ARM, the authority).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from carrel.accounts import Sums

PoolState = Literal["InProgress", "Succeeded", "Failed", "Canceled", "Deleting"]
PrincipalKind = Literal["ServicePrincipal", "User", "Group", "ManagedIdentity"]
GrantKind = Literal["device", "refresh"]

_PATH = re.compile(
    r"/subscriptions/([^/]+)/resourceGroups/([^/]+)(?:/providers/Microsoft\.App)?/sessionPools/([^/]+)/?", re.IGNORECASE
)


class Record(Protocol):
    """Any of the dataclasses here."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


class Home(Protocol):
    """Where the server's own pools are; carrel.config.Config is one."""

    @property
    def subscription(self) -> str: ...
    @property
    def resource_group(self) -> str: ...


def group_id(subscription: str, name: str) -> str:
    """The ARM path of a resource group."""
    return f"/subscriptions/{subscription}/resourceGroups/{name}"


@dataclass(frozen=True, slots=True)
class PoolId:
    """Which pool: the parts of its ARM path, as written. Compare `lower`, never the parts."""

    subscription: str
    resource_group: str
    name: str

    @classmethod
    def of(cls, path: str) -> PoolId:
        """From an ARM path, or the data plane's, which has no provider in it. Raises ValueError."""
        if not (found := _PATH.fullmatch(path)):
            raise ValueError("not the path of a session pool")
        return cls(*found.groups())

    @property
    def group_id(self) -> str:
        return group_id(self.subscription, self.resource_group)

    @property
    def resource_id(self) -> str:
        return f"{self.group_id}/providers/Microsoft.App/sessionPools/{self.name}"

    @property
    def lower(self) -> str:
        return self.resource_id.lower()

    def key(self, home: Home) -> str:
        """What the host calls the pool: its name in the server's own group, elsewhere with a digest that "--" keeps apart from names."""
        name = self.name.lower()
        if self.lower == PoolId(home.subscription, home.resource_group, name).lower:
            return name
        return f"{name}--{hashlib.blake2s(self.lower.encode(), digest_size=4).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Who did it and when: a half of ARM's systemData. `kind` is User, Application, ManagedIdentity or Key."""

    by: str
    kind: str
    at: float


@dataclass(frozen=True, slots=True)
class GroupRecord:
    """A resource group."""

    subscription: str
    name: str
    location: str
    tags: Mapping[str, str]
    created: Stamp
    modified: Stamp
    etag: str

    @property
    def id(self) -> str:
        return group_id(self.subscription, self.name)


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool as somebody asked for it. `properties` has no secret values and nothing read-only; `error` says why it has Failed."""

    id: PoolId
    location: str
    tags: Mapping[str, str]
    properties: Mapping[str, Any]
    created: Stamp
    modified: Stamp
    etag: str
    state: PoolState = "InProgress"
    error: str = ""
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)  # encrypted at rest, as is the key
    mcp_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class AssignmentRecord:
    """A role for a principal at a scope. `id`, `role_id` and `principal_id` are GUIDs, `scope` is a path."""

    id: str
    scope: str
    role_id: str
    principal_id: str
    principal_kind: str
    created: Stamp
    description: str = ""


@dataclass(frozen=True, slots=True)
class PrincipalRecord:
    """Who can have rights. `id` is the oid of its tokens, `groups` are ids of principals of kind Group."""

    id: str
    kind: PrincipalKind
    app_id: str = ""
    user_name: str = ""
    display_name: str = ""
    is_enabled: bool = True
    created_at: float = 0.0
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """A secret or password, as a digest with its salt and parameters; `hint` is what of it may be shown. Goes with its principal."""

    id: str
    principal_id: str
    digest: str = field(repr=False)
    hint: str
    created_at: float
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class GrantRecord:
    """A device code or refresh token, known by its digest. Pruned once it has expired."""

    digest: str = field(repr=False)
    kind: GrantKind
    client_id: str
    principal_id: str
    scope: str
    state: str
    created_at: float
    expires_at: float
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A long-running operation, for who asks how it went. Pruned some time after its end."""

    id: str
    pool: PoolId | None
    kind: str
    state: str
    started_at: float
    error: str = ""
    ended_at: float | None = None
    target: str = ""  # the path of the resource, where it is no pool
    by: str = ""  # the oid of who began it, who may ask for it also when the resource is gone


@dataclass(frozen=True, slots=True)
class SeedRecord:
    """What was put here from the configuration: `digest` is of what was applied last under this name."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What was used of a pool by a principal (accounts.EVERYBODY: of all together, its peak alone) on a day of UTC, YYYY-MM-DD."""

    pool: PoolId
    principal: str
    day: str
    sums: Sums


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Of many such records. What they are not parted by is None."""

    pool: PoolId | None
    principal: str | None
    day: str | None
    sums: Sums


@dataclass(frozen=True, slots=True)
class LogRecord:
    """An execution in its pool's session log, until it expires."""

    id: str
    pool: PoolId
    at: float
    identifier: str
    principal: str
    status: str
    expires_at: float
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class JournalRecord:
    """Up to which place everything of a host's journal is in this store."""

    id: str
    place: int
