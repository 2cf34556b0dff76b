"""The rules for what callers may name: sessions, executions, files and directories.

A file name travels on to the agent as a path relative to /mnt/data, which opens it without following links; the checks here are
for clear answers and to keep `..` and control characters out of every layer below, not the only lock on the door.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import unquote_to_bytes

from carrel.errors import FilePathInvalid, IdentifierLengthInvalid, RequestInvalid

DATA = "/mnt/data"
MAX_SEGMENT_BYTES = 255  # NAME_MAX of every Linux file system in use
MAX_PATH_BYTES = 2048  # well below PATH_MAX (4096), which counts the mount point too
MAX_DEPTH = 32

_IDENTIFIER = re.compile(r"[ -~]*")
_OPERATION = re.compile(r"[A-Za-z0-9._~:@=+-]{1,128}")
_QUOTED_ONLY = re.compile(r"[A-Za-z0-9._~%-]+")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


def decode_identifier(text: str | None) -> str:
    """A session's identifier: 4-128 printable ASCII characters, space included, case-sensitive; any other is an error."""
    if text is None:
        raise RequestInvalid("The query parameter 'identifier' is required.", target="identifier")
    if not 4 <= len(text) <= 128:
        raise IdentifierLengthInvalid("The session identifier must have 4 to 128 characters.", target="identifier")
    if not _IDENTIFIER.fullmatch(text):
        raise RequestInvalid("The session identifier may hold printable ASCII characters only.", target="identifier")
    return text


def decode_operation_id(text: str | None) -> str | None:
    """The `operation-id` header: an id of the caller's choice for an execution, fit to stand in a URL path."""
    if text is None:
        return None
    if not _OPERATION.fullmatch(text):
        raise RequestInvalid("operation-id: 1 to 128 of A-Z a-z 0-9 . _ ~ : @ = + -", target="operation-id")
    return text


def decode_directory(text: str | None) -> str:
    """A `path` parameter as a directory relative to /mnt/data, "" for /mnt/data itself. Raises FilePathInvalid."""
    return "/".join(_segments(text, _relative(text))) if text and text not in ("/", ".") else ""


def decode_file_path(name: str, directory: str = "") -> str:
    """A file's name (which may hold directories of its own) below `directory`, as a path relative to /mnt/data.

    `directory` must come from decode_directory. Raises FilePathInvalid.
    """
    segments = _segments(name, _relative(name))
    if not segments:
        raise _invalid(name, "a file name is required")
    path = "/".join([directory, *segments] if directory else segments)
    if path.count("/") >= MAX_DEPTH or len(path.encode()) > MAX_PATH_BYTES:
        raise _invalid(name, "the path is too long or too deep")
    return path


def decode_upload_name(raw: bytes) -> str:
    """The file name of a multipart part as the caller meant it.

    aiohttp percent-encodes names where requests, httpx and curl send raw UTF-8, so a literal `%20` is ambiguous: decoding only names
    made of nothing but unreserved characters and escapes satisfies every client. Browsers and Node write a quote as `%22` (WHATWG).
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FilePathInvalid("The file name is not UTF-8.", target="filename") from error
    if not _QUOTED_ONLY.fullmatch(text):
        return text.replace("%22", '"')
    return unquote(text) if _ESCAPE.search(text) else text


def unquote(text: str) -> str:
    """Percent-decoding, once; text that is not UTF-8 afterwards was never encoded, and stays as it is."""
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        return text


def _relative(text: str) -> str:
    """Without the /mnt/data that several clients put in front. An absolute path elsewhere is an error, not a name below it."""
    if text == DATA:
        return ""
    if text.startswith(DATA + "/"):
        return text[len(DATA) + 1 :]
    if text.startswith("/"):
        raise _invalid(text, "path cannot contain any reserved file path characters")
    return text


def _segments(whole: str, relative: str) -> list[str]:
    segments = [segment for segment in relative.split("/") if segment]
    if len(segments) > MAX_DEPTH or len(relative) > MAX_PATH_BYTES:
        raise _invalid(whole, "the path is too long or too deep")
    for segment in segments:
        if fault := _fault(segment):
            raise _invalid(whole, fault)
    return segments


def _fault(segment: str) -> str | None:
    if segment in (".", ".."):
        return "path cannot contain '.' or '..'"
    if "\\" in segment or any(unicodedata.category(character) in ("Cc", "Cs") for character in segment):
        return "path cannot contain any reserved file path characters"
    if len(segment.encode()) > MAX_SEGMENT_BYTES:
        return f"a name may have {MAX_SEGMENT_BYTES} bytes at most"
    return None


def _invalid(text: str, reason: str) -> FilePathInvalid:
    shown = text.encode("unicode_escape").decode("ascii")[:200]
    return FilePathInvalid(f"File Path '{shown}' is invalid because '{reason}'.", target="path")
