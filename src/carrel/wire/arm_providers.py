"""Resource providers as far as they are here: what can be made, where, and by which api-versions."""

from __future__ import annotations

import re
from typing import Any

from carrel.arm_errors import NamespaceInvalid
from carrel.config import Config
from carrel.wire import jsons
from carrel.wire.arm_roles import VERSIONS as AUTHORIZATION
from carrel.wire.arm_versions import RESOURCES, SESSION_POOLS, Versions
from carrel.wire.locations import locations

_NAMESPACE = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}(\.[A-Za-z][A-Za-z0-9]{0,63}){1,3}")
_TYPES: dict[str, dict[str, Versions]] = {
    "Microsoft.App": {"sessionPools": SESSION_POOLS, "locations": SESSION_POOLS},
    "Microsoft.Authorization": {"roleAssignments": AUTHORIZATION, "roleDefinitions": AUTHORIZATION},
    "Microsoft.Resources": {"resourceGroups": RESOURCES, "subscriptions": RESOURCES, "tenants": RESOURCES},
}
_PLACED = ("sessionPools", "resourceGroups")


def encode_provider(config: Config, namespace: str) -> bytes:
    """Raises NamespaceInvalid for what no provider can be called."""
    return jsons.encode(_provider(config, namespace))


def encode_providers(config: Config) -> bytes:
    return jsons.encode({"value": [_provider(config, namespace) for namespace in _TYPES]})


def _provider(config: Config, namespace: str) -> dict[str, Any]:
    """One of Azure's that is not here is registered too, and has nothing in it: tools that register whatever they may need go on."""
    if not _NAMESPACE.fullmatch(namespace):
        raise NamespaceInvalid("The resource namespace is invalid.", target="namespace")
    ours = next((each for each in _TYPES if each.lower() == namespace.lower()), namespace)
    return {
        "id": f"/subscriptions/{config.subscription}/providers/{ours}",
        "namespace": ours,
        "registrationState": "Registered",
        "registrationPolicy": "RegistrationFree",
        "resourceTypes": [_type(config, *each) for each in _TYPES.get(ours, {}).items()],
    }


def _type(config: Config, name: str, versions: Versions) -> dict[str, Any]:
    """With display names of the locations, as Azure has them: clients compare without spaces and case."""
    newest = sorted(versions, reverse=True)
    return {
        "resourceType": name,
        "locations": list(locations(config.location).values()) if name in _PLACED else [],
        "apiVersions": newest,
        "defaultApiVersion": next(each for each in newest if not each.endswith("preview")),
        "capabilities": "SupportsTags, SupportsLocation" if name in _PLACED else "None",
    }
