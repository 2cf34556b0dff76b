"""Every route of the operator plane: one table, from which requests are dispatched and documents are made.

A line each: path, method, handler, and the action that a caller needs. The right at any one pool lets a caller in; what is told is what the
caller has it for (`OperatorCall.pools`, `sees_all`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from carrel import roles
from carrel.server.operator import audit, health, usage
from carrel.server.operator.call import Handler
from carrel.server.route_table import Route
from carrel.wire.arm_paths import Pattern


@dataclass(frozen=True, slots=True)
class Served:
    """What a method of a route does, and the action that it takes."""

    handler: Handler
    action: str


def _route(path: str, methods: Mapping[str, tuple[Handler, str]]) -> Route[Served]:
    return Route(Pattern(path), {method: Served(*served) for method, served in methods.items()})


ROUTES: tuple[Route[Served], ...] = (
    _route("/.carrel/audit", {"GET": (audit.show, roles.AUDIT_READ)}),
    _route("/.carrel/health", {"GET": (health.show, roles.POOL_READ)}),
    _route("/.carrel/usage", {"GET": (usage.show, roles.POOL_READ)}),
)  # fmt: skip
