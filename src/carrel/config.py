"""The configuration, parsed at the door: flags before environment before file before defaults, one name in all three.

A setting `tls-port` is the flag `--tls-port`, the variable `CARREL_TLS_PORT` and the key `tls-port` of the TOML file. SETTINGS is the whole
list: the command line makes its options from it and a test holds docs/reference/settings.md to it.
"""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from carrel import store_address
from carrel.egress.addresses import parse_ranges
from carrel.issuer_settings import IssuerSpec, parse_issuers
from carrel.logs import LogFormat
from carrel.models import ContainerType, Level, PoolSpec, pool_from_json
from carrel.pool_settings import ConfigError, level, minimum, parse_pool, refused, whole

__all__ = ["SETTINGS", "Config", "ConfigError", "Setting", "load"]

Isolation = Literal["auto"] | Level

DEFAULT_POOLS = {kind.image: {"containerType": kind.value} for kind in ContainerType}

_OPTIONAL_PATHS = ("tls_cert", "tls_key", "extensions")


@dataclass(frozen=True, slots=True)
class Config:
    """Everything after parsing. `isolation` and `minimum` are what pools have that name none of their own."""

    state: Path
    images: Path
    host: tuple[str, ...] = ("127.0.0.1", "::1")  # ::1 is skipped where the machine has no IPv6
    port: int = 8080  # 0: a free one, the same for every address
    tls_port: int = 8443
    tls_cert: Path | None = None  # the operator's own; None: one of our CA
    tls_key: Path | None = None  # None: it is in tls_cert
    tls_name: tuple[str, ...] = ()  # further names of the server, for a certificate of our CA
    issuers: tuple[IssuerSpec, ...] = ()  # whose tokens are good here besides our own
    embedded_authority: bool = True  # our own authority hands out tokens
    insecure_http: bool = False  # HTTP on addresses that are not loopback
    key_days: float = 90  # a signing key is replaced so long after it was made; 0: never
    subscription: str = "00000000-0000-0000-0000-000000000000"
    resource_group: str = "default"
    location: str = "local"
    isolation: Isolation = "auto"
    minimum: Level = Level.RESTRICTED
    egress_allow_private: tuple[
        str, ...
    ] = ()  # ranges that sessions with egress may reach although they are not public
    maximum_sandboxes: int = 0  # of all pools together; 0: what the machine is for (backends/capacity.py)
    maximum_pools: int = 100
    rotate_forks: int = 1000
    rotate_minutes: float = 60
    log_level: str = "info"
    log_format: LogFormat = "text"
    extensions: Path | None = None  # folder of wheels for Azure's command line
    pools: tuple[PoolSpec, ...] = (PoolSpec("python"),)
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of the pools, as written
    store: str = field(default="", repr=False)  # it may hold a password: show `store_address.shown` of it

    @property
    def store_url(self) -> str:
        """Where the store is."""
        return self.store or f"sqlite:///{self.state}/store/carrel.db"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, for the processes that the supervisor starts. Without the store's address: only the gateway gets it, apart."""
        fields: dict[str, Any] = dataclasses.asdict(self)
        del fields["store"]
        return fields | {
            "state": str(self.state),
            "images": str(self.images),
            **{name: str(path) if (path := fields[name]) else None for name in _OPTIONAL_PATHS},
            "host": list(self.host),
            "tls_name": list(self.tls_name),
            "egress_allow_private": list(self.egress_allow_private),
            "pools": list(fields["pools"]),
            "issuers": list(fields["issuers"]),
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The other end of to_json."""
        pools = tuple(pool_from_json(each) for each in fields["pools"])
        issuers = tuple(IssuerSpec.from_json(each) for each in fields["issuers"])
        paths = {"state": Path(fields["state"]), "images": Path(fields["images"])}
        paths |= {name: Path(path) for name in _OPTIONAL_PATHS if (path := fields[name])}
        isolation = fields["isolation"] if fields["isolation"] == "auto" else Level(fields["isolation"])
        levels = {"isolation": isolation, "minimum": Level(fields["minimum"])}
        tuples = {name: tuple(fields[name]) for name in ("host", "tls_name", "egress_allow_private")}
        return cls(**{**fields, **paths, **levels, **tuples, "pools": pools, "issuers": issuers})


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting; `parse(where, value)` raises ConfigError naming `where` it came from. `metavar` is what help shows for the value."""

    name: str
    parse: Callable[[str, Any], Any]
    default: str
    metavar: str
    help: str
    is_list: bool = False  # the flag may be repeated; the variable takes commas; the file takes a list
    is_switch: bool = False  # the flag takes no value, and has an opposite, --no-NAME

    @property
    def attribute(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return "CARREL_" + self.attribute.upper()


def load(flags: Mapping[str, Any], environ: Mapping[str, str]) -> Config:
    """The configuration from `flags` (by setting name, None where not given; also `config`, the file), then environment, file, defaults.

    Raises ConfigError with a line that names the setting, the value and what is allowed.
    """
    file = flags.get("config") or environ.get("CARREL_CONFIG")
    table = _read(Path(file)) if file else {}
    values = {setting.attribute: _value(setting, flags, environ, table, file) for setting in SETTINGS}
    given = {name: value for name, value in values.items() if value is not None}
    home = Path.home() / ".local/share/carrel"
    given["issuers"] = parse_issuers(table.get("issuers", {}))
    config = Config(**{"state": home, "images": home / "images", **given})
    return _with_pools(config, table.get("pools", {}), has_minimum="minimum" in given)


def _value(
    setting: Setting, flags: Mapping[str, Any], environ: Mapping[str, str], table: Mapping[str, Any], file: object
) -> Any:
    """The parsed value from the strongest source that has one, or None."""
    if flags.get(setting.name) not in (None, ()):
        return setting.parse(f"--{setting.name}", flags[setting.name])
    if environ.get(setting.variable):
        return setting.parse(setting.variable, environ[setting.variable])
    if setting.name in table:
        return setting.parse(f"{setting.name} in {file}", table[setting.name])
    return None


def _with_pools(config: Config, tables: Any, *, has_minimum: bool) -> Config:
    """The pools of the file, or one of each container type. What "auto" comes to is found out by the host (backends/select.py)."""
    asked = None if config.isolation == "auto" else config.isolation
    least = config.minimum if has_minimum else None
    if not isinstance(tables, Mapping) or not all(isinstance(each, Mapping) for each in tables.values()):
        raise ConfigError("pools: must be tables, [pools.NAME]")
    tables = tables or DEFAULT_POOLS
    pools = tuple(_pool(name, table, asked, least) for name, table in tables.items())
    if twice := [name for name in tables if [each.lower() for each in tables].count(name.lower()) > 1]:
        raise ConfigError(f"[pools.{twice[0]}]: names of pools compare in any case, and there is {twice[1]} too")
    return dataclasses.replace(config, pools=pools, tables=tables, minimum=least or _lowest(asked))


def _pool(name: str, table: Mapping[str, Any], asked: Level | None, least: Level | None) -> PoolSpec:
    if "--" in name:
        raise refused("[pools.NAME]", name, "a name has no two hyphens in a row")
    return dataclasses.replace(parse_pool(name, table, asked, least), name=name.lower())


def _lowest(asked: Level | None) -> Level:
    """The minimum where none is set: a level asked for by name is its own permission."""
    return min(asked or Level.NAMESPACE, Level.RESTRICTED, key=lambda each: each.rank)


def _read(path: Path) -> dict[str, Any]:
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"--config: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"--config: {path} is not TOML: {error}") from error
    known = [setting.name for setting in SETTINGS] + ["pools", "issuers"]
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            raise ConfigError(f"{key} in {path}: unknown setting; {hint}")
    return table


# ---- what each setting takes -----------------------------------------------------------------------------------------------------------


def _path(where: str, value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise refused(where, value, "a path")
    return Path(value).expanduser().absolute()


def _addresses(where: str, value: Any) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value
    try:
        addresses = tuple(str(ipaddress.ip_address(str(word).strip())) for word in words)
    except (TypeError, ValueError):
        addresses = ()
    if not addresses:
        raise refused(where, value, "IP addresses such as 127.0.0.1 or ::1")
    return addresses


def _ranges(where: str, value: Any) -> tuple[str, ...]:
    """Empty is allowed: it takes back what a weaker source says."""
    words = [word for word in value.split(",") if word.strip()] if isinstance(value, str) else value
    try:
        return tuple(str(each) for each in parse_ranges(words))
    except (AttributeError, TypeError, ValueError) as error:
        raise refused(where, value, f"addresses or ranges such as 10.1.0.0/16 ({error})") from None


def _names(where: str, value: Any) -> tuple[str, ...]:
    """Of hosts: letters, digits and hyphens between dots (RFC 1123), a star for the first of them, or addresses."""
    words = [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value
    if not isinstance(words, Sequence) or not all(isinstance(each, str) and _is_name(each) for each in words):
        raise refused(where, value, "host names such as carrel.example, or addresses")
    return tuple(each.lower() for each in words)


def _is_name(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        label = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
        return len(text) <= 253 and bool(re.fullmatch(rf"(\*\.)?{label}(\.{label})*", text))
    return True


def _switch(where: str, value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = known.get(str(value).lower())
    if found is None:
        raise refused(where, value, "true or false")
    return found


def _days(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not (number == 0 or 1 <= number <= 3650):
        raise refused(where, value, "days, 1 to 3650, or 0")
    return number


def _word(pattern: str, allowed: str) -> Callable[[str, Any], str]:
    def parse(where: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise refused(where, value, allowed)
        return value

    return parse


def _choice(*words: str) -> Callable[[str, Any], str]:
    return _word("|".join(words), f"one of {', '.join(words)}")


def _isolation(where: str, value: Any) -> Isolation:
    return level(where, value) or "auto"


def _minutes(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 525_600:
        raise refused(where, value, "minutes, 0 to 525600")
    return number


def _store(where: str, value: Any) -> str:
    """The value is not repeated: it may hold a password."""
    if not isinstance(value, str) or not store_address.is_address(value):
        allowed = (
            "postgresql://USER@HOST/DATABASE or sqlite:///PATH, with @ : / ? # in a password as %40 %3A %2F %3F %23"
        )
        raise ConfigError(f"{where}: this is no address of a store; {allowed}")
    if where.startswith("--") and store_address.has_password(value):
        raise ConfigError(
            f"{where}: everybody on this machine could read the password in this process's command line; set "
            "CARREL_STORE, put the address into the file of --config, or the password into PGPASSFILE's"
        )
    return value


_GUID = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "state",
        _path,
        "~/.local/share/carrel",
        "DIR",
        "Folder of keys, certificates and connection.json; one server each.",
    ),
    Setting("store", _store, "SQLite in the state folder", "URL", "Database of pools, roles and principals."),
    Setting("images", _path, "~/.local/share/carrel/images", "DIR", "Folder of built images; servers share it."),
    Setting("host", _addresses, "127.0.0.1, ::1", "ADDR", "Address to listen on; repeat for more.", is_list=True),
    Setting("port", whole(0, 65_535), "8080", "N", "HTTP port; 0 picks a free one."),
    Setting("tls-port", whole(0, 65_535), "8443", "N", "HTTPS port; 0 picks a free one."),
    Setting("tls-cert", _path, "one of our CA", "FILE", "PEM file with your certificate and what leads to its CA."),
    Setting("tls-key", _path, "in tls-cert", "FILE", "PEM file with the certificate's key."),
    Setting(
        "tls-name", _names, "none", "NAME", "Further name of this server in our certificate; repeat.", is_list=True
    ),
    Setting(
        "insecure-http",
        _switch,
        "false",
        "BOOL",
        "Serve HTTP, unencrypted, on every address of `host`, not on loopback only.",
        is_switch=True,
    ),
    Setting(
        "embedded-authority",
        _switch,
        "true",
        "BOOL",
        "Hand out tokens; without, they come from `[issuers]` and `carrel token`.",
        is_switch=True,
    ),
    Setting("key-days", _days, "90", "N", "Replace the key that signs tokens after so many days; 0: never."),
    Setting(
        "subscription",
        _word(_GUID, "a GUID"),
        "00000000-0000-0000-0000-000000000000",
        "GUID",
        "Subscription in the pools' paths.",
    ),
    Setting(
        "resource-group",
        _word(r"[\w().-]{1,90}", "up to 90 letters, digits, _ ( ) . -"),
        "default",
        "NAME",
        "Resource group in the pools' paths.",
    ),
    Setting(
        "location",
        _word(r"[A-Za-z0-9 ]{1,90}", "letters and digits"),
        "local",
        "NAME",
        "Location that the API reports.",
    ),
    Setting("isolation", _isolation, "auto", "LEVEL", f"Isolation of pools that name none: auto, {', '.join(Level)}."),
    Setting("minimum", minimum, "restricted", "LEVEL", "Refuse to serve a pool below this level."),
    Setting("maximum-sandboxes", whole(0, 100_000), "0", "N", "Most sandboxes of all pools together; 0: by memory."),
    Setting("maximum-pools", whole(1, 10_000), "100", "N", "Most session pools that are kept."),
    Setting("rotate-forks", whole(0, 1_000_000), "1000", "N", "Replace a template after so many forks; 0: never."),
    Setting("rotate-minutes", _minutes, "60", "N", "Replace a template so long after its first fork; 0: never."),
    Setting(
        "egress-allow-private",
        _ranges,
        "none",
        "CIDR",
        "Private range that sessions with egress may reach; repeat for more.",
        is_list=True,
    ),
    Setting("extensions", _path, "none", "DIR", "Folder of wheels that Azure's command line may install from here."),
    Setting(
        "log-level",
        _choice("debug", "info", "warning", "error"),
        "info",
        "LEVEL",
        "What is logged: debug, info, warning, error.",
    ),
    Setting("log-format", _choice("text", "json"), "text", "FORMAT", "How log lines look: text, json."),
)
