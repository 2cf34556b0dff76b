"""What all resources of the control plane have: location, tags, who made them and when; and how faults of a definition are gathered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from carrel.arm_errors import (
    ArmError,
    Faults,
    LocationMissing,
    LocationUnknown,
    ParameterInvalid,
    PropertyInvalid,
)
from carrel.store.records import Stamp
from carrel.wire.locations import locations, normal
from carrel.wire.odata import Filter, FilterError, Term, decode_filter
from carrel.wire.times import timestamp

T = TypeVar("T")

_FILTERED = {
    each.lower(): each for each in ("name", "resourceType", "resourceGroup", "location", "tagName", "tagValue")
}
_MOST_TAGS = 50
_TAG_NAME, _TAG_VALUE = 512, 256  # characters, as ARM has it
_SHOWN = 60  # characters of a caller's value that a message repeats


class Gathered:
    """The faults found so far. `or_fault` goes on after one, so that a caller learns of all of them at once."""

    def __init__(self) -> None:
        self._faults: list[ArmError] = []

    def add(self, fault: ArmError) -> None:
        if len(self._faults) < 100:
            self._faults.append(fault)

    def attempt(self, work: Callable[[], T], otherwise: T) -> T:
        """What `work` gives; `otherwise` where it has a fault, which is kept."""
        try:
            return work()
        except ArmError as fault:
            self.add(fault)
            return otherwise

    def tell(self) -> None:
        """Raises Faults where there was any."""
        if self._faults:
            raise Faults(self._faults)


def members(fields: Mapping[str, Any], path: str, gathered: Gathered) -> dict[str, tuple[str, Any]]:
    """By lower-case name, with the caller's own spelling: names of properties match in any case. One that is there twice is a fault."""
    found: dict[str, tuple[str, Any]] = {}
    for name, value in fields.items():
        if name.lower() in found:
            gathered.add(
                PropertyInvalid(f"'{shown(name)}' is given twice, in two spellings.", target=path or shown(name))
            )
        found[name.lower()] = (name, value)
    return found


def shown(value: object) -> str:
    """A value of the caller's for a message: bounded, printable."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(each if each.isprintable() else "?" for each in text[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def decode_location(given: object, own: str) -> str:
    """A location in its one spelling. Raises LocationMissing, LocationUnknown."""
    if given is None or given == "":
        raise LocationMissing("The location property is required for this definition.", target="location")
    known = locations(own)
    if not isinstance(given, str) or (name := normal(given)) not in known:
        raise LocationUnknown(
            f"The provided location '{shown(given)}' is not available. List of available locations is "
            f"'{','.join(known)}'.",
            target="location",
        )
    return name


def decode_tags(given: object, gathered: Gathered) -> dict[str, str | None]:
    """Tags as they were given; null stands for a tag that is to go, and only a merge patch can mean that."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        gathered.add(PropertyInvalid("tags must be an object of strings.", target="tags"))
        return {}
    if len(given) > _MOST_TAGS:
        gathered.add(PropertyInvalid(f"A resource may have {_MOST_TAGS} tags at most.", target="tags"))
        return {}
    names = members(given, "tags", gathered)
    for name, value in names.values():
        if not 1 <= len(name) <= _TAG_NAME or any(each in "<>%&\\?/" or not each.isprintable() for each in name):
            gathered.add(PropertyInvalid(f"The tag name '{shown(name)}' is not allowed.", target="tags"))
        elif value is not None and not (isinstance(value, str) and len(value) <= _TAG_VALUE and _is_text(value)):
            message = f"The tag '{shown(name)}' must be a string of at most {_TAG_VALUE} characters."
            gathered.add(PropertyInvalid(message, target=f"tags.{shown(name)}"))
    return dict(names.values())


def merged_tags(current: Mapping[str, str], patch: Mapping[str, str | None]) -> dict[str, str]:
    """After a merge patch. Names of tags compare in any case; the newer spelling stays."""
    changed = {name.lower() for name in patch}
    kept = {name: value for name, value in current.items() if name.lower() not in changed}
    return kept | {name: value for name, value in patch.items() if value is not None}


class ResourceFilter:
    """`$filter` of a list: alternatives of terms `name eq 'x'`, or tags by `tagName eq 'a' and tagValue eq 'b'`."""

    def __init__(self, alternatives: Filter) -> None:
        self._alternatives = alternatives

    def takes(self, resource: Mapping[str, Any]) -> bool:
        """Whether a resource, as it is shown, is one of those."""
        return not self._alternatives or any(_takes(terms, resource) for terms in self._alternatives)


def decode_resource_filter(text: str | None) -> ResourceFilter:
    """Raises ParameterInvalid, also for what cannot be asked for: a list of everything would be the wrong answer."""
    try:
        alternatives = decode_filter(text)
    except FilterError as error:
        raise ParameterInvalid(str(error), target="$filter") from error
    for term in (term for terms in alternatives for term in terms):
        if term.operator != "eq" or term.name not in _FILTERED:
            known = ", ".join(f"{name} eq '…'" for name in _FILTERED.values())
            raise ParameterInvalid(f"$filter takes {known}, joined by and, or.", target="$filter")
    return ResourceFilter(alternatives)


def _takes(terms: tuple[Term, ...], resource: Mapping[str, Any]) -> bool:
    wanted = {term.name: term.value.lower() for term in terms}
    tags = {name.lower(): str(value).lower() for name, value in resource["tags"].items()}
    parts = str(resource["id"]).lower().split("/")
    there = {
        "name": str(resource["name"]).lower(),
        "resourcetype": str(resource["type"]).lower(),
        "resourcegroup": parts[4] if len(parts) > 4 else "",
        "location": str(resource["location"]).lower(),
    }
    plain = all(there[name] == value for name, value in wanted.items() if name in there)
    has_name = wanted.get("tagname", "") in tags if "tagname" in wanted else True
    values = tags.values() if "tagname" not in wanted else [tags.get(wanted["tagname"], "")]
    return plain and has_name and ("tagvalue" not in wanted or wanted["tagvalue"] in values)


def encode_system_data(created: Stamp, modified: Stamp) -> dict[str, str]:
    return {
        "createdBy": created.by,
        "createdByType": created.kind,
        "createdAt": timestamp(created.at),
        "lastModifiedBy": modified.by,
        "lastModifiedByType": modified.kind,
        "lastModifiedAt": timestamp(modified.at),
    }


def _is_text(value: str) -> bool:
    """Half of a surrogate pair cannot be stored."""
    return value.isascii() or not any("\ud800" <= each <= "\udfff" for each in value)
