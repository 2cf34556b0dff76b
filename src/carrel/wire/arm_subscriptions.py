"""What the control plane says about itself: endpoints, tenant, subscription, locations."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from carrel.config import Config
from carrel.wire import jsons
from carrel.wire.locations import locations, normal

# Between these a list of clouds: ARM_CLOUD_METADATA_URL asks at 2019-05-01, older Go clients at 2020-06-01.
_LIST_SINCE, _ONE_SINCE = "2019-05-01", "2022-09-01"
_NOWHERE = ""  # services of Azure's that are not here; clients want the names


def encode_metadata(origin: str, version: str) -> bytes:
    """`origin` is ours as the caller sees it: control plane, authority and Graph are all there."""
    cloud = _cloud(origin)
    return jsons.encode([cloud] if _LIST_SINCE <= version < _ONE_SINCE else cloud)


def _cloud(origin: str) -> dict[str, Any]:
    host = urlsplit(origin).hostname or "localhost"
    return {
        "name": "Carrel",
        "portal": origin,
        "authentication": {
            "loginEndpoint": origin,
            "audiences": [origin, "https://management.azure.com/"],
            "tenant": "common",
            "identityProvider": "AAD",
        },
        "resourceManager": origin,
        "graph": f"{origin}/graph",
        "graphAudience": f"{origin}/graph",
        "microsoftGraphResourceId": f"{origin}/graph",
        "gallery": origin,
        # As api-version 2015-01-01 called them: older releases of az, and Azure PowerShell, still ask for that.
        "galleryEndpoint": origin,
        "graphEndpoint": f"{origin}/graph",
        "portalEndpoint": origin,
        "media": _NOWHERE,
        "batch": _NOWHERE,
        "sqlManagement": _NOWHERE,
        "activeDirectoryDataLake": _NOWHERE,
        "vmImageAliasDoc": _NOWHERE,
        "suffixes": {
            "acrLoginServer": host,
            "azureDataLakeStoreFileSystem": host,
            "keyVaultDns": host,
            "sqlServerHostname": host,
            "storage": host,
        },
    }


def encode_subscriptions(configs: list[Config], tenant: str) -> bytes:
    """The list: of one subscription, or of none where the caller may see nothing in it."""
    value = [_subscription(each, tenant) for each in configs]
    return jsons.encode({"value": value, "count": {"type": "Total", "value": len(value)}})


def encode_subscription(config: Config, tenant: str) -> bytes:
    return jsons.encode(_subscription(config, tenant))


def _subscription(config: Config, tenant: str) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{config.subscription}",
        "subscriptionId": config.subscription,
        "tenantId": tenant,
        "displayName": "Carrel",
        "state": "Enabled",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "Internal_2014-09-01",
            "spendingLimit": "Off",
        },
    }


def encode_tenants(tenant: str) -> bytes:
    """The one there is."""
    described = {
        "id": f"/tenants/{tenant}",
        "tenantId": tenant,
        "tenantCategory": "Home",
        "tenantType": "AAD",
        "displayName": "Carrel",
        "defaultDomain": "carrel.local",
        "domains": ["carrel.local"],
        "countryCode": "",
    }
    return jsons.encode({"value": [described]})


def encode_locations(config: Config) -> bytes:
    return jsons.encode(
        {"value": [_location(config, name, shown) for name, shown in locations(config.location).items()]}
    )


def _location(config: Config, name: str, shown: str) -> dict[str, Any]:
    is_own = name == normal(config.location)
    return {
        "id": f"/subscriptions/{config.subscription}/locations/{name}",
        "name": name,
        "type": "Region",
        "displayName": shown,
        "regionalDisplayName": shown if is_own else f"{shown} (served by this machine)",
        "metadata": {
            "regionType": "Physical",
            "regionCategory": "Recommended" if is_own else "Other",
            "geography": "Carrel",
            "geographyGroup": "Carrel",
            "physicalLocation": "",
            "pairedRegion": [],
        },
    }
