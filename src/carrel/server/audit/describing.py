"""What a record says of code that ran and of files that went in or out: never the code, its output or a name, unless the pool's logs do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping

from carrel.models import Execution, ExecutionSpec, LogRecords, PoolSpec

MOST_CODE = 48 * 1024  # characters as JSON has them; what is longer is cut, and its hash is of all of it
_LONGEST_EXTENSION = 12

_OPEN = ("tags", "secrets", "environment", "env")
_MOST_PATHS = 50

Details = dict[str, object]


def execution(pool: PoolSpec, spec: ExecutionSpec, found: Execution) -> Details:
    """An execution as it stands when its caller is answered: of one that goes on there is no end in here."""
    details = result(found) | _program(pool, spec)
    if found.is_asynchronous:
        details["isAsynchronous"] = True
    return details


def result(found: Execution) -> Details:
    """What came of an execution, for one who asks for it."""
    said = len(found.stdout.encode(errors="replace")) + len(found.stderr.encode(errors="replace"))
    told: Details = {"execution": found.id, "status": str(found.status), "ms": found.wall_ms}
    return told | {"outputBytes": said, "outputs": len(found.outputs)}


def begun(pool: PoolSpec, spec: ExecutionSpec, id: str) -> Details:
    """An execution whose end nobody here has seen."""
    return {"execution": id, **_program(pool, spec)}


def file(digest: Callable[[str], str], path: str, size: int | None = None) -> Details:
    """By a digest of its path below /mnt/data, and by its extension."""
    details: Details = {"file": digest(path)}
    extension = path.rpartition("/")[2].rpartition(".")[2].lower()
    if "." in path and extension.isalnum() and extension.isascii() and len(extension) <= _LONGEST_EXTENSION:
        details["extension"] = extension
    return details if size is None else {**details, "bytes": size}


def paths_of(body: Mapping[str, object]) -> list[str]:
    """Which properties a request gives, by their paths: what they are may be secret. Names that are callers' own are none of these."""
    found: list[str] = []
    for name, value in body.items():
        if len(found) >= _MOST_PATHS:
            break
        is_open = isinstance(value, dict) and name not in _OPEN
        found += [f"{name}.{path}" for path in paths_of(value)] if is_open and isinstance(value, dict) else [name[:64]]
    return found[:_MOST_PATHS]


def _program(pool: PoolSpec, spec: ExecutionSpec) -> Details:
    """Its size; its hash and itself as far as the pool's logs keep them."""
    text = _text(spec)
    whole = text.encode("utf-8", "surrogatepass")
    details: Details = {"codeBytes": len(whole)}
    if pool.logs is not LogRecords.OFF:
        details["codeSha256"] = hashlib.sha256(whole).hexdigest()
    if pool.logs in (LogRecords.CODE, LogRecords.FULL):
        details["code"] = Code(_cut(text))
    return details


class Code(str):
    """A text that records do not shorten: it was."""

    __slots__ = ()


def _text(spec: ExecutionSpec) -> str:
    if spec.shell is None:
        return spec.code
    words = [spec.shell.command] if spec.shell.command is not None else list(spec.shell.argv or ())
    return "\n".join([*(word or "" for word in words), *([spec.shell.stdin] if spec.shell.stdin else [])])


def _cut(text: str) -> str:
    """As much of it as is MOST_CODE long in JSON, which writes some characters as six, or twelve."""
    text = text[:MOST_CODE]
    while (length := len(json.dumps(text))) > MOST_CODE:
        text = text[: min(len(text) - 1, len(text) * MOST_CODE // length)]
    return text
