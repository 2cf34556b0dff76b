"""The control plane's calls as plain values, as calls.py has the data plane's: pools and groups of Azure Resource Manager."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from carrel.client.calls import Call
from carrel.client.errors import ApiError
from carrel.client.operations import same_origin
from carrel.client.resources import PoolSettings, ResourceGroup, SessionPool, Subscription

POOLS = "2025-10-02-preview"  # the newest that has MCP
GROUPS = "2024-11-01"
SUBSCRIPTIONS = "2022-12-01"

T = TypeVar("T")
Page = tuple[list[T], str | None]  # what a page of a list has, and the address of the next one


def reply(response: httpx.Response) -> httpx.Response:
    """For calls whose answer is looked at as it is: work that goes on behind it."""
    return response


def group_path(subscription: str, group: str) -> str:
    return f"subscriptions/{_part(subscription)}/resourceGroups/{_part(group)}"


def pool_path(subscription: str, group: str, name: str) -> str:
    where = f"subscriptions/{_part(subscription)}/resourceGroups/{_part(group)}"
    return f"{where}/providers/Microsoft.App/sessionPools/{_part(name)}"


def _part(text: str) -> str:
    """One segment of a path, whatever is in it. Raises ApiError for what would be none, or the one above."""
    if text in ("", ".", ".."):
        raise ApiError(400, "InvalidResourceName", f"{text!r} is no name of a resource", "name")
    return quote(text, safe="")


# ---- pools ---------------------------------------------------------------------------------------------------------------------


def pool(path: str) -> Call[SessionPool]:
    return Call("GET", path, _pool, version=POOLS)


def pools(subscription: str, group: str | None) -> Call[Page[SessionPool]]:
    where = f"subscriptions/{_part(subscription)}" + ("" if group is None else f"/resourceGroups/{_part(group)}")
    path = f"{where}/providers/Microsoft.App/sessionPools"
    return Call("GET", path, page(SessionPool.parse), version=POOLS)


def put_pool(
    path: str, location: str, settings: PoolSettings, if_match: str | None, if_none_match: str | None
) -> Call[httpx.Response]:
    body: dict[str, Any] = {
        "location": location,
        "properties": {"poolManagementType": "Dynamic", **settings.properties()},
    }
    if settings.tags is not None:
        body["tags"] = dict(settings.tags)
    return Call("PUT", path, reply, options=_with(body, if_match, if_none_match), version=POOLS)


def patch_pool(path: str, settings: PoolSettings, if_match: str | None) -> Call[httpx.Response]:
    body: dict[str, Any] = {"properties": settings.properties()}
    if settings.tags is not None:
        body["tags"] = dict(settings.tags)
    return Call("PATCH", path, reply, options=_with(body, if_match, None), version=POOLS)


def delete_pool(path: str, if_match: str | None) -> Call[httpx.Response]:
    return Call("DELETE", path, reply, options=_with(None, if_match, None), version=POOLS)


def mcp_key(path: str) -> Call[str]:
    return Call("POST", f"{path}/fetchMcpServerCredentials", _key, version=POOLS)


def rotate_mcp_key(path: str) -> Call[str]:
    return Call("POST", f"{path}/rotateMcpServerCredentials", _key, version=POOLS)


# ---- groups and subscriptions --------------------------------------------------------------------------------------------------


def group(path: str) -> Call[ResourceGroup]:
    return Call("GET", path, _group, version=GROUPS)


def groups(subscription: str) -> Call[Page[ResourceGroup]]:
    return Call("GET", f"subscriptions/{_part(subscription)}/resourcegroups", page(ResourceGroup.parse), version=GROUPS)


def put_group(path: str, location: str, tags: Mapping[str, str] | None) -> Call[ResourceGroup]:
    body: dict[str, Any] = {"location": location}
    if tags is not None:
        body["tags"] = dict(tags)
    return Call("PUT", path, _group, options={"json": body}, version=GROUPS)


def delete_group(path: str) -> Call[httpx.Response]:
    return Call("DELETE", path, reply, version=GROUPS)


def subscriptions() -> Call[Page[Subscription]]:
    return Call("GET", "subscriptions", page(Subscription.parse), version=SUBSCRIPTIONS)


def metadata() -> Call[dict[str, Any]]:
    """Where a cloud's other endpoints are; open to everybody."""

    def read(response: httpx.Response) -> dict[str, Any]:
        body = response.json()
        return body if isinstance(body, dict) else {}

    return Call("GET", "metadata/endpoints", read, version="2022-09-01")


# ---- what the clients share ----------------------------------------------------------------------------------------------------


def next_page(url: str, before: Call[Page[T]], endpoint: str) -> Call[Page[T]]:
    return Call("GET", same_origin(url, endpoint), before.read)


def look(url: str) -> Call[httpx.Response]:
    """Once more at work that goes on."""
    return Call("GET", url, reply)


def page(parse: Callable[[dict[str, Any]], T]) -> Callable[[httpx.Response], Page[T]]:
    def read(response: httpx.Response) -> Page[T]:
        body = response.json()
        return [parse(each) for each in body["value"]], body.get("nextLink") or body.get("@odata.nextLink") or None

    return read


def _with(body: dict[str, Any] | None, if_match: str | None, if_none_match: str | None) -> dict[str, Any]:
    demands = {"If-Match": if_match, "If-None-Match": if_none_match}
    options: dict[str, Any] = {"headers": {name: tag for name, tag in demands.items() if tag is not None}}
    return options if body is None else {**options, "json": body}


def _pool(response: httpx.Response) -> SessionPool:
    return SessionPool.parse(response.json(), response.headers.get("ETag", ""))


def _group(response: httpx.Response) -> ResourceGroup:
    return ResourceGroup.parse(response.json())


def _key(response: httpx.Response) -> str:
    return str(response.json()["apiKey"])
