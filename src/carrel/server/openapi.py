"""`GET /openapi.json`: what this gateway serves, as an OpenAPI 3.1 document.

Made from the tables that requests are routed by, so that no route can be missing from it; what an operation takes and answers is in
wire/openapi/. It is the same for everybody, tells nothing about this server but what every Carrel of this version does, and needs no token.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from carrel import __version__
from carrel.server import routes
from carrel.server.exchange import Exchange
from carrel.wire import jsons
from carrel.wire.openapi import data_plane, opened, schemas
from carrel.wire.openapi.model import Operation, encode_operation, error_responses

_ABOUT = (
    "Carrel speaks the API of Azure Container Apps dynamic sessions. Fixed words in paths match in any case; HEAD is answered where GET "
    "is. Names in paths are percent-encoded, `/` in a file's name included."
)


@dataclass(frozen=True, slots=True)
class Plane:
    """A part of the paths, with the routes that its table has and the words for them."""

    tag: str
    prefix: str
    parameters: tuple[str, ...]  # of the prefix
    routes: Mapping[str, Iterable[str]]  # methods by pattern
    operations: Mapping[tuple[str, str], Operation]
    unversioned: frozenset[str] = frozenset()  # patterns that take no api-version

    def undescribed(self) -> list[str]:
        """Routes that have no words yet."""
        return [f"{method} {pattern}" for method, pattern in self._served() if (method, pattern) not in self.operations]

    def unserved(self) -> list[str]:
        """Words for routes that are not there (any more)."""
        served = set(self._served())
        return [f"{method} {pattern}" for method, pattern in self.operations if (method, pattern) not in served]

    def paths(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for method, pattern in self._served():
            operation = self.operations.get((method, pattern))
            if operation is None:
                continue
            parameters = self.parameters if pattern in self.unversioned else (*self.parameters, "api-version")
            identity = re.sub(r"\W+", "-", f"{self.tag} {method} {pattern}".lower()).strip("-")
            found.setdefault(self.prefix + pattern, {})[method.lower()] = encode_operation(
                operation, identity, self.tag, parameters
            )
        return found

    def _served(self) -> list[tuple[str, str]]:
        return [(method, pattern) for pattern, methods in self.routes.items() for method in methods]


def planes() -> list[Plane]:
    below_pools = {route.pattern: tuple(route.methods) for route in (*routes.FIXED.values(), *routes.NAMED.values())}
    return [
        Plane(
            "data plane",
            f"{data_plane.PATH}/",
            data_plane.PATH_PARAMETERS,
            below_pools | {routes.MCP.pattern: routes.MCP_METHODS},
            data_plane.OPERATIONS,
            frozenset([routes.MCP.pattern]),
        ),
        Plane("open", "", (), dict.fromkeys(opened.PATHS, ("GET",)), opened.OPERATIONS, frozenset(opened.PATHS)),
    ]


@functools.cache
def document() -> bytes:
    """The document as it goes out. Made when first asked for, and once."""
    told = planes()
    operations = [each for plane in told for each in plane.operations.values() if each.error == "Error"]
    statuses = {status for each in operations for status in each.errors}
    return jsons.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "Carrel", "version": __version__, "description": _ABOUT},
            "servers": [{"url": "/"}],
            "tags": [{"name": plane.tag} for plane in told],
            "paths": {path: item for plane in told for path, item in plane.paths().items()},
            "components": {
                "schemas": schemas.SCHEMAS | opened.SCHEMAS,
                "parameters": schemas.PARAMETERS | opened.PARAMETERS,
                "responses": error_responses(sorted(statuses)),
                "securitySchemes": schemas.SECURITY,
            },
        }
    )


async def show(exchange: Exchange) -> None:
    await exchange.reply(200, document())
