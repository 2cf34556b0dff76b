"""Every route of the control plane: one table, from which requests are dispatched and documents are made."""

from __future__ import annotations

from collections.abc import Mapping

from carrel.server.arm import credentials, groups, operations, pools, providers, resources, subscriptions
from carrel.server.arm.call import Handler
from carrel.server.authorization import assignments, definitions
from carrel.server.route_table import Route
from carrel.wire.arm_paths import Pattern
from carrel.wire.arm_roles import VERSIONS as ROLE_VERSIONS
from carrel.wire.arm_versions import RESOURCES, SESSION_POOLS, Versions


def _route(text: str, methods: Mapping[str, Handler], versions: Versions = RESOURCES) -> Route[Handler]:
    return Route(Pattern(text), methods, versions)


_SUBSCRIPTION = "/subscriptions/{subscription}"
_ROLES = "{scope}/providers/Microsoft.Authorization"
_GROUP = f"{_SUBSCRIPTION}/resourceGroups/{{group}}"
_APP = "providers/Microsoft.App"
_POOL = f"{_GROUP}/{_APP}/sessionPools/{{pool}}"
_PLACE = f"{_SUBSCRIPTION}/{_APP}/locations/{{location}}"
_POOL_METHODS = {"GET": pools.show, "PUT": pools.put, "PATCH": pools.patch, "DELETE": pools.delete}
_GROUP_METHODS = {
    "GET": groups.show,
    "HEAD": groups.exists,
    "PUT": groups.put,
    "PATCH": groups.patch,
    "DELETE": groups.delete,
}

ROUTES: tuple[Route[Handler], ...] = (
    _route("/subscriptions", {"GET": subscriptions.listing}),
    _route(_SUBSCRIPTION, {"GET": subscriptions.show}),
    _route(f"{_SUBSCRIPTION}/locations", {"GET": subscriptions.locations}),
    _route("/tenants", {"GET": subscriptions.tenants}),
    _route(f"{_ROLES}/roleDefinitions", {"GET": definitions.listing}, ROLE_VERSIONS),
    _route(f"{_ROLES}/roleDefinitions/{{role}}", {"GET": definitions.show}, ROLE_VERSIONS),
    _route(f"{_ROLES}/roleAssignments", {"GET": assignments.listing}, ROLE_VERSIONS),
    _route(
        f"{_ROLES}/roleAssignments/{{assignment}}",
        {"GET": assignments.show, "PUT": assignments.put, "DELETE": assignments.delete},
        ROLE_VERSIONS,
    ),
    _route(f"{_SUBSCRIPTION}/providers", {"GET": providers.listing}),
    _route(f"{_SUBSCRIPTION}/providers/{{namespace}}", {"GET": providers.show}),
    _route(f"{_SUBSCRIPTION}/providers/{{namespace}}/register", {"POST": providers.register}),
    _route(f"{_SUBSCRIPTION}/resourceGroups", {"GET": groups.listing}),
    _route(_GROUP, _GROUP_METHODS),
    _route(f"{_SUBSCRIPTION}/resources", {"GET": resources.listing}),
    _route(f"{_GROUP}/resources", {"GET": resources.listing}),
    _route(f"{_SUBSCRIPTION}/operationStatuses/{{operation}}", {"GET": operations.status}),
    _route(f"{_SUBSCRIPTION}/operationResults/{{operation}}", {"GET": operations.result}),
    _route(_POOL, _POOL_METHODS, SESSION_POOLS),
    _route(f"{_GROUP}/{_APP}/sessionPools", {"GET": pools.listing}, SESSION_POOLS),
    _route(f"{_SUBSCRIPTION}/{_APP}/sessionPools", {"GET": pools.listing}, SESSION_POOLS),
    _route(f"{_POOL}/fetchMcpServerCredentials", {"POST": credentials.fetch}, SESSION_POOLS),
    _route(f"{_POOL}/rotateMcpServerCredentials", {"POST": credentials.rotate}, SESSION_POOLS),
    _route(f"{_POOL}/regenerateCredentials", {"POST": credentials.rotate}, SESSION_POOLS),
    _route(f"{_PLACE}/operationStatuses/{{operation}}", {"GET": operations.status}, SESSION_POOLS),
    _route(f"{_PLACE}/operationResults/{{operation}}", {"GET": operations.result}, SESSION_POOLS),
)
