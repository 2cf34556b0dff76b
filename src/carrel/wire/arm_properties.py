"""The property bag of a session pool as a caller writes it: one tree of names, each with what it takes.

Names match in any case and come out in Azure's; enumerations likewise. What is read-only is dropped, what is null stays null: in a PUT it
is as good as absent, in a merge patch it takes the property back. A name that is not in the tree is refused, since it does nothing.
`carrel` is ours, with the fields of `[pools.NAME].carrel` in the configuration file and their rules.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any

from carrel.arm_errors import (
    ArmError,
    ContainerTypeUnsupported,
    ManagementTypeInvalid,
    PropertyInvalid,
    PropertyUnknown,
    ReadyInvalid,
)
from carrel.models import ContainerType
from carrel.pool_settings import FIELDS, ConfigError
from carrel.wire.arm_resources import Gathered, members, shown

Leaf = Callable[[str, Any], Any]  # from the property's path and its value to the value that is kept; raises ArmError
Tree = dict[str, "Leaf | Tree"]

COOLDOWN = (300, 3600)  # seconds, of Azure's; the configuration file allows more
_MAXIMUM = (1, 10_000)
_SECRETS, _SECRET_BYTES = 100, 64 * 1024
_SECRET_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_ENVIRONMENT = re.compile(
    r"/subscriptions/[\w-]+/resourceGroups/[\w.()-]+/providers/[\w.]+/\w+/[\w.()-]+", re.IGNORECASE | re.ASCII
)
# Azure's, with what to do here instead.
_ELSEWHERE = {
    "CustomContainer": "containers of your own are images here: build one with 'carrel image build' and name it in "
    "properties.carrel.image of a PythonLTS, NodeLTS or Shell pool",
    "GpuBase": "sessions have no GPU here: use PythonLTS",
    "CsharpLTS": "build an image with .NET and name it in properties.carrel.image of a Shell pool",
}


def read(tree: Tree, given: Mapping[str, Any], path: str, gathered: Gathered) -> dict[str, Any]:
    """What of a JSON object is to be kept, in our spelling."""
    spelled = {name.lower(): name for name in tree}
    kept: dict[str, Any] = {}
    for lower, (name, value) in members(given, path, gathered).items():
        ours = spelled.get(lower)
        if ours is None:
            gathered.add(_unknown(name, path, tree))
        elif value is None:
            kept[ours] = None
        else:
            found = _value(tree[ours], value, f"{path}.{ours}", gathered)
            if found is not None:
                kept[ours] = found
    return {name: value for name, value in kept.items() if tree[name] is not _read_only}


def _value(node: Leaf | Tree, value: Any, path: str, gathered: Gathered) -> Any:
    if not isinstance(node, dict):
        return gathered.attempt(lambda: node(path, value), None)
    if not isinstance(value, Mapping):
        gathered.add(PropertyInvalid(f"'{path}' must be an object.", target=path))
        return None
    return read(node, value, path, gathered)


def _unknown(name: str, path: str, tree: Tree) -> ArmError:
    close = difflib.get_close_matches(name.lower(), [each.lower() for each in tree], n=1, cutoff=0.6)
    hint = next((f"Did you mean '{each}'?" for each in tree if [each.lower()] == close), "")
    known = hint or f"Known are {', '.join(tree)}."
    return PropertyUnknown(f"'{path}' has no property '{shown(name)}'. {known}", target=f"{path}.{shown(name)}")


# ---- what each property takes --------------------------------------------------------------------------------------------------


def _read_only(path: str, value: Any) -> None:
    """What the server says of a resource and callers send back."""


def integer(path: str, value: Any, low: int, high: int, error: type[ArmError] = PropertyInvalid) -> int:
    """A JSON number without a fraction; text is none."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, float) and value.is_integer():
        value, is_whole = int(value), True
    if not is_whole or not low <= value <= high:
        raise error(f"'{path}' must be a whole number from {low} to {high}, not '{shown(value)}'.", target=path)
    return int(value)


def word(path: str, value: Any, *allowed: str) -> str:
    """One of the words, in any case."""
    for each in allowed:
        if isinstance(value, str) and value.lower() == each.lower():
            return str(each)
    raise PropertyInvalid(f"'{path}' must be one of {', '.join(allowed)}, not '{shown(value)}'.", target=path)


def _flag(path: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise PropertyInvalid(f"'{path}' must be true or false, not '{shown(value)}'.", target=path)
    return value


def _container_type(path: str, value: Any) -> str:
    for name, advice in _ELSEWHERE.items():
        if isinstance(value, str) and value.lower() == name.lower():
            raise ContainerTypeUnsupported(f"'{path}': {name} is not run here; {advice}.", target=path)
    return word(path, value, *ContainerType)


def _management(path: str, value: Any) -> str:
    if not isinstance(value, str) or value.lower() != "dynamic":
        raise ManagementTypeInvalid(f"'{path}' must be Dynamic, not '{shown(value)}'.", target=path)
    return "Dynamic"


def _environment(path: str, value: Any) -> str:
    """Kept and told again, and of no other meaning: there are no environments."""
    if not isinstance(value, str) or len(value) > 1000 or not _ENVIRONMENT.fullmatch(value):
        raise PropertyInvalid(f"'{path}' must be the resource id of an environment.", target=path)
    return value


def _cooldown(path: str, value: Any) -> int:
    """Azure's range is checked where it is known what the pool has (arm_pools.py): an operator's file may say less."""
    return integer(path, value, 1, 86_400)


def _no_max_alive(path: str, value: Any) -> None:
    message = f"'{path}' is of lifecycle type OnContainerExit, which custom containers have; here it is Timed."
    raise PropertyInvalid(message, target=path)


def _lifecycle(path: str, value: Any) -> str:
    if word(path, value, "Timed", "OnContainerExit") == "Timed":
        return "Timed"
    raise PropertyInvalid(f"'{path}': OnContainerExit is for custom containers; use Timed.", target=path)


def _no_template(path: str, value: Any) -> None:
    if value == {}:
        return
    raise PropertyInvalid(f"'{path}' is for custom containers: {_ELSEWHERE['CustomContainer']}.", target=path)


def _no_identities(path: str, value: Any) -> None:
    if value == []:
        return
    raise PropertyInvalid(
        f"'{path}': sessions have no managed identity here (nor in Azure, but for custom containers). Leave it out.",
        target=path,
    )


def _secrets(path: str, value: Any) -> dict[str, str | None]:
    """Values by name; None where only the name is given, which keeps the value that there is. No message repeats a value."""
    if not isinstance(value, list) or len(value) > _SECRETS or not all(isinstance(each, Mapping) for each in value):
        raise PropertyInvalid(f"'{path}' must be a list of up to {_SECRETS} objects with name and value.", target=path)
    found: dict[str, str | None] = {}
    for index, each in enumerate(value):
        where = f"{path}[{index}]"
        fields = {name.lower(): field for name, field in each.items()}
        name, secret = fields.get("name"), fields.get("value")
        if not isinstance(name, str) or not _SECRET_NAME.fullmatch(name) or name in found:
            allowed = "lower-case letters, digits, '-' and '.', and its own"
            raise PropertyInvalid(f"'{where}.name' must be {allowed}.", target=f"{where}.name")
        if secret is not None and not (isinstance(secret, str) and _is_short(secret)):
            message = f"'{where}.value' must be a string of at most {_SECRET_BYTES} bytes."
            raise PropertyInvalid(message, target=f"{where}.value")
        if unknown := set(fields) - {"name", "value"}:
            target = f"{where}.{shown(min(unknown))}"
            raise PropertyUnknown(f"'{where}' has name and value, and nothing else.", target=target)
        found[name] = secret
    return found


def _is_short(text: str) -> bool:
    try:
        return len(text.encode()) <= _SECRET_BYTES
    except UnicodeEncodeError:
        return False


def _ours(path: str) -> Leaf:
    """A field of the configuration's, checked by its own rule and kept as it was written."""
    field = FIELDS[path]

    def leaf(where: str, value: Any) -> Any:
        try:
            field.parse(where, value)
        except ConfigError as error:
            raise PropertyInvalid(str(error)[:500], target=where) from None
        except (ValueError, TypeError, OverflowError):
            raise PropertyInvalid(f"'{where}' must be {field.allowed}.", target=where) from None
        return value

    return leaf


def _ours_tree() -> Tree:
    tree: Tree = {"error": _read_only, "level": _read_only}  # what the server says of the pool (arm_pool_resource.py)
    branches: dict[str, Tree] = {}
    for path in FIELDS:
        first, *parts = path.split(".")
        if first != "carrel":
            continue
        branch = tree if len(parts) == 1 else branches.setdefault(parts[0], {})
        branch[parts[-1]] = _ours(path)
    return {**tree, **branches}


PROPERTIES: Tree = {
    "containerType": _container_type,
    "poolManagementType": _management,
    "environmentId": _environment,
    "nodeCount": _read_only,
    "scaleConfiguration": {
        "maxConcurrentSessions": lambda path, value: integer(path, value, *_MAXIMUM),
        "readySessionInstances": lambda path, value: integer(path, value, 0, _MAXIMUM[1], ReadyInvalid),
    },
    "dynamicPoolConfiguration": {
        "lifecycleConfiguration": {
            "lifecycleType": _lifecycle,
            "cooldownPeriodInSeconds": _cooldown,
            "maxAlivePeriodInSeconds": _no_max_alive,
        },
        "executionType": _lifecycle,  # so did versions before 2025-01-01 spell it
        "cooldownPeriodInSeconds": _cooldown,
    },
    "sessionNetworkConfiguration": {
        "status": lambda path, value: word(path, value, "EgressEnabled", "EgressDisabled"),
    },
    "secrets": _secrets,
    "customContainerTemplate": _no_template,
    "managedIdentitySettings": _no_identities,
    "mcpServerSettings": {
        "isMcpServerEnabled": _flag,
        "isMcpServerApiKeyDisabled": _flag,
        "mcpServerEndpoint": _read_only,
    },
    "templateUpdateStatus": _read_only,
    "poolManagementEndpoint": _read_only,
    "provisioningState": _read_only,
    "carrel": _ours_tree(),
}
