"""Resource groups on the control plane."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carrel.arm_errors import GroupLocationFixed, NameInvalid, PropertyInvalid
from carrel.store.records import GroupRecord
from carrel.wire import jsons
from carrel.wire.arm_resources import Gathered, decode_location, decode_tags, members, merged_tags, shown

_NAME = re.compile(r"[\w.()-]{0,89}[\w()-]")
_TYPE = "Microsoft.Resources/resourceGroups"


@dataclass(frozen=True, slots=True)
class GroupDefinition:
    """What a group is to be."""

    location: str
    tags: Mapping[str, str]


def check_name(name: str) -> None:
    """Raises NameInvalid."""
    if not _NAME.fullmatch(name):
        raise NameInvalid(
            f"The resource group name '{shown(name)}' is not allowed: 1 to 90 letters, digits, '_', '-', '.', '(' and ')', "
            "not with '.' at its end.",
            target="name",
        )


def decode_put(body: Mapping[str, Any], own_location: str, current: GroupRecord | None) -> GroupDefinition:
    """Raises Faults; GroupLocationFixed where the group is there, and elsewhere."""
    gathered = Gathered()
    fields = {name: value for name, (_, value) in members(body, "", gathered).items()}
    location = gathered.attempt(lambda: decode_location(fields.get("location"), own_location), "")
    tags = decode_tags(fields.get("tags"), gathered)
    gathered.tell()
    _check_location(location, current)
    return GroupDefinition(location, merged_tags({}, tags))


def decode_patch(body: Mapping[str, Any], own_location: str, current: GroupRecord) -> GroupDefinition:
    """A merge patch: of a group, tags alone can change."""
    gathered = Gathered()
    fields = {name: value for name, (_, value) in members(body, "", gathered).items()}
    name = fields.get("name")
    if name is not None and (not isinstance(name, str) or name.lower() != current.name.lower()):
        gathered.add(PropertyInvalid("A resource group cannot be renamed.", target="name"))
    location = current.location
    if fields.get("location") is not None:
        location = gathered.attempt(lambda: decode_location(fields["location"], own_location), location)
    tags = decode_tags(fields.get("tags"), gathered)
    gathered.tell()
    _check_location(location, current)
    erased = "tags" in fields and fields["tags"] is None
    return GroupDefinition(location, {} if erased else merged_tags(current.tags, tags))


def _check_location(location: str, current: GroupRecord | None) -> None:
    if current is not None and location != current.location:
        raise GroupLocationFixed(
            f"Invalid resource group location '{location}'. The Resource group already exists in location '{current.location}'.",
            target="location",
        )


def encode_group(record: GroupRecord, state: str) -> bytes:
    return jsons.encode(group_resource(record, state))


def group_resource(record: GroupRecord, state: str) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "type": _TYPE,
        "location": record.location,
        "tags": dict(record.tags),
        "properties": {"provisioningState": state},
    }
