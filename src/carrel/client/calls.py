"""The API's calls as plain values: what to send and how to read the answer. Both clients send these; neither knows a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Generic, TypeVar
from urllib.parse import quote

import httpx

from carrel.client.values import ApiError, Egress, EgressTest, File, Metadata, Result, Session

API_VERSION = "2025-10-02-preview"
GRACE_S = (
    15.0  # what a call may take beyond the execution's own limit: queueing, a cold session, the way there and back
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, relative to a pool's endpoint, and the reader of its successful answer."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of httpx's `request`

    def arguments(self, endpoint: str) -> dict[str, Any]:
        """All arguments of httpx's `request` and `stream`."""
        url = f"{endpoint.rstrip('/')}/{self.path}"
        return {"method": self.method, "url": url, "params": {"api-version": API_VERSION, **self.query}, **self.options}


def check(response: httpx.Response) -> httpx.Response:
    """The response where it is a success. Raises ApiError where not; the body must have been read."""
    if response.is_success:
        return response
    try:
        body = response.json()
        error = body.get("error", body)
        fields = [error.get(name) for name in ("code", "message", "target", "traceId")]
    except (ValueError, AttributeError):  # not JSON, or not an object: something between us and the server answered
        fields = [response.headers.get("x-ms-error-code"), response.text[:200], None, None]
    code = fields[0] or f"HTTP {response.status_code}"
    raise ApiError(response.status_code, code, fields[1] or "", fields[2], fields[3])


def execute(
    code: str,
    identifier: str,
    timeout: float,
    output_limit: int | None,
    operation_id: str | None,
    is_asynchronous: bool,
) -> Call[Result]:
    body: dict[str, Any] = {
        "codeInputType": "Inline",
        "executionType": "Asynchronous" if is_asynchronous else "Synchronous",
        "code": code,
        "timeoutInSeconds": timeout,
    }
    if output_limit is not None:
        body["outputStreamsMaxLength"] = output_limit
    headers = {"operation-id": operation_id} if operation_id else {}
    options = {"json": body, "headers": headers, "timeout": timeout + GRACE_S}
    return Call("POST", "executions", _result, {"identifier": identifier}, options)


def execution(execution_id: str, identifier: str) -> Call[Result]:
    return Call("GET", f"executions/{quote(execution_id, safe='')}", _result, {"identifier": identifier})


def list_files(identifier: str, directory: str, is_recursive: bool) -> Call[list[File]]:
    query = {"identifier": identifier}
    if directory:
        query["path"] = directory
    if is_recursive:
        query["recursive"] = "true"
    return Call("GET", "files", lambda reply: [File.parse(each) for each in reply.json()["value"]], query)


def upload(
    path: str, data: bytes | IO[bytes], identifier: str, if_match: str | None, if_none_match: str | None
) -> Call[File]:
    directory, name = _split(path)
    options = {
        "files": {"file": (name, data, "application/octet-stream")},
        "timeout": 300.0,
        "headers": _demands(if_match, if_none_match),
    }
    return Call("POST", "files", _file, _at(identifier, directory), options)


def stat(path: str, identifier: str) -> Call[File]:
    directory, name = _split(path)
    return Call("GET", f"files/{quote(name, safe='')}", _file, _at(identifier, directory))


def download(path: str, identifier: str) -> Call[bytes]:
    directory, name = _split(path)
    where = f"files/{quote(name, safe='')}/content"
    return Call("GET", where, lambda reply: reply.content, _at(identifier, directory), {"timeout": 300.0})


def delete_file(path: str, identifier: str, if_match: str | None) -> Call[None]:
    directory, name = _split(path)
    options = {"headers": _demands(if_match, None)}
    return Call("DELETE", f"files/{quote(name, safe='')}", _nothing, _at(identifier, directory), options)


def make_directory(path: str, identifier: str) -> Call[File]:
    directory, name = _split(path)
    return Call("POST", f"files/{quote(name, safe='')}/mkdir", _file, _at(identifier, directory))


def rename(path: str, to: str, overwrite: bool, identifier: str, if_match: str | None) -> Call[File]:
    directory, name = _split(path)
    options = {"json": {"to": to, "overwrite": overwrite}, "headers": _demands(if_match, None)}
    return Call("POST", f"files/{quote(name, safe='')}/rename", _file, _at(identifier, directory), options)


def session(identifier: str) -> Call[Session]:
    return Call("GET", "session", lambda reply: Session.parse(reply.json()), {"identifier": identifier})


def sessions(skip: int) -> Call[tuple[list[Session], bool]]:
    """One page, and whether there are more."""

    def read(reply: httpx.Response) -> tuple[list[Session], bool]:
        body = reply.json()
        return [Session.parse(each) for each in body["sessions"]], bool(body.get("nextLink"))

    return Call("GET", "listSessions", read, {"skip": str(skip)})


def end(identifier: str) -> Call[None]:
    return Call("DELETE", "session", _nothing, {"identifier": identifier})


def metadata() -> Call[Metadata]:
    return Call("GET", "metadata", lambda reply: Metadata.parse(reply.json()))


def egress() -> Call[Egress]:
    return Call("GET", ".carrel/egress", lambda reply: Egress.parse(reply.json()))


def set_egress(rules: Sequence[str]) -> Call[Egress]:
    return Call(
        "PUT", ".carrel/egress", lambda reply: Egress.parse(reply.json()), options={"json": {"allow": list(rules)}}
    )


def test_egress(host: str, port: int) -> Call[EgressTest]:
    options = {"json": {"host": host, "port": port}}
    return Call("POST", ".carrel/egress/test", lambda reply: EgressTest.parse(reply.json()), options=options)


def _split(path: str) -> tuple[str, str]:
    directory, _, name = path.rpartition("/")
    return directory, name


def _at(identifier: str, directory: str) -> dict[str, str]:
    return {"identifier": identifier, "path": directory} if directory else {"identifier": identifier}


def _result(reply: httpx.Response) -> Result:
    return Result.parse(reply.json())


def _file(reply: httpx.Response) -> File:
    return File.parse(reply.json(), reply.headers.get("etag", "").strip('"'))


def _demands(if_match: str | None, if_none_match: str | None) -> dict[str, str]:
    """Tags as the header wants them; "*" is none."""
    demands = {"If-Match": if_match, "If-None-Match": if_none_match}
    return {name: tag if tag == "*" else f'"{tag}"' for name, tag in demands.items() if tag is not None}


def _nothing(_: httpx.Response) -> None:
    return None
