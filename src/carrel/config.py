"""The configuration, parsed at the door: flags before environment before file before defaults, one name in all three.

A setting `tls-port` is the flag `--tls-port`, the variable `CARREL_TLS_PORT` and the key `tls-port` of the TOML file. SETTINGS is the whole
list: the command line makes its options from it and a test holds docs/reference/settings.md to it.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from carrel import setting_values as takes
from carrel.issuer_settings import IssuerSpec, parse_issuers
from carrel.logs import LogFormat
from carrel.models import GUID, ContainerType, Level, PoolSpec, pool_from_json
from carrel.pool_settings import ConfigError, minimum, parse_pool, refused, whole
from carrel.setting_values import Isolation

__all__ = ["SETTINGS", "Config", "ConfigError", "Setting", "load"]

DEFAULT_POOLS = {kind.image: {"containerType": kind.value} for kind in ContainerType}

MetricsAccess = Literal["token", "open", "off"]
AuditFull = Literal["block", "drop"]  # what a call does that cannot be recorded: wait, or go on

_OPTIONAL_PATHS = ("tls_cert", "tls_key", "extensions", "otlp_headers")


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
    instance_metadata: bool = True  # also by the form that asks for no secret
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
    metrics: MetricsAccess = "token"  # who may scrape
    log_level: str = "info"
    log_format: LogFormat = "text"
    otlp_endpoint: str = ""  # where traces go; "": none are made
    otlp_headers: Path | None = None  # the file: what is in it goes to the gateway apart
    trace_sample: float = 1.0
    access_log: bool = False  # a line for each request
    extensions: Path | None = None  # folder of wheels for Azure's command line
    audit: bool = True
    audit_full: AuditFull = "drop"
    audit_days: float = 90  # records are kept; 0: for ever
    audit_file_mb: int = 64
    audit_file_hours: int = 24
    audit_total_mb: int = 4096  # of all files together; 0: without limit
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


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "state",
        takes.path,
        "~/.local/share/carrel",
        "DIR",
        "Folder of keys, certificates and connection.json; one server each.",
    ),
    Setting("store", takes.store, "SQLite in the state folder", "URL", "Database of pools, roles and principals."),
    Setting("images", takes.path, "~/.local/share/carrel/images", "DIR", "Folder of built images; servers share it."),
    Setting("host", takes.addresses, "127.0.0.1, ::1", "ADDR", "Address to listen on; repeat for more.", is_list=True),
    Setting("port", whole(0, 65_535), "8080", "N", "HTTP port; 0 picks a free one."),
    Setting("tls-port", whole(0, 65_535), "8443", "N", "HTTPS port; 0 picks a free one."),
    Setting(
        "tls-cert", takes.path, "one of our CA", "FILE", "PEM file with your certificate and what leads to its CA."
    ),
    Setting("tls-key", takes.path, "in tls-cert", "FILE", "PEM file with the certificate's key."),
    Setting(
        "tls-name", takes.names, "none", "NAME", "Further name of this server in our certificate; repeat.", is_list=True
    ),
    Setting(
        "insecure-http",
        takes.switch,
        "false",
        "BOOL",
        "Serve HTTP, unencrypted, on every address of `host`, not on loopback only.",
        is_switch=True,
    ),
    Setting(
        "embedded-authority",
        takes.switch,
        "true",
        "BOOL",
        "Hand out tokens; without, they come from `[issuers]` and `carrel token`.",
        is_switch=True,
    ),
    Setting(
        "instance-metadata",
        takes.switch,
        "true",
        "BOOL",
        "Hand out tokens in the form of a virtual machine's metadata service, which asks for no secret.",
        is_switch=True,
    ),
    Setting("key-days", takes.days, "90", "N", "Replace the key that signs tokens after so many days; 0: never."),
    Setting(
        "subscription",
        takes.word(GUID.pattern, "a GUID"),
        "00000000-0000-0000-0000-000000000000",
        "GUID",
        "Subscription in the pools' paths.",
    ),
    Setting(
        "resource-group",
        takes.word(r"[\w().-]{1,90}", "up to 90 letters, digits, _ ( ) . -"),
        "default",
        "NAME",
        "Resource group in the pools' paths.",
    ),
    Setting(
        "location",
        takes.word(r"[A-Za-z0-9 ]{1,90}", "letters and digits"),
        "local",
        "NAME",
        "Location that the API reports.",
    ),
    Setting(
        "isolation", takes.isolation, "auto", "LEVEL", f"Isolation of pools that name none: auto, {', '.join(Level)}."
    ),
    Setting("minimum", minimum, "restricted", "LEVEL", "Refuse to serve a pool below this level."),
    Setting("maximum-sandboxes", whole(0, 100_000), "0", "N", "Most sandboxes of all pools together; 0: by memory."),
    Setting("maximum-pools", whole(1, 1_000), "100", "N", "Most session pools that are kept."),
    Setting("rotate-forks", whole(0, 1_000_000), "1000", "N", "Replace a template after so many forks; 0: never."),
    Setting("rotate-minutes", takes.minutes, "60", "N", "Replace a template so long after its first fork; 0: never."),
    Setting(
        "egress-allow-private",
        takes.ranges,
        "none",
        "CIDR",
        "Private range that sessions with egress may reach; repeat for more.",
        is_list=True,
    ),
    Setting(
        "extensions", takes.path, "none", "DIR", "Folder of wheels that Azure's command line may install from here."
    ),
    Setting(
        "metrics",
        takes.choice("token", "open", "off"),
        "token",
        "WHO",
        "Who may scrape /metrics: token, who may read all pools; open, everybody; off, nobody.",
    ),
    Setting(
        "log-level",
        takes.choice("debug", "info", "warning", "error"),
        "info",
        "LEVEL",
        "What is logged: debug, info, warning, error.",
    ),
    Setting("log-format", takes.choice("text", "json"), "text", "FORMAT", "How log lines look: text, json."),
    Setting(
        "access-log",
        takes.switch,
        "false",
        "BOOL",
        "Log a line for each request, and not only for those that fail.",
        is_switch=True,
    ),
    Setting("audit", takes.on, "on", "WORD", "Keep the audit log: on, off."),
    Setting(
        "audit-full",
        takes.choice("block", "drop"),
        "drop",
        "WORD",
        "What calls do while the audit log cannot be written: block (wait, and fail), drop (go on; the log counts them).",
    ),
    Setting("audit-days", takes.days, "90", "N", "Remove files of the audit log after so many days; 0: never."),
    Setting("audit-file-mb", whole(1, 65_536), "64", "N", "Begin another file of the audit log after so many MiB."),
    Setting("audit-file-hours", whole(0, 8784), "24", "N", "Begin another one after so many hours; 0: by size only."),
    Setting(
        "audit-total-mb",
        whole(0, 10_000_000),
        "4096",
        "N",
        "Remove the oldest files of the audit log beyond so many MiB; 0: never.",
    ),
    Setting(
        "otlp-endpoint", takes.collector, "none", "URL", "Collector that traces of calls go to, by OTLP over HTTP."
    ),
    Setting(
        "otlp-headers", takes.path, "none", "FILE", "File of headers for the collector, a line `Name: value` each."
    ),
    Setting("trace-sample", takes.ratio, "1", "N", "Part of the calls that are traced where their callers do not say."),
)
