"""Managing the pools of a server over ARM, and using them, in its own resource group."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from carrel.client import Client
from conftest import Server
from management import SMALL, Management


@contextmanager
def managing(server: Server) -> Iterator[Management]:
    with httpx.Client(base_url=server.connection["http"], trust_env=False, timeout=60) as http:
        yield Management(server, http, server.connection["subscription"], server.connection["resource_group"])


@contextmanager
def session(server: Server, pool: str, identifier: str = "alice") -> Iterator[Client]:
    """In a pool of the server's own group."""
    endpoint = f"{server.endpoint.rpartition('/')[0]}/{pool}"
    with Client(endpoint, server.connection["token"], identifier=identifier) as client:
        yield client


def body_of(*, network: str = "EgressDisabled", **carrel: Any) -> dict[str, Any]:
    scale = {"maxConcurrentSessions": 5, "readySessionInstances": 1}
    status = {"status": network}
    properties = {"scaleConfiguration": scale, "sessionNetworkConfiguration": status, "carrel": {**SMALL, **carrel}}
    return {"location": "local", "properties": properties}


def put(managed: Management, name: str, **options: Any) -> httpx.Response:
    """`options` as of `body_of`."""
    return managed.ask("PUT", managed.pool(name), (200, 201, 202), json=body_of(**options))


def state_of(managed: Management, name: str) -> str | None:
    """None where there is no such pool, or nobody to ask for a moment."""
    try:
        reply = managed.send("GET", managed.pool(name))
    except httpx.HTTPError:
        return "away"
    return None if reply.status_code == 404 else str(reply.json()["properties"]["provisioningState"])
