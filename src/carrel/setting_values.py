"""What each setting takes: a function of where the value came from and the value, which raises ConfigError naming both."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from carrel import store_address
from carrel.egress.addresses import parse_ranges
from carrel.models import Level
from carrel.pool_settings import ConfigError, level, refused

Isolation = Literal["auto"] | Level


def path(where: str, value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise refused(where, value, "a path")
    return Path(value).expanduser().absolute()


def addresses(where: str, value: Any) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value
    try:
        addresses = tuple(str(ipaddress.ip_address(str(word).strip())) for word in words)
    except (TypeError, ValueError):
        addresses = ()
    if not addresses:
        raise refused(where, value, "IP addresses such as 127.0.0.1 or ::1")
    return addresses


def ranges(where: str, value: Any) -> tuple[str, ...]:
    """Empty is allowed: it takes back what a weaker source says."""
    words = [word for word in value.split(",") if word.strip()] if isinstance(value, str) else value
    try:
        return tuple(str(each) for each in parse_ranges(words))
    except (AttributeError, TypeError, ValueError) as error:
        raise refused(where, value, f"addresses or ranges such as 10.1.0.0/16 ({error})") from None


def names(where: str, value: Any) -> tuple[str, ...]:
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


def switch(where: str, value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = known.get(str(value).lower())
    if found is None:
        raise refused(where, value, "true or false")
    return found


def on(where: str, value: Any) -> bool:
    words = {"on": True, "off": False, "true": True, "false": False}
    found = words.get(str(value).lower())
    if found is None:
        raise refused(where, value, "on or off")
    return found


def days(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not (number == 0 or 1 <= number <= 3650):
        raise refused(where, value, "days, 1 to 3650, or 0")
    return number


def word(pattern: str, allowed: str) -> Callable[[str, Any], str]:
    def parse(where: str, value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise refused(where, value, allowed)
        return value

    return parse


def choice(*words: str) -> Callable[[str, Any], str]:
    return word("|".join(words), f"one of {', '.join(words)}")


def isolation(where: str, value: Any) -> Isolation:
    return level(where, value) or "auto"


def minutes(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 525_600:
        raise refused(where, value, "minutes, 0 to 525600")
    return number


def ratio(where: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise refused(where, value, "a number from 0 to 1")
    return number


def collector(where: str, value: Any) -> str:
    """The value is not repeated: somebody may have put a password into it."""
    parts = urlsplit(value) if isinstance(value, str) and re.fullmatch(r"[\x21-\x7e]{1,2000}", value) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"{where}: this is no address of a collector, such as http://127.0.0.1:4318")
    if parts.username is not None or parts.password is not None:
        raise ConfigError(
            f"{where}: a password does not belong into an address: put a header into the file of otlp-headers"
        )
    return str(value)


def store(where: str, value: Any) -> str:
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
