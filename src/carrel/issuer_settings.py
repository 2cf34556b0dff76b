"""An `[issuers.NAME]` table of the configuration file: an OpenID Connect issuer whose tokens are good here, and what they say.

FIELDS is the whole list: the parser, the error messages and docs/reference/settings.md (by a test) are made from it.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from carrel.audiences import Plane, plane_of
from carrel.models import GUID
from carrel.pool_settings import ConfigError, refused

TENANT = "{tenantid}"  # in an issuer's name: each of the tenants, as in the configuration that Entra publishes for all of them
GIVEN, DERIVED = "given", "derived"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")


@dataclass(frozen=True, slots=True)
class IssuerSpec:
    """One issuer. `audiences` and `roles` are pairs: audience and plane, name of an app role and id of the principal it stands for."""

    name: str  # of the table
    issuer: str
    audiences: tuple[tuple[str, Plane], ...]
    aliases: tuple[str, ...] = ()
    discovery: str = ""
    tenants: tuple[str, ...] = ()
    principal_claim: str = "oid"
    groups_claim: str = "groups"
    roles_claim: str = "roles"
    principal_ids: str = GIVEN
    roles: tuple[tuple[str, str], ...] = ()
    algorithms: tuple[str, ...] = ALGORITHMS
    leeway: int = 60
    refetch: int = 30
    ca: str = ""

    def issuers(self) -> dict[str, str]:
        """Every `iss` that its tokens may have, and the tenant that it then has to be; "" for any."""
        forms = (self.issuer, *self.aliases)
        tenants = {form.replace(TENANT, tenant): tenant for form in forms for tenant in self.tenants if TENANT in form}
        return tenants | {form: "" for form in forms if TENANT not in form}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The other end of dataclasses.asdict, by way of JSON."""
        lists = {name: tuple(fields[name]) for name in ("aliases", "tenants", "algorithms")}
        pairs = {
            "audiences": tuple((audience, Plane(plane)) for audience, plane in fields["audiences"]),
            "roles": tuple((role, principal) for role, principal in fields["roles"]),
        }
        return cls(**{**fields, **lists, **pairs})


def parse_issuers(tables: Any) -> tuple[IssuerSpec, ...]:
    """Raises ConfigError."""
    if not isinstance(tables, Mapping) or not all(isinstance(each, Mapping) for each in tables.values()):
        raise ConfigError("issuers: must be tables, [issuers.NAME]")
    specs = tuple(_parse(name, table) for name, table in tables.items())
    seen: dict[str, str] = {}
    for spec in specs:
        for issuer in spec.issuers():
            if issuer in seen:
                raise ConfigError(f"[issuers.{spec.name}] issuer: {issuer} is that of [issuers.{seen[issuer]}] already")
            seen[issuer] = spec.name
    given = [spec.name for spec in specs if spec.principal_ids == GIVEN]
    if len(given) > 1:  # else one could name a principal of the other
        raise ConfigError(
            f"[issuers.{given[1]}] principal-ids: only one issuer's ids can be taken as they are, and those of {given[0]} are; "
            'say "derived" for this one'
        )
    return specs


def _parse(name: str, table: Mapping[str, Any]) -> IssuerSpec:
    where = f"[issuers.{name}]"
    if not re.fullmatch(r"[a-z0-9-]{1,32}", name):
        raise refused("[issuers.NAME]", name, "a name is up to 32 lower-case letters, digits and hyphens")
    for key in table:
        if key not in FIELDS:
            close = difflib.get_close_matches(key, FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(FIELDS)}"
            raise ConfigError(f"{where} {key}: unknown field; {hint}")
    values = {key.replace("-", "_"): FIELDS[key](f"{where} {key}", value) for key, value in table.items()}
    for needed in ("issuer", "audiences"):
        if not values.get(needed):
            raise ConfigError(f"{where}: needs {needed}")
    values.setdefault("principal_ids", GIVEN if values.get("principal_claim", "oid") == "oid" else DERIVED)
    spec = IssuerSpec(name, **values)
    _check_together(where, spec)
    return spec


def _check_together(where: str, spec: IssuerSpec) -> None:
    if any(TENANT in each for each in (spec.issuer, *spec.aliases)) and not spec.tenants:
        raise ConfigError(f"{where}: an issuer for every tenant ({TENANT}) needs tenants, the ones that are let in")
    if TENANT in spec.issuer and not spec.discovery:
        raise ConfigError(
            f"{where}: an issuer for every tenant ({TENANT}) needs discovery, the address of its configuration"
        )
    if is_local(spec.issuer) is False and is_local(spec.discovery or spec.issuer):
        raise ConfigError(f"{where} discovery: must be https")


def is_local(url: str) -> bool:
    """Whether it is plain HTTP to this machine, which is for trying things out; anything else has to be HTTPS."""
    return urlsplit(url).scheme == "http"


# ---- what each field takes ---------------------------------------------------------------------------------------------------


def url(where: str, value: Any) -> str:
    try:
        parts = urlsplit(value if isinstance(value, str) and len(value) <= 2048 else "")
        is_good = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname or ""))
        _ = parts.port
    except ValueError:
        is_good = False
    if not is_good or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise refused(where, value, "an https address without a query (http only on 127.0.0.1, ::1 and localhost)")
    return str(value)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _urls(where: str, value: Any) -> tuple[str, ...]:
    return tuple(url(where, each) for each in _list(where, value, "addresses"))


def _list(where: str, value: Any, what: str) -> Iterable[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise refused(where, value, f"a list of {what}")
    return value


def _audiences(where: str, value: Any) -> tuple[tuple[str, Plane], ...]:
    """A list of them, of Azure's own names or of the data plane; or a table that says for which plane each is."""
    if isinstance(value, Mapping):
        try:
            return tuple((str(audience), Plane(plane)) for audience, plane in value.items())
        except ValueError:
            raise refused(where, value, f"planes are {', '.join(Plane)}") from None
    return tuple(
        (each, plane_of(each) or Plane.DATA) for each in _list(where, value, "audiences, or a table of planes")
    )


def _guids(where: str, value: Any) -> tuple[str, ...]:
    return tuple(_guid(where, each) for each in _list(where, value, "GUIDs"))


def _guid(where: str, value: Any) -> str:
    if not isinstance(value, str) or not GUID.fullmatch(value):
        raise refused(where, value, "a GUID")
    return value.lower()


def _roles(where: str, value: Any) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, Mapping):
        raise refused(where, value, "a table: the name of a role, and the GUID of the principal whose rights it brings")
    return tuple((role, _guid(f"{where}.{role}", principal)) for role, principal in value.items())


def _claim(where: str, value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[\w:/.-]{1,128}", value):
        raise refused(where, value, "the name of a claim")
    return value


def _optional_claim(where: str, value: Any) -> str:
    return "" if value == "" else _claim(where, value)


def _one_of(*words: str) -> Callable[[str, Any], str]:
    def parse(where: str, value: Any) -> str:
        if value not in words:
            raise refused(where, value, f"one of {', '.join(words)}")
        return str(value)

    return parse


def _algorithms(where: str, value: Any) -> tuple[str, ...]:
    return tuple(_one_of(*ALGORITHMS)(where, each) for each in _list(where, value, "algorithms")) or ALGORITHMS


def _seconds(low: int, high: int) -> Callable[[str, Any], int]:
    def parse(where: str, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise refused(where, value, f"seconds, {low} to {high}")
        return value

    return parse


def _file(where: str, value: Any) -> str:
    if not isinstance(value, str) or not Path(value).is_absolute():
        raise refused(where, value, "the absolute path of a PEM file")
    return value


FIELDS: dict[str, Callable[[str, Any], Any]] = {
    "issuer": url,
    "aliases": _urls,
    "discovery": url,
    "ca": _file,
    "audiences": _audiences,
    "tenants": _guids,
    "principal-claim": _claim,
    "principal-ids": _one_of(GIVEN, DERIVED),
    "groups-claim": _optional_claim,
    "roles-claim": _optional_claim,
    "roles": _roles,
    "algorithms": _algorithms,
    "leeway": _seconds(0, 300),
    "refetch": _seconds(1, 3600),
}
