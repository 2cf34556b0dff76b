"""What a model gets back: content that it reads, and the same as structured data. Plain dictionaries, as MCP has them on the wire."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from carrel import errors
from carrel.errors import CarrelError
from carrel.models import Execution, FileInfo, Output, Status, ValueKind
from carrel.wire.files import content_type, path_of
from carrel.wire.times import timestamp

MAX_INLINE = 8 * 1024 * 1024  # bytes of images or of a file in one result: what a model is shown, not how data is moved
_MAX_TEXT = 1024 * 1024  # characters of a value in the text that is shown beside the structured data
_MAX_OUTPUTS = 256 * 1024  # characters of displays as data: tables and charts, not documents
_IMAGES = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "gif": "image/gif", "webp": "image/webp"}

Result = dict[str, Any]


def text(*lines: str) -> dict[str, Any]:
    return {"type": "text", "text": "\n".join(lines)}


def result(structured: Mapping[str, Any], content: Sequence[Mapping[str, Any]]) -> Result:
    return _encodable({"content": list(content), "structuredContent": dict(structured), "isError": False})


def _encodable(found: Result) -> Result:
    """Without halves of surrogate pairs, which code can make its value of: the package has no answer at all for what is no UTF-8."""
    written = json.dumps(found, ensure_ascii=False)
    try:
        written.encode()
    except UnicodeEncodeError:
        return dict(json.loads(written.encode("utf-8", "replace")))
    return found


def of_execution(execution: Execution) -> Result:
    """Code that failed is a result like any other: clients that raise where they see `isError` would hide it from the model."""
    value, images = _value(execution)
    images += [image for image in _displayed(execution.outputs) if image not in images]
    structured = _ran(execution) | {"executionResult": value, "outputs": list(_as_data(execution.outputs))}
    return result(structured, [_shown(execution, value, ""), *_within(images)])


def of_command(execution: Execution) -> Result:
    """Of a fresh process: it has no value, but an exit code."""
    code = execution.exit_code
    structured = _ran(execution) | {"exitCode": code}
    return result(structured, [_shown(execution, None, "" if code is None else f", exit code {code}")])


def of_files(environment: str, files: Sequence[FileInfo], most: int) -> Result:
    shown = [_file(info) for info in files[:most]]
    lines = [f"{each['path']}{'/' if each['type'] == 'directory' else ''}\t{each['sizeInBytes']}" for each in shown]
    if len(files) > most:
        lines.append(f"… and {len(files) - most} more: list a directory")
    structured = {"environmentId": environment, "files": shown, "isTruncated": len(files) > most}
    return result(structured, [text(*(lines or ["/mnt/data is empty." if not files else ""]))])


def of_download(environment: str, info: FileInfo, offset: int, data: bytes) -> Result:
    """The bytes as what they are: an image to look at, text to read, or a resource."""
    path, mime = path_of(info), content_type(info.name)
    kind = mime.partition(";")[0]
    structured = {
        "environmentId": environment,
        "path": path,
        "mimeType": kind,
        "sizeInBytes": info.size,
        "offset": offset,
        "length": len(data),
    }
    is_whole = len(data) == info.size
    if is_whole and kind in _IMAGES.values():
        return result(structured, [text(f"{path}, {info.size} bytes"), _image(base64.b64encode(data).decode(), kind)])
    resource: dict[str, Any] = {"uri": f"file:///mnt/data/{quote(path, errors='replace')}", "mimeType": kind}
    readable = _as_text(data)
    if readable is not None:
        return result(structured, [{"type": "text", "text": readable}])
    resource["blob"] = base64.b64encode(data).decode()
    return result(structured, [text(f"{path}, {len(data)} bytes"), {"type": "resource", "resource": resource}])


def of_error(error: CarrelError) -> Result:
    """An error of ours, and what can be done about it."""
    hint = next((words for kind, words in _HINTS if isinstance(error, kind)), "")
    return {"content": [text(f"{error.code}: {error.message}{hint}")], "isError": True}


def of_refusal(words: str) -> Result:
    return {"content": [text(words)], "isError": True}


_HINTS: tuple[tuple[type[CarrelError], str], ...] = (
    (errors.IdentifierLengthInvalid, " Use the environmentId that launchShell returned."),
    (errors.PoolFull, " Stop environments that are done with stopEnvironment, or try again in a minute."),
    (errors.SessionBusy, " Wait for the calls that are under way, then try again."),
    (errors.SessionLost, " The environment's files and variables are gone: start again, in smaller steps."),
    (errors.SandboxStartFailed, " Try again in a moment."),
    (errors.HostUnavailable, " Try again in a moment."),
    (errors.FileMissing, " See what there is with listFiles."),
    (errors.DiskFull, " Delete files that are not needed any more."),
    (errors.ContentTooLarge, " Write it in parts with code, or make it smaller."),
)


def _ran(execution: Execution) -> dict[str, Any]:
    return {
        "environmentId": execution.identifier,
        "executionId": execution.id,
        "status": execution.status.value,
        "outcome": execution.outcome.value if execution.outcome else "",
        "stdout": execution.stdout,
        "stderr": execution.stderr,
        "executionTimeInMilliseconds": execution.wall_ms,
    }


def _value(execution: Execution) -> tuple[Any, list[dict[str, Any]]]:
    """The last expression's value as data, and the image that it is, if it is one: twice in a result would be megabytes too many."""
    value = execution.value
    if value.kind is ValueKind.ABSENT:
        return "", []
    if value.kind is ValueKind.TEXT:
        return value.text, []
    if value.kind is ValueKind.IMAGE and (image := _of_value(value.json)) is not None:
        return "", [image]
    return value.json, []


def _of_value(json_value: Any) -> dict[str, Any] | None:
    """The guest says that it is an image: believed where it is base64 and of a kind that clients show."""
    if not isinstance(json_value, dict):
        return None
    kind = _IMAGES.get(str(json_value.get("format")))
    data = json_value.get("base64_data")
    return _image(data, kind) if kind and isinstance(data, str) and _is_base64(data) else None


def _displayed(outputs: Sequence[Output]) -> Iterator[dict[str, Any]]:
    """The images among what was displayed: of each display the first kind that clients show."""
    for output in outputs:
        for kind in ("image/png", "image/jpeg", "image/gif", "image/webp"):
            data = output.data.get(kind)
            if isinstance(data, str) and _is_base64(data := "".join(data.split())):
                yield _image(data, kind)
                break


def _as_data(outputs: Sequence[Output]) -> Iterator[dict[str, Any]]:
    """What was displayed but its images, as far as there is room for it. Text alone is on stdout, or the value."""
    left = _MAX_OUTPUTS
    for output in outputs:
        bundle = {}
        for kind, data in output.data.items():
            size = len(data) if isinstance(data, str) else len(json.dumps(data))
            if (not kind.startswith("image/") or kind == "image/svg+xml") and size <= left:
                left -= size
                bundle[kind] = data
        if bundle.keys() - {"text/plain"}:
            yield bundle


def _shown(execution: Execution, value: Any, ending: str) -> dict[str, Any]:
    """All of it as a person would read it in a terminal."""
    parts = [execution.stdout.rstrip("\n")] if execution.stdout else []
    if execution.stderr:
        parts.append(f"stderr:\n{execution.stderr.rstrip()}")
    if value not in ("", None):
        written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        parts.append(written if len(written) <= _MAX_TEXT else f"{written[:_MAX_TEXT]}…")
    if execution.status is not Status.SUCCEEDED:
        parts.append(f"{execution.status.value}: {execution.outcome or 'unknown'}{ending}")
    return text(*(parts or ["(no output)"]))


def _within(images: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    left = MAX_INLINE
    for image in images:
        size = len(image["data"]) * 3 // 4
        if size <= left:
            left -= size
            yield image
        else:
            yield text(f"(an image of {size} bytes is too large to show: save it to a file in /mnt/data)")


def _image(data: str, kind: str) -> dict[str, Any]:
    return {"type": "image", "data": data, "mimeType": kind}


def _is_base64(data: str) -> bool:
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _file(info: FileInfo) -> dict[str, Any]:
    return {
        "path": path_of(info),
        "type": "directory" if info.is_directory else "file",
        "sizeInBytes": info.size,
        "lastModifiedAt": timestamp(info.modified_at),
    }


def _as_text(data: bytes) -> str | None:
    """None where it is not text: not UTF-8, or with control characters that no text has."""
    try:
        decoded = data.decode()
    except UnicodeDecodeError:
        return None
    return None if any(character < " " and character not in "\t\n\r\f\x1b" for character in decoded) else decoded
