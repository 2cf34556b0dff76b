"""A `[pools.NAME]` table of the configuration file as a PoolSpec.

The field names are those of Azure's property bag for session pools, so that a pool's definition reads the same in TOML, in a template
and on the wire. What Azure has no name for stands in the table `carrel`. FIELDS is the whole list: the parser, the error messages and
docs/reference/settings.md (by a test) are made from it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from carrel.egress import rules
from carrel.models import MIB, ContainerType, Level, LogRecords, Network, PoolSpec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")
_SIZE = re.compile(r"(\d+)\s*(?:([KMGT])i?B?|B)?", re.IGNORECASE)
_DURATION = re.compile(r"([1-9]\d{0,5})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_UNITS = {"": 1, "K": 1024, "M": MIB, "G": 1024 * MIB, "T": 1024 * 1024 * MIB}


class ConfigError(ValueError):
    """A setting that cannot be used. The message names the setting, the value and what is allowed."""


def refused(where: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"{where}: {value!r} is not allowed; {allowed}")


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a pool's table: its path of keys, the PoolSpec attribute it sets (None: only checked) and what it takes."""

    path: str
    attribute: str | None
    parse: Callable[[str, Any], Any]
    allowed: str


def parse_pool(name: str, table: Mapping[str, Any], asked: Level | None, minimum: Level | None) -> PoolSpec:
    """The pool that `[pools.NAME]` defines; what it leaves out has PoolSpec's defaults. Raises ConfigError.

    `asked` and `minimum` are the server's own settings; None for "auto", and for no minimum.
    """
    if not _NAME.fullmatch(name):
        raise refused(
            "[pools.NAME]", name, "a name is up to 63 letters, digits and hyphens, beginning with a letter or digit"
        )
    values = flatten(f"[pools.{name}]", table)
    attributes: dict[str, Any] = {"asked": asked, "minimum": minimum}
    for path, value in values.items():
        field = FIELDS[path]
        parsed = field.parse(f"[pools.{name}] {path}", value)
        if field.attribute:
            attributes[field.attribute] = parsed
    attributes.setdefault("image", attributes.get("container_type", ContainerType.PYTHON).image)
    attributes |= _network_of(f"[pools.{name}]", attributes)
    if "maximum_execution" in attributes:
        attributes.setdefault("maximum_asynchronous", attributes["maximum_execution"])
    spec = PoolSpec(name=name, **_with_levels(attributes | _packages_of(attributes)))
    _check_together(spec)
    return spec


def table_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What of a stored property bag `parse_pool` is for: the rest (an environment's id) is the control plane's.

    More ready sessions than there may be are as many as there may be: Azure takes such a pool, and az's default of five asks for one.
    """
    found = _known(properties)
    scale = found.get("scaleConfiguration", {})
    maximum = scale.get("maxConcurrentSessions")
    if isinstance(maximum, int) and scale.get("readySessionInstances", PoolSpec("").ready) > maximum:
        scale["readySessionInstances"] = maximum
    return found


def _known(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        path = prefix + key
        if path in FIELDS:
            found[key] = value
        elif isinstance(value, Mapping) and any(known.startswith(path + ".") for known in FIELDS):
            found[key] = _known(value, path + ".")
    return found


def _network_of(where: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Egress with a list is another thing than egress without; a list and no egress is a mistake."""
    if "allow" not in attributes:
        return {}
    if attributes.get("network", Network.NONE) is Network.NONE:
        allowed = 'a list needs sessionNetworkConfiguration.status = "EgressEnabled"'
        raise refused(f"{where} carrel.egress.allow", list(attributes["allow"]), allowed)
    return {"network": Network.LISTED}


def _with_levels(attributes: dict[str, Any]) -> dict[str, Any]:
    """The first level to try, and the minimum. Where none was set, a level asked for by name is its own permission."""
    asked: Level | None = attributes["asked"]
    first = asked or Level.NAMESPACE
    lowest = min(first, Level.RESTRICTED, key=lambda each: each.rank)
    return {**attributes, "isolation": first, "minimum": attributes["minimum"] or lowest}


def _packages_of(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Where nothing is said: the default, or what the session's memory leaves for it."""
    if "packages_bytes" in attributes:
        return {}
    rest = PoolSpec("", **attributes)
    return {"packages_bytes": max(0, min(rest.packages_bytes, rest.memory_bytes - rest.data_bytes - rest.tmp_bytes))}


def _check_together(spec: PoolSpec) -> None:
    where = f"[pools.{spec.name}]"
    if spec.ready > spec.maximum:
        allowed = f"at most scaleConfiguration.maxConcurrentSessions, which is {spec.maximum}"
        raise refused(f"{where} scaleConfiguration.readySessionInstances", spec.ready, allowed)
    if bool(spec.webhook) != bool(spec.webhook_secret):
        raise ConfigError(f"{where} carrel.webhook: an address and a secret, or neither")
    files_bytes = spec.data_bytes + spec.tmp_bytes + spec.packages_bytes
    if files_bytes > spec.memory_bytes:
        # Files in a tmpfs count as memory: a session that fills its disk would be killed for the memory it does not seem to use.
        files, memory = files_bytes // MIB, spec.memory_bytes // MIB
        raise refused(
            f"{where} carrel.memory",
            f"{memory}MiB",
            f"files live in memory, so at least disk, tmp and packages together, {files}MiB",
        )


def flatten(where: str, table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What a table says, by the fields' paths. Raises ConfigError for what is none of them."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        path = prefix + key
        if path in FIELDS:
            found[path] = value
        elif isinstance(value, Mapping) and any(known.startswith(path + ".") for known in FIELDS):
            found |= flatten(where, value, path + ".")
        else:
            raise ConfigError(f"{where} {path}: unknown setting; {_suggestion(path)}")
    return found


def _suggestion(path: str) -> str:
    close = difflib.get_close_matches(path, FIELDS, n=1, cutoff=0.5)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(FIELDS)}"


# ---- what each field takes ---------------------------------------------------------------------------------------------------------


def whole(low: int, high: int) -> Callable[[str, Any], int]:
    """A whole number in a range, ends included; text too, as flags and environment bring it."""

    def parse(where: str, value: Any) -> int:
        is_number = not isinstance(value, bool) and re.fullmatch(r"-?\d+", str(value))
        if not is_number or not low <= int(value) <= high:
            raise refused(where, value, f"a whole number from {low} to {high}")
        return int(value)

    return parse


def size(low: int, high: int) -> Callable[[str, Any], int]:
    """A number of bytes: 1073741824, "512MiB", "1Gi"."""
    allowed = f'a size from {low // MIB}MiB to {high // MIB}MiB, such as "512MiB"'

    def parse(where: str, value: Any) -> int:
        match = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
        result = int(match[1]) * _UNITS[(match[2] or "").upper()] if match else -1
        if not low <= result <= high:
            raise refused(where, value, allowed)
        return result

    return parse


def duration(low: int, high: int) -> Callable[[str, Any], int]:
    """Seconds, from text such as "7d"."""

    def parse(where: str, value: Any) -> int:
        match = _DURATION.fullmatch(value) if isinstance(value, str) and value.isascii() else None
        result = int(match[1]) * _SECONDS[match[2]] if match else -1
        if not low <= result <= high:
            allowed = f'a time from {low} seconds to {high // 86_400} days, such as "90m", "12h" or "7d"'
            raise refused(where, value, allowed)
        return result

    return parse


def _log_records(where: str, value: Any) -> LogRecords:
    try:
        return LogRecords(value)
    except ValueError:
        raise refused(where, value, f"one of {', '.join(LogRecords)}") from None


def level(where: str, value: Any) -> Level | None:
    """An isolation level; None for "auto"."""
    if value == "auto":
        return None
    try:
        return Level(value)
    except ValueError:
        raise refused(where, value, f"one of auto, {', '.join(Level)}") from None


def minimum(where: str, value: Any) -> Level:
    try:
        return Level(value)
    except ValueError:
        raise refused(where, value, f"one of {', '.join(Level)}") from None


def _cpu(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.1 <= value <= 64:
        raise refused(where, value, "a number of processors from 0.1 to 64")
    return float(value)


def _flag(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise refused(where, value, "true or false")
    return value


def _no_flag(where: str, value: Any) -> bool:
    return not _flag(where, value)


def _container_type(where: str, value: Any) -> ContainerType:
    try:
        return ContainerType(value)
    except ValueError:
        raise refused(where, value, f"this version runs {', '.join(ContainerType)} only") from None


def _network(where: str, value: Any) -> Network:
    known = {"EgressDisabled": Network.NONE, "EgressEnabled": Network.OPEN}
    if value not in known:
        raise refused(where, value, f"one of {', '.join(known)}")
    return known[value]


def _egress_rules(where: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise refused(where, value, f"a list of {rules.SYNTAX}")
    try:
        return tuple(rule.text for rule in rules.parse_all(value))
    except ValueError as error:
        raise refused(where, value, f"a list of {rules.SYNTAX}: {error}") from None


def _index(where: str, value: Any) -> str:
    url = urlsplit(value) if isinstance(value, str) else None
    if url is None or url.scheme not in ("http", "https") or not url.hostname:
        raise refused(where, value, 'the address of a simple API, such as "https://pypi.org/simple"')
    if "@" in url.netloc:
        # Not repeated in the message: it goes to logs.
        raise refused(where, f"{url.scheme}://…@{url.hostname}", "no user or password: code in sessions would read it")
    return str(value)


def _webhook(where: str, value: Any) -> str:
    url = urlsplit(value) if isinstance(value, str) and value.isascii() and len(value) <= _MAX_URL else None
    if url is None or url.scheme not in ("http", "https") or not url.hostname or url.fragment:
        # Not repeated in the message, here and below: it goes to logs, and addresses of webhooks hold keys.
        raise ConfigError(f'{where}: must be an address such as "https://example.org/carrel"')
    if "@" in url.netloc:
        # Not repeated in the message: it goes to logs.
        raise refused(
            where, f"{url.scheme}://…@{url.hostname}", "no user or password: carrel.webhook.secret is for that"
        )
    return str(value)


def _source(where: str, value: Any) -> str:
    """Where a secret is found. What was written instead is never repeated: it may be the secret."""
    kind, place = next(iter(value.items())) if isinstance(value, Mapping) and len(value) == 1 else ("", None)
    if kind == "file" and isinstance(place, str) and Path(place).expanduser().is_absolute():
        return f"file:{Path(place).expanduser()}"
    if kind == "environment" and isinstance(place, str) and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", place):
        return f"environment:{place}"
    raise ConfigError(f'{where}: a secret is named by where it is: {{file = "/path"}} or {{environment = "NAME"}}')


def _sources(where: str, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: a table of names")
    for name in value:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
            raise refused(f"{where}.NAME", name, "up to 63 letters, digits, dots, hyphens and underscores")
    return tuple((name, _source(f"{where}.{name}", source)) for name, source in value.items())


def _folder(where: str, value: Any) -> str:
    if not isinstance(value, str) or not Path(value).expanduser().is_absolute():
        raise refused(where, value, "an absolute path of a folder")
    return str(Path(value).expanduser())


def _only(allowed: str) -> Callable[[str, Any], None]:
    def parse(where: str, value: Any) -> None:
        if value != allowed:
            raise refused(where, value, f"only {allowed}")

    return parse


def _image(where: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}(@[0-9a-f]{6,64})?", value):
        raise refused(where, value, "an image's name, of lower-case letters, digits and hyphens, or NAME@HASH")
    return value


_MAX_URL = 2048
_MCP = "mcpServerSettings"
_LIFECYCLE = "dynamicPoolConfiguration.lifecycleConfiguration"
_TEBIBYTE = 1024 * 1024 * MIB

FIELDS: dict[str, Field] = {
    field.path: field
    for field in (
        Field("containerType", "container_type", _container_type, ", ".join(ContainerType)),
        Field("poolManagementType", None, _only("Dynamic"), "Dynamic"),
        Field("scaleConfiguration.maxConcurrentSessions", "maximum", whole(1, 10_000), "1 to 10000"),
        Field("scaleConfiguration.readySessionInstances", "ready", whole(0, 10_000), "0 to maxConcurrentSessions"),
        Field(f"{_LIFECYCLE}.lifecycleType", None, _only("Timed"), "Timed"),
        Field(f"{_LIFECYCLE}.cooldownPeriodInSeconds", "cooldown", whole(1, 86_400), "1 to 86400 seconds"),
        Field("sessionNetworkConfiguration.status", "network", _network, "EgressDisabled, EgressEnabled"),
        Field(f"{_MCP}.isMcpServerEnabled", "has_mcp", _flag, "true, false: whether the pool has an MCP endpoint"),
        Field(
            f"{_MCP}.isMcpServerApiKeyDisabled", "has_mcp_key", _no_flag, "true, false: whether that takes tokens only"
        ),
        Field("carrel.egress.allow", "allow", _egress_rules, "hosts and ranges that sessions may reach; none if empty"),
        Field("carrel.image", "image", _image, "the name of an image; by default the container type's"),
        Field("carrel.isolation", "asked", level, f"auto, {', '.join(Level)}"),
        Field("carrel.minimum", "minimum", minimum, ", ".join(Level)),
        Field("carrel.memory", "memory_bytes", size(64 * MIB, _TEBIBYTE), "64MiB to 1TiB, files included"),
        Field("carrel.cpu", "cpu", _cpu, "0.1 to 64 processors"),
        Field("carrel.pids", "pids", whole(8, 32_768), "8 to 32768 processes and threads"),
        Field("carrel.disk", "data_bytes", size(MIB, _TEBIBYTE), "1MiB to 1TiB in /mnt/data"),
        Field("carrel.inodes", "data_inodes", whole(64, 16_777_216), "64 to 16777216 files in /mnt/data"),
        Field("carrel.tmp", "tmp_bytes", size(MIB, _TEBIBYTE), "1MiB to 1TiB in /tmp"),
        Field(
            "carrel.packages.size",
            "packages_bytes",
            size(0, _TEBIBYTE),
            "0 to 1TiB for what pip installs; 0 leaves it to carrel.tmp",
        ),
        Field("carrel.packages.index", "packages_index", _index, "address of the package index that pip uses"),
        Field(
            "carrel.packages.wheels",
            "packages_wheels",
            _folder,
            "folder of wheels that can be installed without a network",
        ),
        Field("carrel.expiryNotice", "notice", whole(0, 86_400), "0 to 86400 seconds before a session expires"),
        Field("carrel.webhook.url", "webhook", _webhook, "address that is told of sessions' ends"),
        Field("carrel.webhook.secret", "webhook_secret", _source, "where the secret is that signs what is sent"),
        Field("carrel.secrets", "secrets", _sources, "names, and where each secret is, for sessions' environments"),
        Field("carrel.logs.records", "logs", _log_records, "off, metadata, code, full: what session logs keep"),
        Field(
            "carrel.logs.retention",
            "log_retention",
            duration(60, 3650 * 86_400),
            '60 seconds to 3650 days that session logs are kept, such as "12h" or "7d"',
        ),
        Field("carrel.execution", "maximum_execution", whole(1, 220), "1 to 220 seconds, the most a call may ask for"),
        Field(
            "carrel.maximumAsynchronousExecutionInSeconds",
            "maximum_asynchronous",
            whole(1, 86_400),
            "1 to 86400 seconds, the most an asynchronous call may ask for",
        ),
    )
}
