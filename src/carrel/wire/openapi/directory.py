"""Graph's operations, by method and route (server/graph/routes.py)."""

from __future__ import annotations

from collections.abc import Mapping

from carrel.wire.openapi.model import JSON, NOTHING, Content, Operation, json_of
from carrel.wire.openapi.schemas import FLAG, OBJECT, TEXT, TIME, Schema, array, or_null, record

_ERRORS = (400, 401, 403, 404, 503)
_CHANGE = (*_ERRORS, 408, 409, 413, 429)


def _show(what: str) -> Operation:
    return Operation(what, {200: json_of("DirectoryObject")}, errors=_ERRORS, error="GraphError")


def _list(what: str) -> Operation:
    return Operation(what, {200: json_of("DirectoryObjects")}, ("$filter",), errors=_ERRORS, error="GraphError")


def _make(what: str) -> Operation:
    return Operation(
        what, {201: json_of("DirectoryObject")}, body=json_of("Identity"), errors=_CHANGE, error="GraphError"
    )


def _write(what: str, body: str = "") -> Operation:
    return Operation(what, {204: NOTHING}, body=json_of(body) if body else None, errors=_CHANGE, error="GraphError")


_SECRET = Operation(
    "Make a secret, which is told once.",
    {200: json_of("Secret")},
    body=Content({JSON: "SecretRequest"}, is_required=False),
    errors=_CHANGE,
    error="GraphError",
)


def _names(what: str, body: str) -> Operation:
    return Operation(
        what,
        {200: json_of("DirectoryIds")},
        body=json_of(body),
        errors=(*_ERRORS, 408, 413),
        error="GraphError",
    )


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/v1.0/me"): _show("Whoever asks."),
    ("POST", "/v1.0/me/changePassword"): _write("Change one's own password.", "PasswordChange"),
    ("GET", "/v1.0/users"): _list("Users."),
    ("POST", "/v1.0/users"): _make("Make a user."),
    ("PATCH", "/v1.0/users/{id}"): _write("Change a user.", "Identity"),
    ("DELETE", "/v1.0/users/{id}"): _write("Delete a user."),
    ("GET", "/v1.0/users/{id}"): _show("A user, by id or name."),
    ("GET", "/v1.0/servicePrincipals"): _list("Service principals."),
    ("POST", "/v1.0/servicePrincipals"): _make("Make a service principal."),
    ("PATCH", "/v1.0/servicePrincipals/{id}"): _write("Change a service principal.", "Identity"),
    ("DELETE", "/v1.0/servicePrincipals/{id}"): _write("Delete a service principal."),
    ("POST", "/v1.0/servicePrincipals/{id}/addPassword"): _SECRET,
    ("POST", "/v1.0/servicePrincipals/{id}/removePassword"): _write("Remove a secret.", "SecretReference"),
    ("GET", "/v1.0/servicePrincipals/{id}"): _show("A service principal."),
    ("GET", "/v1.0/applications"): _list("Applications: one for each service principal."),
    ("POST", "/v1.0/applications"): _make("Make a application."),
    ("PATCH", "/v1.0/applications/{id}"): _write("Change a application.", "Identity"),
    ("DELETE", "/v1.0/applications/{id}"): _write("Delete a application."),
    ("POST", "/v1.0/applications/{id}/addPassword"): _SECRET,
    ("POST", "/v1.0/applications/{id}/removePassword"): _write("Remove a secret.", "SecretReference"),
    ("GET", "/v1.0/applications/{id}"): _show("An application."),
    ("GET", "/v1.0/groups"): _list("Groups."),
    ("POST", "/v1.0/groups"): _make("Make a group."),
    ("PATCH", "/v1.0/groups/{id}"): _write("Change a group.", "Identity"),
    ("DELETE", "/v1.0/groups/{id}"): _write("Delete a group."),
    ("GET", "/v1.0/groups/{id}"): _show("A group."),
    ("GET", "/v1.0/groups/{id}/members"): _list("A group's members."),
    ("POST", "/v1.0/groups/{id}/members/$ref"): _write("Add a member.", "MemberReference"),
    ("DELETE", "/v1.0/groups/{id}/members/{member}/$ref"): _write("Remove a member."),
    ("POST", "/v1.0/directoryObjects/getByIds"): Operation(
        "Principals by their ids.",
        {200: json_of("DirectoryObjects")},
        body=json_of("Ids"),
        errors=(*_ERRORS, 408, 413),
        error="GraphError",
    ),
    ("POST", "/v1.0/directoryObjects/{id}/checkMemberGroups"): _names("Which of these groups it is in.", "GroupIds"),
    **{
        ("POST", f"/v1.0/{what}/{{id}}/getMemberGroups"): _names("The groups that it is in.", "GroupKinds")
        for what in ("users", "groups", "servicePrincipals")
    },
}

_GUID: Schema = {"type": "string", "format": "uuid"}

SCHEMAS: dict[str, Schema] = {
    "GraphError": record({"error": record({"code": TEXT, "message": TEXT}, innerError=OBJECT)}),
    "DirectoryObject": record({"@odata.context": TEXT, "id": TEXT}),
    "DirectoryObjects": record({"@odata.context": TEXT, "value": array(record({"id": TEXT}))}),
    "Identity": {
        **record(
            {},
            displayName=TEXT,
            userPrincipalName=TEXT,
            accountEnabled=FLAG,
            appId=_GUID,
            servicePrincipalType={"enum": ["Application", "ManagedIdentity"]},
            passwordProfile=record({}, password={"type": "string", "minLength": 8}),
        ),
        "examples": [{"displayName": "Alice", "userPrincipalName": "alice@example.com"}],
    },
    "PasswordChange": record({"currentPassword": TEXT, "newPassword": TEXT}),
    "SecretRequest": record({}, passwordCredential=record({}, displayName=TEXT, endDateTime=TIME)),
    "SecretReference": record({"keyId": TEXT}),
    "Secret": record({"keyId": TEXT, "secretText": TEXT, "endDateTime": or_null(TIME)}),
    "MemberReference": record({"@odata.id": TEXT}),
    "DirectoryIds": record({"@odata.context": TEXT, "value": array(TEXT)}),
    "GroupIds": record({"groupIds": {**array(TEXT), "maxItems": 1000}}),
    "GroupKinds": record({}, securityEnabledOnly=FLAG),
    "Ids": record({"ids": {**array(TEXT), "maxItems": 1000}}, types=array(TEXT)),
}
PARAMETERS: dict[str, Schema] = {}
