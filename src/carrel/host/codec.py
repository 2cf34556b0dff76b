"""Models as they cross hostlink: JSON-able dictionaries in frame headers, and what an execution printed as raw bytes.

The host passes on what a sandbox printed and returned without looking at it; it is decoded and checked here, by whoever shows it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from carrel.errors import RequestInvalid
from carrel.guest.frames import Header
from carrel.host import outputs
from carrel.models import (
    ChangeKind,
    Condition,
    EgressAddress,
    EgressPolicy,
    EgressVerdict,
    Execution,
    ExecutionSpec,
    FileChange,
    FileInfo,
    ImageInfo,
    Level,
    Network,
    Notice,
    NoticeKind,
    Outcome,
    PoolStatus,
    SessionView,
    ShellCommand,
    Software,
    Status,
    Usage,
    Value,
    ValueKind,
    pool_from_json,
)

UNREADABLE = "The value of the last expression was too large or could not be read, and was left out."


def view_to(view: SessionView) -> Header:
    return {
        "identifier": view.identifier,
        "guid": view.guid,
        "created_at": view.created_at,
        "last_used_at": view.last_used_at,
        "expires_at": view.expires_at,
        "is_new": view.is_new,
    }


def view_from(fields: Header) -> SessionView:
    return SessionView(**fields)


def file_to(file: FileInfo) -> Header:
    return {
        "name": file.name,
        "directory": file.directory,
        "is_directory": file.is_directory,
        "size": file.size,
        "modified_at": file.modified_at,
        "etag": file.etag,
    }


def file_from(fields: Header) -> FileInfo:
    return FileInfo(**fields)


def change_to(change: FileChange) -> Header:
    return {"kind": change.kind, "file": None if change.file is None else file_to(change.file)}


def change_from(fields: Header) -> FileChange:
    return FileChange(ChangeKind(fields["kind"]), None if fields["file"] is None else file_from(fields["file"]))


def notice_to(notice: Notice) -> Header:
    fields = {"number": notice.number, "kind": notice.kind, "at": notice.at, "reason": notice.reason}
    fields |= {"trace": list(notice.trace)} if notice.trace else {}
    return {**fields, "session": view_to(notice.session)}


def notice_from(fields: Header) -> Notice:
    known = {"kind": NoticeKind(fields["kind"]), "session": view_from(fields["session"])}
    return Notice(**{**fields, **known, "trace": tuple(fields.get("trace", ()))})


def condition_to(condition: Condition) -> Header:
    """Fields of a request; none where nothing is demanded."""
    demands = {"if_match": condition.if_match, "if_none_match": condition.if_none_match}
    return {name: list(tags) for name, tags in demands.items() if tags is not None}


def condition_from(fields: Header) -> Condition:
    demands = {name: tuple(fields[name]) for name in ("if_match", "if_none_match") if name in fields}
    return Condition(**demands)


def json_to(fields: Any) -> bytes:
    """For lists too long for a header."""
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def json_from(payload: bytes) -> Any:
    return json.loads(payload) if payload else []


def pool_to(status: PoolStatus) -> Header:
    return dataclasses.asdict(status)


def pool_from(fields: Header) -> PoolStatus:
    level = fields["isolation"]
    typed = {
        "spec": pool_from_json(fields["spec"]),
        "isolation": None if level is None else Level(level),
        "weaknesses": tuple(fields["weaknesses"]),
    }
    return PoolStatus(**{**fields, **typed})


def image_to(image: ImageInfo | None) -> Header | None:
    return None if image is None else dataclasses.asdict(image)


def image_from(fields: Header | None) -> ImageInfo | None:
    if fields is None:
        return None
    software = fields["software"]
    pairs = {key: tuple((name, version) for name, version in software[key]) for key in ("runtimes", "packages")}
    return ImageInfo(fields["reference"], Software(**{**software, **pairs}))


def egress_to(policy: EgressPolicy | EgressVerdict) -> Header:
    return dataclasses.asdict(policy)


def egress_from(fields: Header) -> EgressPolicy:
    return EgressPolicy(**{**fields, "network": Network(fields["network"]), "allow": tuple(fields["allow"])})


def verdict_from(fields: Header) -> EgressVerdict:
    addresses = tuple(EgressAddress(**each) for each in fields["addresses"])
    return EgressVerdict(**{**fields, "addresses": addresses})


def spec_to(spec: ExecutionSpec) -> tuple[Header, bytes]:
    """The request to run something, and what is to run with its variables behind it."""
    try:
        code = spec.code.encode()
    except UnicodeEncodeError as error:
        raise RequestInvalid("The code holds characters that are no valid Unicode.", target="code") from error
    header: Header = {
        "timeout": spec.timeout,
        "is_asynchronous": spec.is_asynchronous,
        "operation_id": spec.operation_id,
        "stream_limit": spec.stream_limit,
    }
    if spec.is_fleeting:
        header["is_fleeting"] = True
    if spec.shell is not None:
        code, header["shell"] = json_to(dataclasses.asdict(spec.shell)), 1
    if spec.has_summary:
        header["has_summary"] = True
    if spec.wanted:
        header["wanted"] = list(spec.wanted)
    if spec.variables is None:
        return header, code
    return {**header, "size": len(code)}, code + json_to(dict(spec.variables))


def spec_from(header: Header, body: bytes) -> tuple[ExecutionSpec, bytes]:
    """What spec_to made; the variables stay the JSON that they are, since the host passes them on."""
    size, is_shell = header.pop("size", len(body)), header.pop("shell", 0)
    code, variables = body[:size], body[size:]
    if "wanted" in header:
        header["wanted"] = tuple(header["wanted"])
    if not is_shell:
        return ExecutionSpec(code.decode(), **header), variables
    shell = json.loads(code)
    argv = None if shell["argv"] is None else tuple(shell["argv"])
    return ExecutionSpec("", shell=ShellCommand(**{**shell, "argv": argv}), **header), variables


def usage_to(usage: Usage) -> Header:
    return {
        "wall_ms": usage.wall_ms,
        "cpu_ms": usage.cpu_ms,
        "peak_memory_bytes": usage.peak_memory_bytes,
        "written_bytes": usage.written_bytes,
        "printed_bytes": usage.printed_bytes,
        "sources": dict(usage.sources),
    }


def execution_from(identifier: str, fields: Header, output: bytes = b"") -> Execution:
    """`output` is stdout, stderr, value, variables and the displays, one after the other; none where it was not asked for."""
    stdout, stderr, document, variables, *displays = _cut(output, fields.get("sizes", (0, 0, 0, 0)))
    allowance = outputs.Allowance()
    value, is_readable = value_from(document, allowance)
    named = outputs.variables_from(variables, allowance) if "wanted" in fields else None
    given = [each for display in displays if (each := outputs.display_from(display, allowance)) is not None]
    return Execution(
        id=fields["id"],
        identifier=identifier,
        is_asynchronous=fields["is_asynchronous"],
        status=Status(fields["status"]),
        stdout=stdout.decode("utf-8", "replace"),
        stderr=_with_line(stderr.decode("utf-8", "replace"), "" if is_readable else UNREADABLE),
        value=value,
        queued_ms=fields["queued_ms"],
        outcome=None if fields["outcome"] is None else Outcome(fields["outcome"]),
        usage=None if fields["usage"] is None else Usage(**fields["usage"]),
        outputs=tuple(given),
        dropped_outputs=fields.get("dropped", 0) + len(displays) - len(given),
        variables=named,
        command_timeout=fields.get("command_timeout"),
        exit_code=fields.get("exit_code"),
    )


def _cut(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    parts, at = [], 0
    for size in sizes:
        parts.append(data[at : at + size])
        at += size
    return parts


def value_from(document: bytes, allowance: outputs.Allowance | None = None) -> tuple[Value, bool]:
    """The value that a sandbox sent, and whether it was one. The document is hostile input, also where it is well-formed."""
    if not document:
        return Value(), True
    try:
        fields: Any = (allowance or outputs.Allowance()).decode(document)
        kind, text = ValueKind(fields["kind"]), fields.get("text", "")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Value(), False
    held = fields.get("json")
    if not isinstance(text, str) or not _fits(kind, held) or _is_deep(document, held):
        return Value(), False
    return Value(kind, held, text), True


def _is_deep(document: bytes, held: object) -> bool:
    """Guests stop long before. Without that many brackets there is no need to look."""
    most = outputs.MAX_DEPTH
    return document.count(b"[") + document.count(b"{") > most and outputs.is_deeper(held, most)


def _fits(kind: ValueKind, held: Any) -> bool:
    match kind:
        case ValueKind.ABSENT | ValueKind.TEXT:
            return held is None
        case ValueKind.SCALAR:
            return held is None or isinstance(held, bool | int | float | str)
        case ValueKind.CONTAINER:
            return isinstance(held, list | dict)
        case ValueKind.IMAGE:
            return isinstance(held, dict) and all(isinstance(part, str) for part in held.values())


def _with_line(text: str, line: str) -> str:
    if not line:
        return text
    return text + ("" if not text or text.endswith("\n") else "\n") + line
