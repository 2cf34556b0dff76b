"""What an agent says is hostile input: each field is taken here, with its type and its bounds, or the link is broken.

Every function raises FrameError, which ends the channel it came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from typing import Any

from carrel import errors
from carrel.guest.frames import FrameError, Header
from carrel.models import ChangeKind, FileChange, FileInfo

MAX_NAME = 255 * 4  # NAME_MAX bytes; four times as many where each is written as an escape
MAX_DIRECTORY = 4096 * 4
MAX_MESSAGE = 1000
_ETAG = re.compile(r"[0-9a-f-]{1,80}")
MAX_SIZE = 2**63 - 1  # an off_t: a sparse file may claim it

# What an agent may say went wrong. It speaks about its own session's files and interpreter only: never about access or pools.
_SPEAKABLE: tuple[type[errors.CarrelError], ...] = (
    errors.RequestInvalid,
    errors.FilePathInvalid,
    errors.FileMissing,
    errors.DeleteMissing,
    errors.FileConflict,
    errors.ConditionNotMet,
    errors.ContentTooLarge,
    errors.RangeInvalid,
    errors.SessionBusy,
    errors.SandboxStartFailed,
    errors.DiskFull,
)
_BY_CODE = {kind.code: kind for kind in _SPEAKABLE}


def integer(header: Header, key: str, most: int = MAX_SIZE) -> int:
    """A number from 0 to `most`."""
    value = header.get(key)
    if type(value) is not int or not 0 <= value <= most:  # bool is an int, and not one of ours
        raise FrameError(f"{key} is not a number in range")
    return value


def word(header: Header, key: str, allowed: Collection[str]) -> str:
    """One of a few words; "" where there is none and that is one of them."""
    value = header.get(key, "")
    if not isinstance(value, str) or value not in allowed:
        raise FrameError(f"{key} is not one of its words")
    return value


def moment(header: Header, key: str) -> float:
    """A time in Unix seconds; user code may set a file's to before 1970."""
    value = header.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_SIZE < value < MAX_SIZE:
        raise FrameError(f"{key} is not a time")
    return float(value)


def text(header: Header, key: str, most: int) -> str:
    value = header.get(key)
    if not isinstance(value, str) or len(value) > most:
        raise FrameError(f"{key} is not a text of at most {most} characters")
    return value


def file_info(fields: Any) -> FileInfo:
    if not isinstance(fields, dict):
        raise FrameError("a file is not an object")
    name, directory = text(fields, "name", MAX_NAME), text(fields, "directory", MAX_DIRECTORY)
    if not name or "/" in name or "\0" in name + directory:
        raise FrameError("a file has no proper name")
    is_directory = fields.get("is_directory")
    if not isinstance(is_directory, bool):
        raise FrameError("is_directory is not a boolean")
    etag = text(fields, "etag", 80)  # it becomes a header of a reply
    if not _ETAG.fullmatch(etag):
        raise FrameError("etag is not one")
    return FileInfo(name, directory, is_directory, integer(fields, "size"), moment(fields, "modified_at"), etag)


def file_infos(payload: bytes) -> list[FileInfo]:
    """One page of a listing."""
    return [file_info(fields) for fields in _list(payload)]


def _list(payload: bytes) -> list[Any]:
    try:
        page = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FrameError("a page is not JSON") from error
    if not isinstance(page, list):
        raise FrameError("a page is not a list")
    return page


def file_changes(payload: bytes) -> list[FileChange]:
    """One page of what a watch has seen."""
    page = _list(payload)
    return [_file_change(fields) for fields in page]


def _file_change(fields: Any) -> FileChange:
    if not isinstance(fields, dict):
        raise FrameError("a change is not an object")
    kind = ChangeKind(word(fields, "kind", frozenset(ChangeKind)))
    return FileChange(kind, None if kind is ChangeKind.WATCHING else file_info(fields.get("file")))


def error(fields: Any) -> errors.CarrelError:
    """The error that an agent reports, as one of those that it may report."""
    if not isinstance(fields, dict):
        raise FrameError("an error is not an object")
    code = text(fields, "code", 100)
    message = _printable(text(fields, "message", MAX_MESSAGE))
    kind: Callable[[str], errors.CarrelError] = _BY_CODE.get(code, errors.CarrelError)
    return kind(message)


def _printable(message: str) -> str:
    return "".join(character if character.isprintable() else " " for character in message)
