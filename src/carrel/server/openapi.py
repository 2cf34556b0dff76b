"""`GET /openapi.json`: what this gateway serves, as an OpenAPI 3.1 document.

Made from the tables that requests are routed by, so that no route can be missing from it; what an operation takes and answers is in
wire/openapi/. It is the same for everybody, tells nothing about this server but what every Carrel of this version does, and needs no token.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carrel import __version__
from carrel.server import routes
from carrel.server.arm import routes as arm_routes
from carrel.server.authority import endpoint
from carrel.server.exchange import Exchange
from carrel.server.graph import routes as graph_routes
from carrel.server.operator import routes as operator_routes
from carrel.wire import jsons
from carrel.wire.openapi import authority, control_plane, data_plane, directory, opened, operator, schemas
from carrel.wire.openapi.model import Operation, encode_operation, error_responses
from carrel.wire.versions import VERSIONS

_ABOUT = (
    "Carrel speaks the API of Azure Container Apps dynamic sessions. Fixed words in paths match in any case; HEAD is answered where GET "
    "is. Names in paths are percent-encoded, `/` in a file's name included."
)
_WORDS = (schemas, control_plane, directory, authority, operator, opened)


@dataclass(frozen=True, slots=True)
class Served:
    """A pattern as its table has it, with its methods; `versions` are empty where it takes no api-version."""

    pattern: str
    methods: tuple[str, ...]
    versions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plane:
    """A part of the paths: the routes that its table has, and the words for them."""

    tag: str
    routes: tuple[Served, ...]
    operations: Mapping[tuple[str, str], Operation]
    prefix: str = ""

    def undescribed(self) -> list[str]:
        """Routes that have no words yet."""
        return [f"{method} {route.pattern}" for route, method in self._served() if self._words(route, method) is None]

    def unserved(self) -> list[str]:
        """Words for routes that are not there (any more)."""
        served = {(method, route.pattern) for route, method in self._served()}
        return [f"{method} {pattern}" for method, pattern in self.operations if (method, pattern) not in served]

    def paths(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for route, method in self._served():
            operation = self._words(route, method)
            if operation is None:
                continue
            for path in _expanded(self.prefix + route.pattern):
                parameters = [schemas.in_path(name) for name in re.findall(r"{(\w+)}", path)]
                parameters += [schemas.api_version(route.versions)] if route.versions else []
                identity = re.sub(r"\W+", "-", f"{self.tag} {method} {path.removeprefix(self.prefix)}".lower()).strip(
                    "-"
                )
                told = encode_operation(operation, identity, self.tag, parameters)
                found.setdefault(path, {})[method.lower()] = told
        return found

    def _served(self) -> list[tuple[Served, str]]:
        return [(route, method) for route in self.routes for method in route.methods]

    def _words(self, route: Served, method: str) -> Operation | None:
        return self.operations.get((method, route.pattern))


def _expanded(path: str) -> list[str]:
    """`{scope}` stands for several paths, which a document cannot say otherwise."""
    return [path.replace("{scope}", scope) for scope in control_plane.SCOPES] if "{scope}" in path else [path]


def planes() -> list[Plane]:
    below_pools = [*routes.FIXED.values(), *routes.NAMED.values()]
    data = [Served(route.pattern, tuple(route.methods), tuple(VERSIONS)) for route in below_pools]
    arm = [Served(route.pattern.text, tuple(route.methods), route.versions) for route in arm_routes.ROUTES]
    graph = [Served(route.pattern.text, tuple(route.methods)) for route in graph_routes.ROUTES]
    running = [Served(route.pattern.text, tuple(route.methods)) for route in operator_routes.ROUTES]
    issuing = [Served(f"{authority.TENANT}{path}", tuple(methods)) for path, methods in endpoint.ROUTES.items()]
    issuing.append(Served(endpoint.PAGE, tuple(endpoint.PAGES)))
    opens = tuple(Served(pattern, ("GET",)) for pattern in opened.PATHS)
    mcp = Served(routes.MCP.pattern, routes.MCP_METHODS)
    return [
        Plane("data plane", (*data, mcp), data_plane.OPERATIONS, f"{data_plane.PATH}/"),
        Plane("control plane", tuple(arm), control_plane.OPERATIONS),
        Plane("graph", tuple(graph), directory.OPERATIONS),
        Plane("authority", tuple(issuing), authority.OPERATIONS),
        Plane("operator", tuple(running), operator.OPERATIONS),
        Plane("open", opens, opened.OPERATIONS),
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
                "schemas": {name: schema for each in _WORDS for name, schema in each.SCHEMAS.items()},
                "parameters": {name: told for each in _WORDS for name, told in each.PARAMETERS.items()},
                "responses": error_responses(sorted(statuses)),
                "securitySchemes": schemas.SECURITY,
            },
        }
    )


async def show(exchange: Exchange) -> None:
    await exchange.reply(200, document())
