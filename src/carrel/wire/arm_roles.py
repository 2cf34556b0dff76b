"""Role definitions and role assignments as Microsoft.Authorization has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carrel import roles
from carrel.arm_errors import AssignmentIdInvalid, ParameterInvalid, PropertyInvalid, RoleDefinitionNotFound
from carrel.models import GUID
from carrel.roles import RoleDefinition
from carrel.store import AssignmentRecord
from carrel.wire import jsons
from carrel.wire.arm_resources import Gathered, members, shown
from carrel.wire.odata import Filter, FilterError, Term, decode_filter
from carrel.wire.times import timestamp

VERSIONS = (
    *("2015-05-01-preview", "2015-06-01", "2015-07-01", "2017-10-01-preview", "2018-01-01-preview", "2018-07-01"),
    *("2018-09-01-preview", "2019-04-01-preview", "2020-03-01-preview", "2020-04-01-preview", "2020-08-01-preview"),
    *("2020-10-01-preview", "2021-04-01-preview", "2022-04-01", "2022-05-01-preview"),
)
PROVIDER = "/providers/Microsoft.Authorization"
PRINCIPAL_TYPES = ("User", "Group", "ServicePrincipal", "ForeignGroup", "Device")

_PRINCIPAL = re.compile(
    r"[!-.0-~]{1,128}"
)  # printable ASCII without space and slash: other issuers' are not GUIDs always
_MOST_DESCRIPTION = 1024


@dataclass(frozen=True, slots=True)
class AssignmentRequest:
    """A body that asks for an assignment. `kind` is "" where it was not said."""

    role_id: str
    principal_id: str
    kind: str
    description: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Which assignments or definitions a caller wants to see: None is no demand."""

    is_at_scope: bool = False  # at the scope and above, not below
    is_below: bool = False  # at the scope and below, not above
    principal_id: str | None = None
    assigned_to: str | None = None  # the principal or one of its groups
    role_name: str | None = None
    kind: str | None = None  # BuiltInRole, CustomRole


def decode_name(text: str) -> str:
    """The name of an assignment, which is a GUID."""
    if not GUID.fullmatch(text):
        raise AssignmentIdInvalid("The name of a role assignment is a GUID.", target="roleAssignmentName")
    return text


def decode_assignment(fields: Mapping[str, Any]) -> AssignmentRequest:
    """Raises Faults, RoleDefinitionNotFound."""
    gathered = Gathered()
    bag = members(fields, "", gathered).get("properties", ("", None))[1]
    if not isinstance(bag, dict):
        raise PropertyInvalid("'properties' must be an object.", target="properties")
    given = {name: value for name, (_, value) in members(bag, "properties", gathered).items() if value is not None}
    for name in ("condition", "delegatedManagedIdentityResourceId"):
        if given.get(name.lower()):
            gathered.add(_invalid(name, "is not supported here: leave it out"))
    role_id = gathered.attempt(lambda: _text(given, "roleDefinitionId"), "")
    principal_id = gathered.attempt(lambda: _text(given, "principalId"), "")
    if principal_id and not _PRINCIPAL.fullmatch(principal_id):
        gathered.add(_invalid("principalId", "must be the object id of a principal"))
    kind = gathered.attempt(lambda: _kind(given), "")
    description = gathered.attempt(lambda: _text(given, "description", is_required=False), "")
    if len(description) > _MOST_DESCRIPTION:
        gathered.add(_invalid("description", f"may have {_MOST_DESCRIPTION} characters"))
    gathered.tell()
    return AssignmentRequest(definition(role_id).id, principal_id, kind, description)


def definition(id: str) -> RoleDefinition:
    """A role by its GUID or by a path that ends in it. Raises RoleDefinitionNotFound."""
    found = roles.ROLES.get(id.rstrip("/").rpartition("/")[2].lower())
    if found is None:
        raise RoleDefinitionNotFound(f"The specified role definition with ID '{shown(id)}' does not exist.")
    return found


def _kind(given: Mapping[str, Any]) -> str:
    text = _text(given, "principalType", is_required=False)
    known = {each.lower(): each for each in PRINCIPAL_TYPES}
    if text and text.lower() not in known:
        raise _invalid("principalType", f"must be one of {', '.join(PRINCIPAL_TYPES)}")
    return known.get(text.lower(), "")


def _text(given: Mapping[str, Any], name: str, *, is_required: bool = True) -> str:
    value = given.get(name.lower(), "")
    if not isinstance(value, str) or not value.isprintable():
        raise _invalid(name, "must be a printable string")
    if is_required and not value:
        raise _invalid(name, "is required")
    return value


def _invalid(name: str, what: str) -> PropertyInvalid:
    return PropertyInvalid(f"'properties.{name}' {what}.", target=f"properties.{name}")


def decode_selection(text: str | None) -> Selection:
    """What `$filter` asks for. Raises ParameterInvalid."""
    try:
        found: Filter = decode_filter(text)
    except FilterError as error:
        raise ParameterInvalid(str(error), target="$filter") from error
    if len(found) > 1:
        raise ParameterInvalid("$filter: terms are joined by 'and' here.", target="$filter")
    wanted: dict[str, Any] = {}
    for term in found[0] if found else ():
        wanted |= _demand(term)
    return Selection(**wanted)


def _demand(term: Term) -> dict[str, Any]:
    match term.name, term.operator:
        case "atscope", "call":
            return {"is_at_scope": True}
        case "atscopeandbelow", "call":
            return {"is_below": True}
        case "assignedto", "call":
            return {"assigned_to": term.value.lower()}
        case "principalid", "eq":
            return {"principal_id": term.value.lower()}
        case "rolename", "eq":
            return {"role_name": term.value.lower()}
        case "type", "eq":
            return {"kind": term.value.lower()}
    known = "atScope(), atScopeAndBelow(), assignedTo('ID'), principalId eq 'ID', roleName eq 'NAME', type eq 'TYPE'"
    raise ParameterInvalid(f"$filter: known are {known}.", target="$filter")


def encode_definition(role: RoleDefinition, subscription: str | None) -> bytes:
    return jsons.encode(_definition(role, subscription))


def encode_definitions(found: Iterable[RoleDefinition], subscription: str | None) -> bytes:
    return jsons.encode({"value": [_definition(each, subscription) for each in found]})


def encode_assignment(record: AssignmentRecord, subscription: str) -> bytes:
    return jsons.encode(_assignment(record, subscription))


def encode_assignments(records: Iterable[AssignmentRecord], subscription: str) -> bytes:
    return jsons.encode({"value": [_assignment(each, subscription) for each in records]})


def _definition_id(role_id: str, subscription: str | None) -> str:
    """Azure gives the definitions of a whole cloud an id in each subscription."""
    scope = "" if subscription is None else f"/subscriptions/{subscription}"
    return f"{scope}{PROVIDER}/roleDefinitions/{role_id}"


def _definition(role: RoleDefinition, subscription: str | None) -> dict[str, Any]:
    permissions = {
        "actions": list(role.actions),
        "notActions": list(role.not_actions),
        "dataActions": list(role.data_actions),
        "notDataActions": [],
    }
    return {
        "id": _definition_id(role.id, subscription),
        "name": role.id,
        "type": "Microsoft.Authorization/roleDefinitions",
        "properties": {
            "roleName": role.name,
            "type": "BuiltInRole",
            "description": role.description,
            "assignableScopes": ["/"],
            "permissions": [permissions],
            "createdOn": timestamp(0),
            "updatedOn": timestamp(0),
            "createdBy": None,
            "updatedBy": None,
        },
    }


def _assignment(record: AssignmentRecord, subscription: str) -> dict[str, Any]:
    scope = record.scope.rstrip("/")
    made = timestamp(record.created.at)
    return {
        "id": f"{scope}{PROVIDER}/roleAssignments/{record.id}",
        "name": record.id,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            "roleDefinitionId": _definition_id(record.role_id, subscription),
            "principalId": record.principal_id,
            "principalType": record.principal_kind,
            "scope": scope or "/",
            "description": record.description or None,
            "condition": None,
            "conditionVersion": None,
            "createdOn": made,
            "updatedOn": made,
            "createdBy": record.created.by,
            "updatedBy": record.created.by,
            "delegatedManagedIdentityResourceId": None,
        },
    }
