"""Files in both shapes, their content types, and byte ranges."""

from __future__ import annotations

import mimetypes
import re
from typing import Any
from urllib.parse import quote

from carrel.errors import RangeInvalid, RequestInvalid
from carrel.models import FileInfo
from carrel.wire import jsons, names
from carrel.wire.times import timestamp

# The library's own table only: the machine's /etc/mime.types must not change replies. Added: what data people exchange.
_TYPES = mimetypes.MimeTypes(filenames=())
for _extension, _type in {
    ".md": "text/markdown",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".toml": "application/toml",
    ".ipynb": "application/x-ipynb+json",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".webp": "image/webp",
    ".js": "text/javascript",
    ".log": "text/plain",
}.items():
    _TYPES.add_type(_type, _extension)

_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*", re.IGNORECASE | re.ASCII)
_DIGITS = 18  # of a number in a range: more would not fit a file offset


def path_of(info: FileInfo) -> str:
    """Relative to /mnt/data."""
    return f"{info.directory}/{info.name}" if info.directory else info.name


def content_type(name: str) -> str:
    """By the extension; text is UTF-8 as far as anybody knows."""
    kind, encoding = _TYPES.guess_type(f"file:{quote(name, errors='replace')}")
    if kind is None or encoding is not None:
        return {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}.get(
            encoding or "", "application/octet-stream"
        )
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def encode_old_files(files: list[FileInfo]) -> bytes:
    """The shape of api-versions up to 2024-08-02-preview: also for one file. It knows no directories; names hold their path.

    Azure numbers "$id" depth-first from 1: recordings compare equal only with it.
    """
    value = [
        {"$id": str(2 * n + 2), "properties": {"$id": str(2 * n + 3), **_old_properties(info)}}
        for n, info in enumerate(info for info in files if not info.is_directory)
    ]
    return jsons.encode({"$id": "1", "value": value})


def encode_files(files: list[FileInfo]) -> bytes:
    return jsons.encode({"value": [_resource(info) for info in files], "nextLink": None})


def encode_file(info: FileInfo) -> bytes:
    return jsons.encode(_resource(info))


def encode_old_deletion() -> bytes:
    return jsons.encode({"message": "file deleted successfully"})


def decode_rename(body: bytes) -> tuple[str, bool]:
    """The new path, relative to /mnt/data, and whether it may replace what is there. Raises RequestInvalid, FilePathInvalid."""
    fields = jsons.decode_object(body)
    if unknown := [name for name in fields if name not in ("to", "overwrite")]:
        raise RequestInvalid("Known are 'to' and 'overwrite'.", target=unknown[0][:100])
    to, overwrite = fields.get("to"), fields.get("overwrite", False)
    if not isinstance(to, str):
        raise RequestInvalid("'to' must be a path.", target="to")
    if not isinstance(overwrite, bool):
        raise RequestInvalid("'overwrite' must be true or false.", target="overwrite")
    return names.decode_file_path(to), overwrite


def decode_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Offset and length of a single byte range in a file of `size` bytes; None where the whole file is the answer.

    A range that cannot be read, or several of them, is ignored (RFC 9110 §14.2). Raises RangeInvalid where it lies outside.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None or match[1] == match[2] == "" or max(len(match[1]), len(match[2])) > _DIGITS:
        return None
    if match[1] == "":
        length = min(int(match[2]), size)
        start = size - length
    else:
        start = int(match[1])
        end = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < start:
            return None
        length = end - start + 1
    if length <= 0:
        raise RangeInvalid(
            "The range lies outside the file.", target="Range", headers={"Content-Range": f"bytes */{size}"}
        )
    return start, length


def _old_properties(info: FileInfo) -> dict[str, Any]:
    return {"filename": path_of(info), "size": info.size, "lastModifiedTime": timestamp(info.modified_at)}


def _resource(info: FileInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "directory": info.directory or ".",  # the root is "." on the live service
        "type": "directory" if info.is_directory else "file",
        "contentType": "application/octet-stream" if info.is_directory else content_type(info.name),
        "sizeInBytes": info.size,
        "lastModifiedAt": timestamp(info.modified_at),
    }
