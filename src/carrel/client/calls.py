"""The API's calls as plain values: what to send and how to read the answer. Both clients send these; neither knows a path."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from carrel.client.call import API_VERSION as API_VERSION
from carrel.client.call import Call as Call
from carrel.client.call import check as check
from carrel.client.errors import InvalidRequest, NotSupported
from carrel.client.observing import PoolStatus, SessionRow
from carrel.client.results import Result, Summary, parse_result
from carrel.client.showing import Table
from carrel.client.transfers import Sending, can_repeat
from carrel.client.values import FILE_COLUMNS, Egress, EgressTest, File, Image, Metadata, Session, Variable

T = TypeVar("T")
Page = tuple[list[T], bool]  # of a list, and whether there are more

GRACE_S = (
    15.0  # what a call may take beyond the execution's own limit: queueing, a cold session, the way there and back
)
_TURN_S = 220.0 + GRACE_S  # what takes its turn behind code may wait as long as code may run
_BUILD_S = 1800.0  # an image that is not built yet


def code(
    text: str,
    *,
    timeout: float,
    output_limit: int | None = None,
    variables: Mapping[str, Any] | None = None,
    return_variables: Sequence[str] = (),
    is_asynchronous: bool = False,
) -> dict[str, Any]:
    """The body that runs code. What is not asked for is not in it: other servers of this API do not know it."""
    body: dict[str, Any] = {
        "codeInputType": "Inline",
        "executionType": "Asynchronous" if is_asynchronous else "Synchronous",
        "code": text,
        "timeoutInSeconds": timeout,
        "outputStreamsMaxLength": output_limit,
        "variables": None if variables is None else dict(variables),
        "returnVariables": list(return_variables) or None,
    }
    return _given(body)


def command(
    line: str | Sequence[str], *, timeout: float, output_limit: int | None, shell_type: str, stdin: str | None
) -> dict[str, Any]:
    """The body that runs a command: text for a shell, or a program with its arguments."""
    is_line = isinstance(line, str)
    body: dict[str, Any] = {
        "shellCommand": line if is_line else None,
        "execCommandAndArgs": None if is_line else list(line),
        "shellType": shell_type if is_line else None,
        "stdin": stdin,
        "timeoutInSeconds": timeout,
        "outputStreamsMaxLength": output_limit,
    }
    return _given(body)


def execute(body: dict[str, Any], identifier: str, operation_id: str | None) -> Call[Result]:
    headers = {"operation-id": operation_id} if operation_id else {}
    waits = body.get("executionType") != "Asynchronous"
    options = {"json": body, "headers": headers, "timeout": (body["timeoutInSeconds"] if waits else 60) + GRACE_S}
    # The session runs what has one operation-id once, however often it is sent.
    read = partial(_ran, body)
    return Call(
        "POST", "executions", read, {"identifier": identifier}, options, is_repeatable_post=operation_id is not None
    )


def execution(execution_id: str, identifier: str) -> Call[Result]:
    return Call("GET", _one("executions", execution_id), _result, {"identifier": identifier})


def executions(identifier: str, skip: int) -> Call[Page[Summary]]:
    read = partial(_page, Summary.parse, "value")
    return Call("GET", "executions", read, {"identifier": identifier, "skip": str(skip)})


def cancel(execution_id: str, identifier: str) -> Call[Result]:
    where = f"{_one('executions', execution_id)}/cancel"
    return Call("POST", where, _result, {"identifier": identifier}, is_repeatable_post=True)


def cancel_all(identifier: str) -> Call[int]:
    return Call(
        "POST",
        "session/cancel",
        lambda reply: int(reply.json()["canceled"]),
        {"identifier": identifier},
        is_repeatable_post=True,
    )


def restart(identifier: str) -> Call[Session]:
    return Call(
        "POST",
        "session/restart",
        lambda reply: Session.parse(reply.json()),
        {"identifier": identifier},
        is_repeatable_post=True,
    )


def variables(names: Sequence[str], identifier: str) -> Call[dict[str, Any]]:
    query = {"identifier": identifier, "name": ",".join(names)}
    return Call("GET", "session/variables", lambda reply: dict(reply.json()), query, {"timeout": _TURN_S})


def variable_summaries(identifier: str) -> Call[list[Variable]]:
    query = {"identifier": identifier, "summary": "true"}
    options = {"timeout": _TURN_S}
    return Call("GET", "session/variables", lambda reply: Variable.parse_all(reply.json()), query, options)


def set_variables(values: Mapping[str, Any], identifier: str) -> Call[None]:
    options = {"json": dict(values), "timeout": _TURN_S}
    return Call("PUT", "session/variables", _nothing, {"identifier": identifier}, options)


def list_files(identifier: str, directory: str, is_recursive: bool) -> Call[Table[File]]:
    query = {"identifier": identifier}
    if directory:
        query["path"] = directory
    if is_recursive:
        query["recursive"] = "true"
    return Call("GET", "files", _listed, query)


def upload(path: str, data: Sending, identifier: str, if_match: str | None, if_none_match: str | None) -> Call[File]:
    directory, name = _split(path)
    options = {
        "files": {"file": (name, data, "application/octet-stream")},
        "timeout": 300.0,
        "headers": _demands(if_match, if_none_match),
    }
    repeats = can_repeat(data)  # an upload takes the place of what is there
    return Call("POST", "files", _file, _at(identifier, directory), options, is_repeatable_post=repeats)


def archive(directory: str, identifier: str) -> Call[None]:
    options = {"headers": {"Accept": "application/x-tar"}, "timeout": 300.0}
    return Call("GET", "files", _nothing, _at(identifier, directory), options)


def watch(directory: str, is_recursive: bool, identifier: str) -> Call[None]:
    query = {**_at(identifier, directory), "recursive": "true" if is_recursive else "false"}
    return Call("GET", "files", _nothing, query, _TOLD)


def session_events(identifier: str) -> Call[None]:
    return Call("GET", "session/events", _nothing, {"identifier": identifier}, _TOLD)


def keep_alive(identifier: str) -> Call[Session]:
    return Call("POST", "session/keepAlive", _session, {"identifier": identifier}, is_repeatable_post=True)


def open_session(environment: Mapping[str, str | Mapping[str, str]] | None, identifier: str) -> Call[Session]:
    options = {} if environment is None else {"json": {"environment": environment}}
    return Call("PUT", "session", _session, {"identifier": identifier}, options)


def stat(path: str, identifier: str) -> Call[File]:
    where, directory = _found(path)
    return Call("GET", where, _file, _at(identifier, directory))


def download(path: str, identifier: str) -> Call[bytes]:
    where, directory = _found(path)
    return Call("GET", f"{where}/content", lambda reply: reply.content, _at(identifier, directory), {"timeout": 300.0})


def delete_file(path: str, identifier: str, if_match: str | None) -> Call[None]:
    where, directory = _found(path)
    options = {"headers": _demands(if_match, None)}
    return Call("DELETE", where, _nothing, _at(identifier, directory), options)


def make_directory(path: str, identifier: str) -> Call[File]:
    where, directory = _found(path)
    return Call("POST", f"{where}/mkdir", _file, _at(identifier, directory), is_repeatable_post=True)


def rename(path: str, to: str, overwrite: bool, identifier: str, if_match: str | None) -> Call[File]:
    where, directory = _found(path)
    options = {"json": {"to": to, "overwrite": overwrite}, "headers": _demands(if_match, None)}
    return Call("POST", f"{where}/rename", _file, _at(identifier, directory), options)


def session(identifier: str) -> Call[Session]:
    return Call("GET", "session", lambda reply: Session.parse(reply.json()), {"identifier": identifier})


def sessions(skip: int) -> Call[Page[Session]]:
    return Call("GET", "listSessions", partial(_page, Session.parse, "sessions"), {"skip": str(skip)})


def end(identifier: str) -> Call[None]:
    return Call("DELETE", "session", _nothing, {"identifier": identifier})


def metadata() -> Call[Metadata]:
    return Call("GET", "metadata", lambda reply: Metadata.parse(reply.json()))


def status() -> Call[PoolStatus]:
    return Call("GET", ".carrel/status", lambda reply: PoolStatus.parse(reply.json()))


def table(skip: int) -> Call[Page[SessionRow]]:
    return Call("GET", ".carrel/sessions", partial(_page, SessionRow.parse, "value"), {"skip": str(skip)})


def image() -> Call[Image]:
    return Call("GET", ".carrel/image", lambda reply: Image.parse(reply.json()))


def set_image(name: str) -> Call[Image]:
    options = {"json": {"image": name}, "timeout": _BUILD_S}
    return Call("PUT", ".carrel/image", lambda reply: Image.parse(reply.json()), options=options)


def egress() -> Call[Egress]:
    return Call("GET", ".carrel/egress", lambda reply: Egress.parse(reply.json()))


def set_egress(rules: Sequence[str]) -> Call[Egress]:
    return Call(
        "PUT", ".carrel/egress", lambda reply: Egress.parse(reply.json()), options={"json": {"allow": list(rules)}}
    )


def test_egress(host: str, port: int) -> Call[EgressTest]:
    options = {"json": {"host": host, "port": port}}
    return Call(
        "POST",
        ".carrel/egress/test",
        lambda reply: EgressTest.parse(reply.json()),
        options=options,
        is_repeatable_post=True,
    )


def _page(parse: Callable[[Any], T], key: str, reply: httpx.Response) -> Page[T]:
    body = reply.json()
    return [parse(each) for each in body[key]], bool(body.get("nextLink"))


def _given(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _split(path: str) -> tuple[str, str]:
    directory, _, name = path.rpartition("/")
    return directory, name


def _found(path: str) -> tuple[str, str]:
    """Of something that is there: its address, and the directory it is in. Lists show a directory with a slash at its end."""
    directory, name = _split(path.rstrip("/"))
    return _one("files", name), directory


def _one(kind: str, name: str) -> str:
    """The address of one of them. Raises InvalidRequest for a name that would make it another address."""
    if name in ("", ".", ".."):
        raise InvalidRequest(400, "InvalidName", f"{name!r} names none of the {kind}")
    return f"{kind}/{quote(name, safe='')}"


def _at(identifier: str, directory: str) -> dict[str, str]:
    return {"identifier": identifier, "path": directory} if directory else {"identifier": identifier}


def _result(reply: httpx.Response) -> Result:
    return parse_result(reply.json())


def _listed(reply: httpx.Response) -> Table[File]:
    return Table([File.parse(each) for each in reply.json()["value"]], FILE_COLUMNS)


def _ran(body: dict[str, Any], reply: httpx.Response) -> Result:
    """Raises NotSupported where fields that are beyond Azure's API were passed over: the code has run without them."""
    result = _result(reply)
    passed_over = [name for name in ("variables", "returnVariables") if name in body]
    if passed_over and result.is_finished and not result.outcome:  # which every result of Carrel has
        text = f"this server ran the code without {' and '.join(passed_over)}, which are beyond Azure's API"
        raise NotSupported(reply.status_code, "NotSupported", text)
    return result


def _file(reply: httpx.Response) -> File:
    return File.parse(reply.json(), reply.headers.get("etag", "").strip('"'))


def _demands(if_match: str | None, if_none_match: str | None) -> dict[str, str]:
    """Tags as the header wants them; "*" is none."""
    demands = {"If-Match": if_match, "If-None-Match": if_none_match}
    return {name: tag if tag == "*" else f'"{tag}"' for name, tag in demands.items() if tag is not None}


def _nothing(_: httpx.Response) -> None:
    return None


_TOLD: dict[str, Any] = {
    "headers": {"Accept": "text/event-stream"},
    "timeout": httpx.Timeout(60.0, read=45.0),  # the server is never silent for longer than 15
}


def _session(reply: httpx.Response) -> Session:
    return Session.parse(reply.json())
