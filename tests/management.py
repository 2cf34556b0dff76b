"""The control plane as a client sees it that is not ours: plain HTTP over a running server, every spelling at hand."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

import endpoint
from conftest import Server

APP = "2025-07-01"
WITH_MCP = "2025-02-02-preview"
RESOURCES = "2024-11-01"
SMALL = {"image": "python-slim", "memory": "192MiB", "disk": "32MiB", "tmp": "16MiB"}


@dataclass(frozen=True, slots=True)
class Management:
    """`group` is a resource group of this client's own."""

    server: Server
    http: httpx.Client
    subscription: str
    group: str

    @property
    def group_path(self) -> str:
        return f"/subscriptions/{self.subscription}/resourceGroups/{self.group}"

    def pool(self, name: str) -> str:
        return f"{self.group_path}/providers/Microsoft.App/sessionPools/{name}"

    def send(self, method: str, path: str, *, version: str | None = APP, **options: Any) -> httpx.Response:
        """`path` may be an address that the server gave, which has its version."""
        token = options.pop("token", None) or self.server.connection["arm_token"]
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        query = {} if version is None or "api-version=" in path else {"api-version": version}
        params = query | options.pop("query", {})
        return self.http.request(method, path, params=params or None, headers=headers, **options)

    def ask(self, method: str, path: str, status: int | tuple[int, ...] = 200, **options: Any) -> httpx.Response:
        """The same, with the status that it has to have."""
        reply = self.send(method, path, **options)
        wanted = (status,) if isinstance(status, int) else status
        assert reply.status_code in wanted, f"{method} {path}: {reply.status_code} {reply.text}"
        return reply

    def make(self, name: str, properties: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """A small pool, ready to be used; the resource."""
        body = {"location": "local", "properties": {"carrel": SMALL, **(properties or {})}}
        reply = self.ask("PUT", self.pool(name), (200, 201), json=body, **options)
        self.wait(reply)
        return dict(self.ask("GET", self.pool(name), **options).json())

    def wait(self, reply: httpx.Response, state: str = "Succeeded", seconds: float = 60) -> dict[str, Any]:
        """Until the operation that a reply began has come to its end, as pollers do."""
        address = reply.headers.get("azure-asyncoperation")
        if address is None:
            return {}
        told = self._poll(address, (200,), lambda each: each.json()["status"] != "InProgress", seconds).json()
        assert told["status"] == state, told
        return dict(told)

    def gone(self, reply: httpx.Response, seconds: float = 60) -> httpx.Response:
        """The result of a delete, by `Location`."""
        return self._poll(reply.headers["location"], (200, 202, 204), lambda each: each.status_code != 202, seconds)

    def _poll(
        self, address: str, statuses: tuple[int, ...], is_over: Callable[[httpx.Response], bool], seconds: float
    ) -> httpx.Response:
        """The first answer of an operation that is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            reply = self.ask("GET", address, statuses)
            if is_over(reply):
                return reply
            time.sleep(0.05)
        raise AssertionError(f"{address} is still in progress")

    def remove(self) -> None:
        """The group with all that is in it."""
        reply = self.ask("DELETE", self.group_path, (202, 404), version=RESOURCES)
        if reply.status_code == 202:
            self.gone(reply)


def error_of(reply: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The body of an error of that kind."""
    error = endpoint.error_of(reply)
    assert (reply.status_code, error["code"]) == (status, code), reply.text
    return error


def management_of(server: Server, http: httpx.Client) -> Management:
    """With a new group."""
    managed = Management(server, http, server.connection["subscription"], f"rg-{uuid.uuid4().hex[:8]}")
    managed.ask("PUT", managed.group_path, 201, version=RESOURCES, json={"location": "eastus"})
    return managed


@pytest.fixture(scope="module")
def managed(server: Server) -> Iterator[Management]:
    """On the run's server."""
    with httpx.Client(base_url=server.connection["http"], timeout=60, trust_env=False) as http:
        managed = management_of(server, http)
        yield managed
        managed.remove()
