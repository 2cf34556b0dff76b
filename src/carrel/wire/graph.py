"""Principals as Microsoft Graph's objects, and Graph's filters and errors."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from carrel.errors import CarrelError
from carrel.graph_errors import GraphError, QueryUnsupported
from carrel.store import PrincipalRecord
from carrel.wire import jsons
from carrel.wire.odata import Filter, FilterError, Term, decode_filter
from carrel.wire.times import timestamp

USERS, SERVICE_PRINCIPALS, GROUPS, APPLICATIONS = "users", "servicePrincipals", "groups", "applications"
_COLLECTIONS = {"User": USERS, "Group": GROUPS}  # the rest are service principals
_TYPES = {USERS: "user", SERVICE_PRINCIPALS: "servicePrincipal", GROUPS: "group", APPLICATIONS: "application"}
_APPLICATION = uuid.UUID(
    "4c1f4a3e-52a5-4b7c-9b0f-8e0a7f1d2c3b"
)  # of the ids of applications, which are not their principals'
MAX_IDS = 1000

Object = dict[str, Any]


def collection_of(record: PrincipalRecord) -> str:
    return _COLLECTIONS.get(record.kind, SERVICE_PRINCIPALS)


def encode_principal(record: PrincipalRecord, tenant: str) -> Object:
    """One object, with its type: clients take it from here even where Graph leaves it out."""
    collection = collection_of(record)
    common = {
        "@odata.type": f"#microsoft.graph.{_TYPES[collection]}",
        "id": record.id,
        "displayName": record.display_name or record.user_name or record.app_id or record.id,
        "createdDateTime": timestamp(record.created_at),
    }
    if collection == USERS:
        return {**common, **_user(record)}
    if collection == GROUPS:
        flags = {"securityEnabled": True, "mailEnabled": False, "groupTypes": [], "mail": None, "description": None}
        return {**common, **flags, "mailNickname": record.display_name or record.id}
    return {**common, **_service_principal(record, tenant)}


def encode_application(record: PrincipalRecord) -> Object:
    """What a service principal is an instance of: here, one each."""
    return {
        "@odata.type": "#microsoft.graph.application",
        "id": str(uuid.uuid5(_APPLICATION, record.id)),
        "appId": record.app_id,
        "displayName": record.display_name or record.app_id,
        "createdDateTime": timestamp(record.created_at),
        "identifierUris": [],
        "signInAudience": "AzureADMyOrg",
        "passwordCredentials": [],
        "keyCredentials": [],
    }


def _user(record: PrincipalRecord) -> Object:
    unknown = ("givenName", "surname", "jobTitle", "mobilePhone", "officeLocation", "preferredLanguage")
    return {
        "userPrincipalName": record.user_name or record.id,
        "mail": record.user_name if "@" in record.user_name else None,
        "accountEnabled": record.is_enabled,
        "businessPhones": [],
        **dict.fromkeys(unknown),
    }


def _service_principal(record: PrincipalRecord, tenant: str) -> Object:
    return {
        "appId": record.app_id,
        "appDisplayName": record.display_name or record.app_id,
        "appOwnerOrganizationId": tenant,
        "servicePrincipalType": "ManagedIdentity" if record.kind == "ManagedIdentity" else "Application",
        "servicePrincipalNames": [record.app_id] if record.app_id else [],
        "accountEnabled": record.is_enabled,
        "passwordCredentials": [],
        "keyCredentials": [],
        "tags": [],
    }


# What can be filtered by: the properties that such objects have.
EXAMPLES: dict[str, Object] = {
    USERS: encode_principal(PrincipalRecord("", "User"), ""),
    SERVICE_PRINCIPALS: encode_principal(PrincipalRecord("", "ServicePrincipal"), ""),
    GROUPS: encode_principal(PrincipalRecord("", "Group"), ""),
    APPLICATIONS: encode_application(PrincipalRecord("", "ServicePrincipal")),
}


def decode_wanted(text: str | None) -> Filter:
    """`$filter`. Raises QueryUnsupported."""
    try:
        return decode_filter(text)
    except FilterError as error:
        raise QueryUnsupported(str(error), target="$filter") from error


def select(objects: Iterable[Object], wanted: Filter) -> list[Object]:
    """The objects that a filter asks for. Raises QueryUnsupported on a property that none of them has."""
    return [
        each for each in objects if not wanted or any(all(_holds(each, term) for term in terms) for terms in wanted)
    ]


def check(wanted: Filter, known: Mapping[str, Any]) -> None:
    """Raises QueryUnsupported where a filter is about a property that objects such as `known` do not have."""
    names = {name.lower() for name in known}
    for term in (term for terms in wanted for term in terms):
        if term.operator == "call" or term.name not in names:
            raise QueryUnsupported(f"'{term.name[:60]}' cannot be filtered by here.", target="$filter")


def _holds(object: Object, term: Term) -> bool:
    value = next((value for name, value in object.items() if name.lower() == term.name), None)
    wanted = term.value.lower()
    if term.operator == "any":
        return isinstance(value, list) and any(str(each).lower() == wanted for each in value)
    text = "" if value is None else str(value).lower()
    return text.startswith(wanted) if term.operator == "startswith" else text == wanted


def decode_ids(body: Mapping[str, Any], name: str = "ids") -> tuple[list[str], set[str] | None]:
    """Of `getByIds`: ids, and the types that are wanted, lower-case; None for all. Raises GraphError."""
    ids, types = body.get(name), body.get("types")
    if not isinstance(ids, list) or len(ids) > MAX_IDS or not all(isinstance(each, str) for each in ids):
        raise GraphError(f"'{name}' must be a list of up to {MAX_IDS} strings.", target=name)
    if types is not None and not (isinstance(types, list) and all(isinstance(each, str) for each in types)):
        raise GraphError("'types' must be a list of strings.", target="types")
    return [each.lower() for each in ids], None if types is None else {each.lower() for each in types}


def type_of(object: Object) -> str:
    """Its type in lower case, without Graph's name space."""
    return str(object["@odata.type"]).rpartition(".")[2].lower()


def encode_one(object: Object, context: str) -> bytes:
    return jsons.encode({"@odata.context": f"{context}/$entity", **object})


def encode_list(objects: Iterable[Object], context: str) -> bytes:
    return jsons.encode({"@odata.context": context, "value": list(objects)})


def encode_error(error: CarrelError, trace_id: str, client_id: str | None) -> bytes:
    """As Graph has it; `target` and `traceId` are ours."""
    inner = {"date": timestamp(time.time()), "request-id": trace_id, "client-request-id": client_id or trace_id}
    fields = {"code": error.code, "message": error.message, "target": error.target, "innerError": inner}
    return jsons.encode({"error": {**fields, "traceId": trace_id}})
