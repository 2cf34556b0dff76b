"""Whom a token is for: one table of the planes of the API and the audiences of their tokens.

A token of one plane is refused on the others, as in Azure. Besides Azure's own names the server is an audience by every name that it
serves under, at any port: it may be another after the next start, and who signs is what keeps two servers apart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from enum import StrEnum
from urllib.parse import urlsplit


class Plane(StrEnum):
    DATA = "data"  # sessions: code, files
    ARM = "arm"  # pools, groups, roles
    GRAPH = "graph"  # principals


AUDIENCES: dict[Plane, tuple[str, ...]] = {
    Plane.DATA: ("https://dynamicsessions.io", "https://acasessions.io"),
    Plane.ARM: ("https://management.azure.com", "https://management.core.windows.net"),
    Plane.GRAPH: ("https://graph.microsoft.com",),
}
_BY_NAME = {audience: plane for plane, audiences in AUDIENCES.items() for audience in audiences}
_OWN = {"": Plane.ARM, "/graph": Plane.GRAPH}  # by what follows the server's own origin


def plane_of(audience: str, names: Collection[str] = ()) -> Plane | None:
    """The plane that a token for `audience` is good for, None where it is for somebody else. `names` are those the server has."""
    trimmed = audience.rstrip("/")
    plane = _BY_NAME.get(trimmed)
    return plane if plane is not None else _own(trimmed, names)


def _own(audience: str, names: Collection[str]) -> Plane | None:
    try:
        parts = urlsplit(audience)
        host = parts.hostname
        _ = parts.port  # raises where it is none
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or parts.username is not None or parts.query or parts.fragment:
        return None
    is_ours = host is not None and (host in {name.lower() for name in names} or _is_loopback(host))
    return _OWN.get(parts.path) if is_ours else None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
