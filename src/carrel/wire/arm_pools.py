"""Session pools on the control plane: from the body of a PUT or PATCH to what the pool is to be.

What is stored is the bag that a caller could have written, in one spelling, without defaults: so a repeated PUT is the same bag, and what a
caller leaves out follows the defaults of the server that serves the pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from carrel.arm_errors import LocationFixed, PropertyFixed, PropertyInvalid
from carrel.pool_settings import ConfigError, parse_pool, table_of
from carrel.store.records import PoolRecord
from carrel.wire.arm_bags import at, merged, nested
from carrel.wire.arm_properties import COOLDOWN, PROPERTIES, read
from carrel.wire.arm_resources import (
    Gathered,
    decode_location,
    decode_tags,
    members,
    merged_tags,
    shown,
)
from carrel.wire.arm_versions import has_mcp

_FIXED = ("containerType", "environmentId")  # decided when the pool is made
_DEFAULTS = {"containerType": "PythonLTS", "poolManagementType": "Dynamic"}
# Of the configuration file alone. The first two would have the server, which may be root, read files for whoever may write pools;
# the last is a place that the server itself calls. None is shown: addresses of webhooks hold keys.
_OPERATORS = ("secrets", "webhook", "packages.wheels")
_IDENTITIES = ("None", "SystemAssigned", "UserAssigned", "SystemAssigned,UserAssigned", "SystemAssigned, UserAssigned")


@dataclass(frozen=True, slots=True)
class Definition:
    """What a pool is to be."""

    location: str
    tags: Mapping[str, str]
    properties: Mapping[str, Any]
    secrets: Mapping[str, str] = field(repr=False)

    def equals(self, record: PoolRecord) -> bool:
        """Whether a pool is this already; saying what is so by default changes nothing."""
        there = (record.location, dict(record.tags), dict(record.secrets), _effect(record.properties))
        return there == (self.location, dict(self.tags), dict(self.secrets), _effect(self.properties))


def _effect(bag: Mapping[str, Any]) -> tuple[object, ...]:
    """What a bag comes to, and what of it is only shown."""
    try:
        spec = parse_pool("pool", table_of(bag), None, None)
    except ConfigError:
        return (bag,)
    return spec, bag.get("environmentId"), at(bag, "scaleConfiguration.readySessionInstances") or spec.ready


def decode_put(body: Mapping[str, Any], version: str, own_location: str, current: PoolRecord | None) -> Definition:
    """A whole definition. What the api-version does not know, and `carrel`, which Azure's clients do not, stay as they are if left out.

    Raises Faults with all that is wrong, and LocationFixed where the pool is elsewhere.
    """
    gathered = Gathered()
    fields = {name: value for name, (_, value) in members(body, "", gathered).items()}
    location = gathered.attempt(lambda: _location(fields.get("location"), own_location, current), "")
    tags = decode_tags(fields.get("tags"), gathered)
    _check_identity(fields.get("identity"), gathered)
    given = _properties(fields.get("properties"), gathered)
    secrets = _secrets(given.pop("secrets", None) or {}, current, gathered)
    bag = _kept(given, version, current)
    _check_fixed(bag, current, gathered)
    bag = _with_defaults(bag)
    _check_ranges(bag, current, gathered)
    gathered.tell()
    return Definition(location, merged_tags({}, tags), bag, secrets)


def decode_patch(body: Mapping[str, Any], own_location: str, current: PoolRecord) -> Definition:
    """A merge patch (RFC 7396): null takes a property back to its default, a list replaces the list. Raises as decode_put."""
    gathered = Gathered()
    fields = {name: value for name, (_, value) in members(body, "", gathered).items()}
    if fields.get("location") is not None:
        gathered.attempt(lambda: _location(fields["location"], own_location, current), "")
    tags = decode_tags(fields.get("tags"), gathered)
    _check_identity(fields.get("identity"), gathered)
    given = _properties(fields.get("properties"), gathered)
    secrets: Mapping[str, str] = current.secrets
    if "secrets" in given:
        secrets = _secrets(given.pop("secrets") or {}, current, gathered)
    given = {name: value for name, value in given.items() if not (name in _REQUIRED and value is None)}
    bag = _with_operators(_with_defaults(merged(current.properties, given)), current)
    _check_fixed(bag, current, gathered)
    _check_ranges(bag, current, gathered)
    gathered.tell()
    erased = "tags" in fields and fields["tags"] is None
    return Definition(current.location, {} if erased else merged_tags(current.tags, tags), bag, secrets)


_REQUIRED = ("poolManagementType", *_FIXED)


def _location(given: object, own: str, current: PoolRecord | None) -> str:
    if current is None:
        return decode_location(given, own)
    if given is not None and decode_location(given, own) != current.location:
        raise LocationFixed(
            f"The resource '{current.id.name}' already exists in location '{current.location}' in resource group "
            f"'{current.id.resource_group}'. A resource with the same name cannot be created in location '{shown(given)}'.",
            target="location",
        )
    return current.location


def _check_identity(given: Any, gathered: Gathered) -> None:
    """Azure has managed identities for custom containers alone; clients send `None` or nothing at all."""
    if given is None:
        return
    kind = (
        next((value for name, value in given.items() if name.lower() == "type"), None)
        if isinstance(given, Mapping)
        else ""
    )
    if kind is not None and (not isinstance(kind, str) or kind.lower() not in [each.lower() for each in _IDENTITIES]):
        gathered.add(
            PropertyInvalid(f"'identity.type' must be one of {', '.join(_IDENTITIES[:4])}.", target="identity.type")
        )
    elif kind is not None and kind.lower() != "none":
        message = "'identity': sessions of these pools have no managed identity (nor in Azure). Leave it out."
        gathered.add(PropertyInvalid(message, target="identity.type"))


def _properties(given: Any, gathered: Gathered) -> dict[str, Any]:
    """In our spelling, the older one of the cooldown translated."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        gathered.add(PropertyInvalid("'properties' must be an object.", target="properties"))
        return {}
    bag = read(PROPERTIES, given, "properties", gathered)
    for name in _OPERATORS:
        if at(merged({}, bag.get("carrel") or {}), name) is not None:
            path = f"properties.carrel.{name}"
            gathered.add(PropertyFixed(f"'{path}' can be set in the server's configuration file only.", target=path))
    bag.pop("customContainerTemplate", None)
    bag.pop("managedIdentitySettings", None)
    return _with_nested_lifecycle(bag, gathered)


def _with_nested_lifecycle(bag: dict[str, Any], gathered: Gathered) -> dict[str, Any]:
    outer = bag.get("dynamicPoolConfiguration")
    if outer is None:
        return bag
    older = {"lifecycleType": outer.pop("executionType", None)}
    older["cooldownPeriodInSeconds"] = outer.pop("cooldownPeriodInSeconds", None)
    told = {name: value for name, value in older.items() if value is not None}
    if not told:
        return bag
    inner = outer.get("lifecycleConfiguration") or {}
    for name, value in told.items():
        if inner.setdefault(name, value) not in (value, None):
            path = f"properties.dynamicPoolConfiguration.{name}"
            gathered.add(PropertyInvalid(f"'{path}' is given twice, with two values.", target=path))
        inner[name] = value if inner[name] is None else inner[name]
    outer["lifecycleConfiguration"] = inner
    return bag


def _secrets(given: Mapping[str, str | None], current: PoolRecord | None, gathered: Gathered) -> dict[str, str]:
    """Values are written and never told, so a name alone keeps the value that there is."""
    there = current.secrets if current is not None else {}
    for name, value in given.items():
        if value is None and name not in there:
            gathered.add(PropertyInvalid(f"The secret '{name}' needs a value.", target="properties.secrets"))
    return {name: there.get(name, "") if value is None else value for name, value in given.items()}


def _kept(given: dict[str, Any], version: str, current: PoolRecord | None) -> dict[str, Any]:
    """With what a PUT leaves alone by not naming it."""
    bag = merged({}, given)
    if current is None:
        return bag
    silent = [*_FIXED, "carrel", *(() if has_mcp(version) else ("mcpServerSettings",))]
    for name in silent:
        if name in current.properties and given.get(name) is None:
            bag[name] = current.properties[name]
    return _with_operators(bag, current)


def _with_defaults(bag: Mapping[str, Any]) -> dict[str, Any]:
    """What is not the configuration file's default, or is told wherever a pool is shown. A pool of the file has an MCP endpoint."""
    mcp = {"isMcpServerEnabled": False, **bag.get("mcpServerSettings", {})}
    return {**_DEFAULTS, **bag, "mcpServerSettings": mcp}


def _with_operators(bag: dict[str, Any], current: PoolRecord) -> dict[str, Any]:
    """What the configuration file says of a pool, and only it can say."""
    ours = current.properties.get("carrel", {})
    for name in _OPERATORS:
        value = at(ours, name)
        if value is not None:
            bag = merged(bag, {"carrel": nested(name, value)})
    return bag


def _check_fixed(bag: Mapping[str, Any], current: PoolRecord | None, gathered: Gathered) -> None:
    if current is None:
        return
    for name in _FIXED:
        before, after = (each.get(name, _DEFAULTS.get(name)) for each in (current.properties, bag))
        if str(before).lower() != str(after).lower():
            path = f"properties.{name}"
            message = f"Changing property '{path}' is not allowed. It is '{shown(before)}'; make another pool."
            gathered.add(PropertyFixed(message, target=path))


def _check_ranges(bag: Mapping[str, Any], current: PoolRecord | None, gathered: Gathered) -> None:
    """Azure's, which an operator's file may leave: what a pool has already is not a fault of the caller's."""
    name = "dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds"
    given = at(bag, name)
    before = at(current.properties, name) if current is not None else None
    low, high = COOLDOWN
    if given is not None and given != before and not low <= given <= high:
        message = f"'properties.{name}' must be a whole number from {low} to {high}, not '{given}'."
        gathered.add(PropertyInvalid(message, target=f"properties.{name}"))
