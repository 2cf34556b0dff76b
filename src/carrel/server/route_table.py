"""A table of routes by pattern, as the control plane and Graph have one: requests are dispatched from it, documents are made of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from carrel.server.exchange import method_not_allowed
from carrel.wire.arm_paths import Pattern
from carrel.wire.arm_versions import Versions

H = TypeVar("H")


@dataclass(frozen=True, slots=True)
class Route(Generic[H]):
    """A pattern, its handlers by method, and the api-versions that it knows where it takes one."""

    pattern: Pattern
    methods: Mapping[str, H]
    versions: Versions = ()

    def handler(self, method: str) -> H:
        """Raises MethodNotAllowed. HEAD is GET, the server leaves the body away, but where HEAD has a handler of its own."""
        handler = self.methods.get(method) or (self.methods.get("GET") if method == "HEAD" else None)
        if handler is None:
            allowed = {*self.methods, *({"HEAD"} if "GET" in self.methods else ())}
            raise method_not_allowed(self.pattern.text, method, allowed)
        return handler


def find(routes: Iterable[Route[H]], segments: list[str]) -> tuple[Route[H], Mapping[str, str]] | None:
    """The route of a path and the names in it."""
    lower = [each.lower() for each in segments]
    for route in routes:
        names = route.pattern.match(segments, lower)
        if names is not None:
            return route, names
    return None


def begins_with(words: tuple[bytes, ...], raw_path: bytes) -> bool:
    """Whether the first segment of a path is one of these, in any case."""
    return raw_path.lstrip(b"/").split(b"/", 1)[0].lower() in words
