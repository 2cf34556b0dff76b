"""Calls of a real server, kept as they went over the wire, with what differs from run to run or is nobody's business taken out."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import httpx

from carrel import roles
from carrel.server import openapi
from conftest import Server
from recordings.neutral import Neutral, shortened

POOL = "/subscriptions/{subscriptionId}/resourceGroups/{resourceGroupName}/sessionPools/{sessionPoolName}"
SHOWN = re.compile(
    r"(content-(type|range|disposition)|location|operation-location|azure-asyncoperation|retry-after|etag|operation-id|mcp-session-id"
    r"|www-authenticate|carrel-.*|x-ms-(error-code|session-guid|new-allocation|session-etag))",
    re.IGNORECASE,
)
PAGE = 60
KEPT = {role.id for role in roles.ROLES.values()} | {"00000000-0000-0000-0000-000000000000"}


@dataclass(frozen=True, slots=True)
class Operation:
    """What openapi.json has at a path and method."""

    method: str
    path: str
    tag: str
    summary: str
    version: str | None

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path


def operations() -> list[Operation]:
    document = json.loads(openapi.document())
    shared = document["components"]["parameters"]
    found = []
    for path, item in document["paths"].items():
        for method, words in item.items():
            told = [shared[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in words["parameters"]]
            versions = [each["schema"].get("enum") for each in told if each["name"] == "api-version"]
            version = versions[0][-1] if versions and versions[0] else None
            found.append(Operation(method.upper(), path, words["tags"][0], words["summary"], version))
    return found


@dataclass(frozen=True, slots=True)
class Recording:
    operation: Operation
    title: str  # empty for the first of an operation
    request: str
    reply: str


@dataclass
class Recorder:
    """`names` fill the names in paths; those of the subscription and the pool are there from the beginning."""

    server: Server
    http: httpx.Client
    recordings: list[Recording] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        connection = self.server.connection
        subscription, group = connection["subscription"], connection["resource_group"]
        self.names |= {"subscriptionId": subscription, "subscription": subscription, "location": connection["location"]}
        self.names |= {"resourceGroupName": group, "sessionPoolName": "python", "tenant": connection["tenant"]}
        self.known = {each.key: each for each in operations()}
        self.neutral = Neutral.of(connection, KEPT)
        by_arm = dict.fromkeys(("control plane", "operator"), connection["arm_token"])
        self.tokens: dict[str, str] = {"data plane": connection["token"], **by_arm}

    def call(
        self,
        method: str,
        path: str,
        *,
        title: str | None = "",
        status: int | None = None,
        query: Mapping[str, Any] = {},
        headers: Mapping[str, str] = {},
        meanwhile: Callable[[], object] | None = None,
        **body: Any,
    ) -> httpx.Response:
        """Calls the operation, and keeps it unless `title` is None. `~` stands for the pool; `body` is httpx's json, data, files, content.

        `meanwhile` is done when a reply that goes on has begun, so that it ends."""
        operation = self.known[method, path.replace("~", POOL)]
        url = re.sub(r"{(\w+)}", lambda name: self.names[name[1]], operation.path)
        asked = {**({"api-version": operation.version} if operation.version else {}), **query}
        token = self.tokens.get(operation.tag)
        sent = {**({"Authorization": f"Bearer {token}"} if token and "x-ms-apikey" not in headers else {}), **headers}
        request = self.http.build_request(method, url, params=asked or None, headers=sent, **body)
        reply = self.http.send(request, stream=True)
        if meanwhile:
            meanwhile()
        content = b"".join(reply.iter_bytes())
        text = content.decode() if _is_text(content) else f"({len(content):,} bytes)"
        is_right = reply.status_code == status if status else reply.status_code < 400
        assert is_right, f"{method} {url}: {reply.status_code} {text}"
        if title is not None:
            shown = self._request(request, url, asked, sent, body)
            self.recordings.append(Recording(operation, title, shown, self._reply(reply, text)))
        return httpx.Response(reply.status_code, headers=reply.headers, text=text)

    def _request(
        self, request: httpx.Request, url: str, query: Mapping[str, Any], headers: Mapping[str, str], body: Any
    ) -> str:
        endpoint = re.sub(r"{(\w+)}", lambda name: self.names[name[1]], POOL)
        where = url.replace(endpoint, "POOL") + (f"?{urlencode(query, safe='$/:@')}" if query else "")
        lines = [f"{request.method} {where}", *(f"{name}: {value}" for name, value in headers.items())]
        if "content-type" in request.headers and "Content-Type" not in headers:
            lines.append(f"Content-Type: {request.headers['content-type']}")
        content = request.read().decode(errors="replace") if body else ""
        return self.neutral.text("\n".join([*lines, *(["", _shown(content)] if content else [])]))

    def _reply(self, reply: httpx.Response, text: str) -> str:
        lines = [f"{reply.status_code} {reply.reason_phrase}"]
        lines += [f"{name}: {value}" for name, value in reply.headers.items() if SHOWN.fullmatch(name)]
        return self.neutral.text("\n".join([*lines, *(["", _shown(text)] if text else [])]))


def _shown(text: str) -> str:
    """JSON with a line for each thing, shortened; other text as it is. Neither is longer than a page."""
    with contextlib.suppress(ValueError):
        text = json.dumps(shortened(json.loads(text)), indent=2, ensure_ascii=False)
    lines = text.replace("\r\n", "\n").rstrip("\n").split("\n")
    return "\n".join([*lines[:PAGE], *([f"… {len(lines) - PAGE} more lines"] if len(lines) > PAGE else [])])


def _is_text(content: bytes) -> bool:
    try:
        return "\0" not in content.decode()
    except UnicodeDecodeError:
        return False
