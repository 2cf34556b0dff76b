"""What a client asks for: the resource a token is to be good at, out of `scope` (v2.0) or `resource` (v1 and AD FS)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from carrel.audiences import AUDIENCES, Plane, plane_of
from carrel.wire.oauth import OAuthError, missing, shown

_OPENID = frozenset(["openid", "profile", "email", "offline_access"])
_GRAPH = AUDIENCES[Plane.GRAPH][0]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`audience` is what the token will name; `scope` the words of it that are not about the user's profile."""

    audience: str
    scope: str
    has_openid: bool = False
    has_offline: bool = False


class Resources:
    """The audiences that tokens are given for: the data plane's, ARM's and Graph's, and this server under the names it has."""

    def __init__(self, hosts: Collection[str]) -> None:
        self._hosts = hosts

    def audience(self, resource: str) -> str | None:
        """The audience of a token for `resource`; None where it is not ours."""
        bare = resource.removesuffix("/.default").rstrip("/")
        return bare if plane_of(bare, self._hosts) is not None else None

    def wanted(self, scope: str, resource: str = "") -> Wanted:
        """Of a request. Only users' programs may leave the resource out, for a token about the user alone: it is Graph's then.

        Raises OAuthError.
        """
        words = scope.split()
        if not words and not resource:
            raise missing("scope")
        rest = [word for word in words if word.lower() not in _OPENID]
        asked = {self._of_word(word) for word in rest} | ({self.audience(resource) or ""} if resource else set())
        if "" in asked or len(asked) > 1:
            what = shown(resource or " ".join(rest))
            raise OAuthError("invalid_resource", 500011, f"The resource principal named {what} was not found.")
        is_classic = bool(resource)  # the v1 endpoint gives all there is, unasked
        return Wanted(
            asked.pop() if asked else _GRAPH,
            " ".join(rest),
            has_openid=is_classic or "openid" in words,
            has_offline=is_classic or "offline_access" in words,
        )

    def _of_word(self, word: str) -> str:
        """The audience of one scope: `RESOURCE/.default`, or `RESOURCE/permission`; a permission alone is one of Graph's."""
        if "://" not in word:
            return _GRAPH if word.replace(".", "").isalnum() else ""
        return self.audience(word) or self.audience(word.rpartition("/")[0]) or ""
