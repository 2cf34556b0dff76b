"""The calls about rights: role definitions and assignments of ARM, and the look-ups of Graph that go with them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from carrel.client.arm import Page, page
from carrel.client.calls import Call
from carrel.client.errors import ApiError
from carrel.client.resources import Principal, RoleAssignment, RoleDefinition

ASSIGNMENTS = "2022-04-01"
DEFINITIONS = "2022-05-01-preview"
EXECUTOR = "0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"  # Azure ContainerApps Session Executor
GUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

_ASSIGNMENT = re.compile(
    rf"(/[^?#]*)?/providers/Microsoft\.Authorization/roleAssignments/{GUID.pattern}", re.IGNORECASE
)
_AUTHORIZATION = "providers/Microsoft.Authorization"


def role_definitions(scope: str, name: str | None) -> Call[Page[RoleDefinition]]:
    query = {"$filter": f"roleName eq '{_quoted(name)}'"} if name and not GUID.fullmatch(name) else {}
    return Call("GET", _at(scope, "roleDefinitions"), page(RoleDefinition.parse), query, version=DEFINITIONS)


def of_guid(found: Iterable[RoleDefinition], name: str | None) -> list[RoleDefinition]:
    """Those that are meant: a role can be asked for by its name, but not by its GUID."""
    is_guid = name is not None and GUID.fullmatch(name)
    return [each for each in found if not is_guid or each.name.lower() == str(name).lower()]


def role_assignments(scope: str, condition: str | None) -> Call[Page[RoleAssignment]]:
    query = {"$filter": condition} if condition else {}
    return Call("GET", _at(scope, "roleAssignments"), page(RoleAssignment.parse), query, version=ASSIGNMENTS)


def put_assignment(
    scope: str, name: str, role_id: str, principal_id: str, kind: str | None, description: str | None
) -> Call[RoleAssignment]:
    bag: dict[str, Any] = {"roleDefinitionId": role_id, "principalId": principal_id}
    bag |= {key: value for key, value in {"principalType": kind, "description": description}.items() if value}
    options = {"json": {"properties": bag}}
    where = _at(scope, f"roleAssignments/{quote(name, safe='')}")
    return Call("PUT", where, lambda reply: RoleAssignment.parse(reply.json()), options=options, version=ASSIGNMENTS)


def delete_assignment(assignment_id: str) -> Call[bool]:
    """Whether there was one. Raises ApiError for the id of anything else, which would be deleted as well."""
    if not _ASSIGNMENT.fullmatch(assignment_id) or ".." in assignment_id:
        raise ApiError(400, "InvalidRoleAssignmentId", f"{assignment_id!r} is no id of a role assignment", "ids")
    return Call("DELETE", assignment_id.lstrip("/"), lambda reply: reply.status_code == 200, version=ASSIGNMENTS)


def me() -> Call[Principal]:
    return Call("GET", "v1.0/me", lambda reply: Principal.parse(reply.json()), version="")


def user(name: str) -> Call[Page[Principal]]:
    condition = f"userPrincipalName eq '{_quoted(name)}'"
    return Call("GET", "v1.0/users", page(Principal.parse), {"$filter": condition}, version="")


def service_principal(name: str) -> Call[Page[Principal]]:
    """By application id, or by what it is called."""
    field = "appId" if GUID.fullmatch(name) else "displayName"
    query = {"$filter": f"{field} eq '{_quoted(name)}'"}
    return Call("GET", "v1.0/servicePrincipals", page(Principal.parse), query, version="")


def principals(ids: Sequence[str]) -> Call[Page[Principal]]:
    options = {"json": {"ids": list(ids), "types": ["user", "group", "servicePrincipal"]}}
    return Call("POST", "v1.0/directoryObjects/getByIds", page(Principal.parse), options=options, version="")


def condition(is_inherited: bool, principal: str | None) -> str | None:
    """What to ask the list for; without anything it has the scope's own and those below."""
    if is_inherited:
        return f"atScope() and assignedTo('{_quoted(principal)}')" if principal else "atScope()"
    return f"principalId eq '{_quoted(principal)}'" if principal else None


def definition_id(subscription: str, guid: str) -> str:
    return f"/subscriptions/{subscription}/{_AUTHORIZATION}/roleDefinitions/{guid.lower()}"


def _at(scope: str, what: str) -> str:
    return f"{scope.strip('/')}/{_AUTHORIZATION}/{what}".lstrip("/")


def _quoted(text: str | None) -> str:
    """As OData wants a quote in a text: doubled."""
    return (text or "").replace("'", "''")
