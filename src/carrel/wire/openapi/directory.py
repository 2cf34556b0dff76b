"""Graph's operations, by method and route (server/graph/routes.py)."""

from __future__ import annotations

from collections.abc import Mapping

from carrel.wire.openapi.model import Operation, json_of
from carrel.wire.openapi.schemas import OBJECT, TEXT, Schema, array, record

_ERRORS = (400, 401, 403, 404, 503)


def _show(what: str) -> Operation:
    return Operation(what, {200: json_of("DirectoryObject")}, errors=_ERRORS, error="GraphError")


def _list(what: str) -> Operation:
    return Operation(what, {200: json_of("DirectoryObjects")}, ("$filter",), errors=_ERRORS, error="GraphError")


OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/v1.0/me"): _show("Whoever asks."),
    ("GET", "/v1.0/users"): _list("Users."),
    ("GET", "/v1.0/users/{id}"): _show("A user, by id or name."),
    ("GET", "/v1.0/servicePrincipals"): _list("Service principals."),
    ("GET", "/v1.0/servicePrincipals/{id}"): _show("A service principal."),
    ("GET", "/v1.0/applications"): _list("Applications: one for each service principal."),
    ("GET", "/v1.0/applications/{id}"): _show("An application."),
    ("GET", "/v1.0/groups"): _list("Groups."),
    ("GET", "/v1.0/groups/{id}"): _show("A group."),
    ("GET", "/v1.0/groups/{id}/members"): _list("A group's members."),
    ("POST", "/v1.0/directoryObjects/getByIds"): Operation(
        "Principals by their ids.",
        {200: json_of("DirectoryObjects")},
        body=json_of("Ids"),
        errors=(*_ERRORS, 408, 413),
        error="GraphError",
    ),
}

SCHEMAS: dict[str, Schema] = {
    "GraphError": record({"error": record({"code": TEXT, "message": TEXT}, innerError=OBJECT)}),
    "DirectoryObject": record({"@odata.context": TEXT, "id": TEXT}),
    "DirectoryObjects": record({"@odata.context": TEXT, "value": array(record({"id": TEXT}))}),
    "Ids": record({"ids": {**array(TEXT), "maxItems": 1000}}, types=array(TEXT)),
}
PARAMETERS: dict[str, Schema] = {}
