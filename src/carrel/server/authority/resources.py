"""What a client asks for: the resource a token is to be good at, out of `scope` (v2.0) or `resource` (v1 and AD FS)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from carrel.storage import APPLICATION, ARM_AUDIENCE, AUDIENCES, GRAPH_AUDIENCE, SESSION_EXECUTOR
from carrel.wire.oauth import OAuthError, missing

_CLASSIC = "https://management.core.windows.net"  # what ARM was called before; most Azure clients have it built in
_OPENID = frozenset(["openid", "profile", "email", "offline_access"])


@dataclass(frozen=True, slots=True)
class Wanted:
    """`audience` is what the token will name; `scope` the words as they were asked for; empty audience: the client's own profile only."""

    audience: str
    scope: str
    has_openid: bool = False
    has_offline: bool = False


class Resources:
    """The audiences that tokens are given for: the data plane's, ARM's and Graph's, and this server under the names it has."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._known = frozenset([*AUDIENCES, ARM_AUDIENCE, _CLASSIC, GRAPH_AUDIENCE])

    def audience(self, resource: str) -> str | None:
        """The audience of a token for `resource`; None where it is not ours."""
        bare = resource.removesuffix("/.default").rstrip("/")
        if bare.lower() in self._known:
            return bare.lower()
        return bare if self._is_ours(bare.removesuffix("/graph")) else None

    def wanted(self, scope: str, resource: str) -> Wanted:
        """Raises OAuthError."""
        words = scope.split()
        rest = [word for word in words if word.lower() not in _OPENID]
        asked = {audience for word in rest if (audience := self._of_word(word))}
        if resource:
            asked.add(self.audience(resource) or "")
        elif not words:
            raise missing("scope")
        if not all(asked) or (rest and len(asked) != 1) or len(asked) > 1:
            what = resource or " ".join(rest)
            raise OAuthError("invalid_resource", 500011, f"The resource principal named {_shown(what)} was not found.")
        return Wanted(
            asked.pop() if asked else "",
            scope,
            has_openid="openid" in words or bool(resource),
            has_offline="offline_access" in words or bool(resource),
        )

    def _of_word(self, word: str) -> str:
        """The audience of one scope: `RESOURCE/.default`, or `RESOURCE/permission`; a permission alone is one of Graph's."""
        if "://" not in word:
            return GRAPH_AUDIENCE if word.replace(".", "").isalnum() else ""
        return self.audience(word) or self.audience(word.rpartition("/")[0]) or ""

    def _is_ours(self, url: str) -> bool:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            _ = parts.port
        except ValueError:
            return False
        if parts.scheme not in ("https", "http") or parts.path or parts.query or parts.username is not None:
            return False
        return host in self._names or _is_loopback(host)


def claims_for(audience: str) -> dict[str, object]:
    """Claims of a token of the server's own principal. Rights on the data plane are still claims."""
    rights = {"roles": [SESSION_EXECUTOR], "carrel_pools": ["*"]} if audience in AUDIENCES else {}
    return {**APPLICATION, **rights}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(text: str) -> str:
    return text[:200].encode("ascii", "replace").decode()
