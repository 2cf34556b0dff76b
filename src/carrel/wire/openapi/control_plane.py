"""The control plane's operations, by method and route (server/arm/routes.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrel.wire.openapi.model import NOTHING, Operation, json_of
from carrel.wire.openapi.schemas import ANY, FLAG, OBJECT, TEXT, TIME, Schema, array, or_null, query, record, ref

# What `{scope}` stands for.
_SUBSCRIPTION = "/subscriptions/{subscription}"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_POOL = f"{_GROUP}/providers/Microsoft.App/sessionPools/{{pool}}"
SCOPES = (_SUBSCRIPTION, _GROUP, _POOL)

_ROLES = "{scope}/providers/Microsoft.Authorization"
_PLACE = f"{_SUBSCRIPTION}/providers/Microsoft.App/locations/{{location}}"

_READ = (400, 401, 403, 404, 503)
_CHANGE = (*_READ, 408, 409, 412, 413)
_IF = ("if-match", "if-none-match")
_PAGE = ("$top", "$skipToken")


def _show(what: str, schema: str, *parameters: str) -> Operation:
    return Operation(what, {200: json_of(schema)}, parameters, errors=_READ)


_KEY = Operation(
    "The key of the pool's MCP endpoint; `rotate` and `regenerate` make a new one.",
    {200: json_of("ApiKey")},
    errors=_CHANGE,
)
_STATUS = _show("How an operation stands.", "OperationStatus")
_RESULT = Operation(
    "What an operation came to: the resource, or nothing after a deletion.",
    {200: json_of("Object"), 202: NOTHING, 204: NOTHING},
    errors=(*_READ, 409),
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", "/subscriptions"): _show("The subscription there is.", "List"),
    ("GET", _SUBSCRIPTION): _show("The subscription.", "Subscription"),
    ("GET", f"{_SUBSCRIPTION}/locations"): _show("Locations, which are labels here.", "List"),
    ("GET", "/tenants"): _show("The tenant there is.", "List"),
    ("GET", f"{_SUBSCRIPTION}/providers"): _show("Resource providers.", "List"),
    ("GET", f"{_SUBSCRIPTION}/providers/{{namespace}}"): _show("A resource provider.", "Provider"),
    ("POST", f"{_SUBSCRIPTION}/providers/{{namespace}}/register"): _show("Register a provider.", "Provider"),
    ("GET", f"{_SUBSCRIPTION}/resourceGroups"): _show("Resource groups.", "List", "$filter", *_PAGE),
    ("GET", f"{_SUBSCRIPTION}/resources"): _show("Resources of any kind.", "List", "$filter", *_PAGE),
    ("GET", f"{_GROUP}/resources"): _show("A group's resources of any kind.", "List", "$filter", *_PAGE),
    ("GET", _GROUP): _show("A resource group.", "Group"),
    ("HEAD", _GROUP): Operation("Whether there is a resource group.", {204: NOTHING}, errors=_READ),
    ("PUT", _GROUP): Operation(
        "Make a resource group, or change its tags.",
        {200: json_of("Group"), 201: json_of("Group")},
        _IF,
        json_of("GroupRequest"),
        _CHANGE,
    ),
    ("PATCH", _GROUP): Operation(
        "Change a resource group's tags.", {200: json_of("Group")}, _IF, json_of("GroupPatch"), _CHANGE
    ),
    ("DELETE", _GROUP): Operation("Delete a resource group and its pools.", {202: NOTHING}, _IF, errors=_CHANGE),
    ("GET", _POOL): _show("A session pool.", "SessionPool"),
    ("PUT", _POOL): Operation(
        "Make or replace a session pool.",
        {200: json_of("SessionPool"), 201: json_of("SessionPool")},
        _IF,
        json_of("SessionPoolRequest"),
        (*_CHANGE, 429),
    ),
    ("PATCH", _POOL): Operation(
        "Change a session pool: a merge patch.",
        {200: json_of("SessionPool"), 202: json_of("SessionPool")},
        _IF,
        json_of("SessionPoolPatch"),
        _CHANGE,
    ),
    ("DELETE", _POOL): Operation(
        "Delete a session pool; its sessions end.", {202: NOTHING, 204: NOTHING}, _IF, errors=_CHANGE
    ),
    ("GET", f"{_GROUP}/providers/Microsoft.App/sessionPools"): _show(
        "A group's session pools.", "SessionPools", *_PAGE
    ),
    ("GET", f"{_SUBSCRIPTION}/providers/Microsoft.App/sessionPools"): _show(
        "All session pools.", "SessionPools", *_PAGE
    ),
    ("POST", f"{_POOL}/fetchMcpServerCredentials"): _KEY,
    ("POST", f"{_POOL}/rotateMcpServerCredentials"): _KEY,
    ("POST", f"{_POOL}/regenerateCredentials"): _KEY,
    ("GET", f"{_SUBSCRIPTION}/operationStatuses/{{operation}}"): _STATUS,
    ("GET", f"{_SUBSCRIPTION}/operationResults/{{operation}}"): _RESULT,
    ("GET", f"{_PLACE}/operationStatuses/{{operation}}"): _STATUS,
    ("GET", f"{_PLACE}/operationResults/{{operation}}"): _RESULT,
    ("GET", f"{_ROLES}/roleDefinitions"): _show("Roles.", "List", "$filter"),
    ("GET", f"{_ROLES}/roleDefinitions/{{role}}"): _show("A role.", "RoleDefinition"),
    ("GET", f"{_ROLES}/roleAssignments"): _show("Role assignments.", "List", "$filter"),
    ("GET", f"{_ROLES}/roleAssignments/{{assignment}}"): _show("A role assignment.", "RoleAssignment"),
    ("PUT", f"{_ROLES}/roleAssignments/{{assignment}}"): Operation(
        "Assign a role. It holds within a second.",
        {200: json_of("RoleAssignment"), 201: json_of("RoleAssignment")},
        (),
        json_of("RoleAssignmentRequest"),
        _CHANGE,
    ),
    ("DELETE", f"{_ROLES}/roleAssignments/{{assignment}}"): Operation(
        "Take a role away.", {200: json_of("RoleAssignment"), 204: NOTHING}, errors=_CHANGE
    ),
}

_TAGS: Schema = {"type": "object", "additionalProperties": TEXT}
_RESOURCE = {"id": TEXT, "name": TEXT, "type": TEXT}


def _optional(fields: Mapping[str, Schema]) -> Schema:
    """Any of them, each of which may be null: what Azure's clients leave out they often send so."""
    return {"type": "object", "properties": {name: or_null(schema) for name, schema in fields.items()}}


_CHANGEABLE: dict[str, Any] = {
    "scaleConfiguration": _optional(
        {
            "maxConcurrentSessions": {"type": "integer", "minimum": 1, "maximum": 600},
            "readySessionInstances": {"type": "integer", "minimum": 0, "maximum": 2},
        }
    ),
    "dynamicPoolConfiguration": _optional(
        {
            "lifecycleConfiguration": _optional(
                {
                    "lifecycleType": {"enum": ["Timed"]},
                    "cooldownPeriodInSeconds": {"type": "integer", "minimum": 300, "maximum": 3600},
                }
            )
        }
    ),
    "sessionNetworkConfiguration": _optional({"status": {"enum": ["EgressEnabled", "EgressDisabled"]}}),
    "secrets": array({**record({"name": TEXT}, value=TEXT), "maxProperties": 2}),
    "carrel": OBJECT,
}
_DEFINITION = {
    "poolManagementType": {"enum": ["Dynamic"]},
    "containerType": {"enum": ["PythonLTS", "NodeLTS", "Shell"]},
    "mcpServerSettings": _optional({"isMcpServerEnabled": FLAG}),
    **_CHANGEABLE,
}

SCHEMAS: dict[str, Schema] = {
    "List": record({"value": array(OBJECT)}, nextLink=or_null(TEXT)),
    "Subscription": record({"id": TEXT, "subscriptionId": TEXT, "tenantId": TEXT, "displayName": TEXT, "state": TEXT}),
    "Provider": record({"id": TEXT, "namespace": TEXT, "registrationState": TEXT, "resourceTypes": array(OBJECT)}),
    "Group": record({**_RESOURCE, "location": TEXT, "properties": OBJECT}, tags=_TAGS),
    "GroupRequest": record({"location": {"type": "string", "examples": ["local"]}}, tags=_TAGS),
    "GroupPatch": record({}, tags=_TAGS),
    "SessionPool": record(
        {
            **_RESOURCE,
            "location": TEXT,
            "tags": _TAGS,
            "systemData": OBJECT,
            "etag": TEXT,
            "properties": record(
                {
                    "provisioningState": {"enum": ["InProgress", "Succeeded", "Failed", "Canceled", "Deleting"]},
                    "poolManagementType": TEXT,
                    "containerType": TEXT,
                    "poolManagementEndpoint": TEXT,
                    "scaleConfiguration": OBJECT,
                    "dynamicPoolConfiguration": OBJECT,
                    "sessionNetworkConfiguration": OBJECT,
                    "mcpServerSettings": OBJECT,
                    "carrel": OBJECT,
                }
            ),
        }
    ),
    "SessionPools": record({"value": array(ref("SessionPool"))}, nextLink=or_null(TEXT)),
    "SessionPoolRequest": {
        **record(
            {"location": {"type": "string", "examples": ["local"]}, "properties": _optional(_DEFINITION)}, tags=_TAGS
        ),
        "examples": [{"location": "local", "properties": {"containerType": "PythonLTS"}}],
    },
    "SessionPoolPatch": record({}, tags=_TAGS, properties=_optional(_CHANGEABLE)),
    "ApiKey": record({"apiKey": TEXT}),
    "OperationStatus": record(
        {"id": TEXT, "name": TEXT, "status": TEXT}, startTime=TIME, endTime=or_null(TIME), error=ANY
    ),
    "RoleDefinition": record({**_RESOURCE, "properties": OBJECT}),
    "RoleAssignment": record({**_RESOURCE, "properties": OBJECT}),
    "RoleAssignmentRequest": {
        **record(
            {
                "properties": record(
                    {"roleDefinitionId": TEXT, "principalId": TEXT},
                    principalType={"enum": ["User", "Group", "ServicePrincipal"]},
                    description=TEXT,
                )
            }
        ),
        "examples": [
            {
                "properties": {
                    "roleDefinitionId": "0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0",
                    "principalId": "11111111-2222-3333-4444-555555555555",
                    "principalType": "ServicePrincipal",
                }
            }
        ],
    },
}
PARAMETERS = {
    "$top": query("$top", {"type": "integer", "minimum": 1}),
    "$skipToken": query("$skipToken", TEXT),
    "$filter": query("$filter", TEXT),
}
