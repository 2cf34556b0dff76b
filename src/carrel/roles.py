"""Azure's roles, and the rule by which assignments of them give rights. Data and pure functions; who is asked is server/access.py.

A right is an action (`Microsoft.App/sessionPools/write`) on a scope, which is the path of a resource, of a group or of a subscription;
an assignment holds for its scope and all below. Names of actions and scopes compare in any case. `*` in an action of a role stands for
anything, slashes included. Rights on the data plane are told apart from those on the control plane: an Owner may not run code.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

EXECUTE = "Microsoft.App/sessionPools/interpreters/execute/action"  # the data action behind every call in a session
AUDIT_READ = "Microsoft.Insights/eventtypes/values/read"  # of Azure's activity log
POOL_READ, POOL_WRITE, POOL_DELETE = (f"Microsoft.App/sessionPools/{verb}" for verb in ("read", "write", "delete"))
_GROUPS = "Microsoft.Resources/subscriptions/resourceGroups"
GROUP_READ, GROUP_WRITE, GROUP_DELETE = (f"{_GROUPS}/{verb}" for verb in ("read", "write", "delete"))

OWNER_ID = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
EXECUTOR_ID = "0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"


@dataclass(frozen=True, slots=True)
class RoleDefinition:
    id: str  # Azure's GUID
    name: str
    description: str
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    data_actions: tuple[str, ...] = ()

    def allows(self, action: str, *, is_data: bool = False) -> bool:
        if is_data:
            return _covers(self.data_actions, action)
        return _covers(self.actions, action) and not _covers(self.not_actions, action)


# Of Azure's lists (public role definitions) the parts about what is here; what they say of other providers is left out.
_EVERYDAY = (
    "Microsoft.Authorization/*/read",
    GROUP_READ,
    "Microsoft.Resources/deployments/*",
    "Microsoft.Insights/alertRules/*",
)
_DEFINITIONS = (
    RoleDefinition(
        OWNER_ID,
        "Owner",
        "Grants full access to manage all resources, including the ability to assign roles.",
        actions=("*",),
    ),
    RoleDefinition(
        "b24988ac-6180-42a0-ab88-20f7382dd24c",
        "Contributor",
        "Grants full access to manage all resources, but does not allow you to assign roles.",
        actions=("*",),
        not_actions=(
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ),
    ),
    RoleDefinition(
        "acdd72a7-3385-48ef-bd42-f606fba81ae7",
        "Reader",
        "View all resources, but does not allow you to make any changes.",
        actions=("*/read",),
    ),
    RoleDefinition(
        "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9",
        "User Access Administrator",
        "Lets you manage user access to resources.",
        actions=("*/read", "Microsoft.Authorization/*"),
    ),
    RoleDefinition(
        EXECUTOR_ID,
        "Azure ContainerApps Session Executor",
        "Create and execute sessions in a session pool.",
        actions=(POOL_READ, "Microsoft.App/sessionPools/*/read"),
        data_actions=(EXECUTE,),
    ),
    RoleDefinition(
        "f7669afb-68b2-44b4-9c5f-6d2a47fddda0",
        "Container Apps SessionPools Contributor",
        "Full management of Container Apps SessionPools, including creation, deletion, and updates.",
        actions=(
            "Microsoft.App/sessionPools/*",
            "Microsoft.App/sessionPools/*/read",
            "Microsoft.App/sessionPools/*/write",
            "Microsoft.App/sessionPools/*/delete",
            "Microsoft.App/sessionPools/*/action",
            *_EVERYDAY,
        ),
    ),
    RoleDefinition(
        "af61e8fc-2633-4b95-bed3-421ad6826515",
        "Container Apps SessionPools Reader",
        "Read access to ContainerApps sessionpools.",
        actions=(POOL_READ, "Microsoft.App/sessionPools/*/read", *_EVERYDAY[:2]),
    ),
)
ROLES: dict[str, RoleDefinition] = {each.id: each for each in _DEFINITIONS}
_BY_NAME = {each.name.lower(): each for each in _DEFINITIONS} | {
    "azure containerapps session creator": ROLES[EXECUTOR_ID]  # its older name
}


class Assignment(Protocol):
    """What a rule needs of one; the store's records are such."""

    @property
    def scope(self) -> str: ...
    @property
    def role_id(self) -> str: ...
    @property
    def principal_id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Given:
    """An assignment without a history."""

    scope: str
    role_id: str
    principal_id: str


def first_assignments(principal_id: str, subscription: str) -> tuple[Given, ...]:
    """What the identity that a server makes for itself begins with: it may do everything, and run code."""
    scope = f"/subscriptions/{subscription}"
    return tuple(Given(scope, role_id, principal_id) for role_id in (OWNER_ID, EXECUTOR_ID))


def role_named(name: str) -> RoleDefinition | None:
    """By its name in any case."""
    return _BY_NAME.get(name.lower())


def allows(
    assignments: Iterable[Assignment], principals: frozenset[str], action: str, scope: str, *, is_data: bool = False
) -> bool:
    """Whether one of the assignments gives one of the principals (lower-case ids) the right to `action` on `scope`."""
    where = normal(scope)
    return any(
        each.principal_id.lower() in principals
        and covers(each.scope, where)
        and (role := ROLES.get(each.role_id.lower())) is not None
        and role.allows(action, is_data=is_data)
        for each in assignments
    )


def normal(scope: str) -> str:
    """A scope as they compare: lower-case, without slashes too many; the root is ""."""
    return "".join(f"/{part}" for part in scope.lower().split("/") if part)


def covers(scope: str, below: str) -> bool:
    """Whether `below` is the scope itself or lies under it."""
    above, where = normal(scope), normal(below)
    return where == above or where.startswith(f"{above}/")


def _covers(patterns: tuple[str, ...], action: str) -> bool:
    return _pattern(patterns).fullmatch(action) is not None if patterns else False


@lru_cache
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Every pattern is one of ours: no caller's text becomes a regular expression."""
    alternatives = (".*".join(re.escape(part) for part in pattern.split("*")) for pattern in patterns)
    return re.compile("|".join(alternatives), re.IGNORECASE | re.DOTALL)
