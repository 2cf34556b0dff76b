"""The api-versions of the control plane, by provider. What they change is little: see arm_pools.py."""

from __future__ import annotations

from carrel.arm_errors import ApiVersionMissing, ApiVersionUnknown

Versions = tuple[str, ...]

# In the order of their dates. The last one but two is advertised by Azure and was never published.
SESSION_POOLS: Versions = (
    "2023-08-01-preview",
    "2023-11-02-preview",
    "2024-02-02-preview",
    "2024-08-02-preview",
    "2024-10-02-preview",
    "2025-01-01",
    "2025-02-02-preview",
    "2025-07-01",
    "2025-10-02-preview",
    "2026-01-01",
    "2026-03-02-preview",
    "2026-07-01",
)

# Subscriptions, groups, providers: the dates of Microsoft.Resources that clients in use send.
RESOURCES: Versions = (
    *("2014-04-01-preview", "2014-04-01", "2015-01-01", "2015-11-01", "2016-02-01", "2016-06-01", "2016-07-01"),
    *("2016-09-01", "2017-05-10", "2018-01-01", "2018-02-01", "2018-05-01", "2018-06-01", "2019-03-01", "2019-05-01"),
    *("2019-05-10", "2019-06-01", "2019-07-01", "2019-08-01", "2019-10-01", "2019-11-01", "2020-01-01", "2020-05-01"),
    *("2020-06-01", "2020-08-01", "2020-10-01", "2021-01-01", "2021-04-01", "2021-10-01", "2022-01-01", "2022-05-01"),
    *("2022-09-01", "2022-12-01", "2023-07-01", "2024-03-01", "2024-07-01", "2024-08-01", "2024-11-01", "2025-03-01"),
    *("2025-04-01",),
)

_NESTED_LIFECYCLE_SINCE = "2025-01-01"


def decode_version(text: str | None, known: Versions) -> str:
    """The `api-version` parameter as we spell it. Raises ApiVersionMissing, ApiVersionUnknown."""
    if not text:
        raise ApiVersionMissing(
            f"The api-version query parameter (?api-version=) is required for all requests. Supported: {', '.join(known)}.",
            target="api-version",
        )
    version = text.lower()
    if version not in known:
        shown = text if len(text) <= 40 and text.isprintable() else "given"
        raise ApiVersionUnknown(
            f"The api-version '{shown}' is invalid. The supported versions are '{', '.join(known)}'.",
            target="api-version",
        )
    return version


def has_nested_lifecycle(version: str) -> bool:
    """Whether a pool's cooldown stands in `lifecycleConfiguration`; before, it stood in `dynamicPoolConfiguration` itself."""
    return version >= _NESTED_LIFECYCLE_SINCE


def has_mcp(version: str) -> bool:
    """Whether a pool's `mcpServerSettings` are part of the model: they came and went. Where they are not, silence means nothing."""
    return version in ("2025-02-02-preview", "2025-10-02-preview")
