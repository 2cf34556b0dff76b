"""The address of a store, as the setting `store` takes it: sqlite:///PATH, or postgresql://USER:PASSWORD@HOST/DATABASE?OPTIONS.

It may hold a password, so nothing here repeats one: `shown` is what logs and messages have of an address, and one that is not well-formed,
of which nobody can say where its password ends, is not shown at all.
"""

from __future__ import annotations

import re
import urllib.parse

_SQLITE = re.compile(r"sqlite:///(/?[^?#\0]+)")
_POSTGRESQL = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:/?#@\s]*)(?::(?P<password>[^/?#@\s]*))?@)?"
    r"(?P<place>[^/?#@\s]*(?:/[^/?#@\s]*)?)(?:\?(?P<options>[^?#\s]*))?"
)


def is_address(text: str) -> bool:
    return bool(_SQLITE.fullmatch(text) or _POSTGRESQL.fullmatch(text))


def sqlite_file(address: str) -> str | None:
    """The path of a SQLite address, which is absolute; None for any other."""
    found = _SQLITE.fullmatch(address)
    return "/" + found[1].lstrip("/") if found else None


def is_postgresql(address: str) -> bool:
    return _POSTGRESQL.fullmatch(address) is not None


def has_password(address: str) -> bool:
    found = _POSTGRESQL.fullmatch(address)
    return found is not None and bool(found["password"] or any("password" in name for name in options(address)))


def options(address: str) -> dict[str, str]:
    """What stands behind the question mark of a PostgreSQL address."""
    found = _POSTGRESQL.fullmatch(address)
    return dict(urllib.parse.parse_qsl(found["options"] or "")) if found else {}


def shown(address: str) -> str:
    """Fit for a log: without password and options."""
    if found := _POSTGRESQL.fullmatch(address):
        user = f"{found['user']}@" if found["user"] else ""
        return f"postgresql://{user}{found['place']}"
    return sqlite_file(address) or "the store's address"
