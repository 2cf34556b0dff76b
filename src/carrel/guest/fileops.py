"""The agent's file calls: what is under way on which stream, and the answers.

`files.py` does the single steps below /mnt/data; here they become the channel's operations. Nothing here waits: an upload takes what
comes, a download sends a chunk in each round of the agent's loop, as far as the host's credit goes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Protocol

from carrel.guest import frames
from carrel.guest.files import Tree
from carrel.guest.paths import Condition, FileError
from carrel.guest.uploads import Upload

# Characters of a listing in one frame; one entry more, of the longest path there is, still fits the payload.
_PAGE = 64 * 1024
_CHUNK = frames.MAX_PAYLOAD


class Reply(Protocol):
    """The agent's side of the channel."""

    def send(self, stream: int, payload: bytes | memoryview = b"", **fields: object) -> None:
        """Put a frame in line."""

    def fail(self, stream: int, code: str, message: str) -> None:
        """Answer with an error, and forget the stream."""

    def flush(self) -> None:
        """Send what is in line."""


class Download:
    def __init__(self, fd: int, length: int) -> None:
        self.fd, self.left, self.credit = fd, length, frames.INITIAL_CREDIT


class FileOperations:
    """The file calls of one agent, below `root`. Every method may raise FileError or OSError, which ends the stream at hand."""

    def __init__(self, root: str, reply: Reply) -> None:
        self._tree, self._reply = Tree(root), reply
        self._uploads: dict[int, Upload] = {}
        self._downloads: dict[int, Download] = {}

    def begin(self, stream: int, header: frames.Header) -> None:
        """The first frame of a call. Raises KeyError for an operation that there is not."""
        self._operations[header["op"]](self, stream, header)

    def on_body(self, stream: int, payload: bytes) -> None:
        if stream in self._uploads:
            self._uploads[stream].write(payload)
            self._reply.send(stream, credit=len(payload))

    def on_end(self, stream: int) -> None:
        if stream in self._uploads:
            self._reply.send(stream, end=1, file=self._uploads.pop(stream).commit())

    def on_credit(self, stream: int, count: int) -> None:
        if stream in self._downloads:
            self._downloads[stream].credit += count

    def drop(self, stream: int) -> None:
        """Forget a stream and what it holds."""
        if (upload := self._uploads.pop(stream, None)) is not None:
            upload.close()
        if (download := self._downloads.pop(stream, None)) is not None:
            os.close(download.fd)

    @property
    def has_sendable(self) -> bool:
        return any(download.credit > 0 or download.left == 0 for download in self._downloads.values())

    def send_some(self) -> None:
        """One chunk of every download that has credit: between two rounds everything else gets its turn."""
        for stream, download in list(self._downloads.items()):
            if download.left == 0:
                self.drop(stream)
                self._reply.send(stream, end=1)
            elif download.credit > 0:
                data = os.read(download.fd, min(_CHUNK, download.left, download.credit))
                if not data:
                    self._reply.fail(stream, "FileConflict", "The file was cut while it was being read.")
                    continue
                download.left -= len(data)
                download.credit -= len(data)
                self._reply.send(stream, data, data="file")

    def _upload(self, stream: int, header: frames.Header) -> None:
        self._uploads[stream] = self._tree.upload(str(header["path"]), _condition(header))

    def _download(self, stream: int, header: frames.Header) -> None:
        fd, info = self._tree.open_for_reading(str(header["path"]))
        size, offset = info["size"], int(header.get("offset") or 0)
        if offset and offset >= size:
            os.close(fd)
            raise FileError("RangeNotSatisfiable", f"The file has {size} bytes.")
        wanted = header.get("length")
        length = size - offset if wanted is None else min(int(wanted), size - offset)
        os.lseek(fd, offset, os.SEEK_SET)
        self._downloads[stream] = Download(fd, length)
        self._reply.send(stream, data="info", file=info, start=offset, length=length)

    def _list(self, stream: int, header: frames.Header) -> None:
        page, size = [], 0
        for info in self._tree.list(str(header.get("path", "")), bool(header.get("recursive"))):
            page.append(json.dumps(info, separators=(",", ":")))
            size += len(page[-1])
            if size > _PAGE:
                self._send_entries(stream, page)
                page, size = [], 0
        self._send_entries(stream, page)
        self._reply.send(stream, end=1)

    def _send_entries(self, stream: int, page: list[str]) -> None:
        self._reply.send(stream, f"[{','.join(page)}]".encode(), data="entries")
        self._reply.flush()

    def _stat(self, stream: int, header: frames.Header) -> None:
        self._reply.send(stream, end=1, file=self._tree.stat(str(header["path"])))

    def _delete(self, stream: int, header: frames.Header) -> None:
        self._tree.delete(str(header["path"]), _condition(header))
        self._reply.send(stream, end=1)

    def _make_directory(self, stream: int, header: frames.Header) -> None:
        file, is_new = self._tree.make_directory(str(header["path"]))
        self._reply.send(stream, end=1, file=file, is_new=is_new)

    def _rename(self, stream: int, header: frames.Header) -> None:
        path, to, overwrite = str(header["path"]), str(header["to"]), bool(header.get("overwrite"))
        file = self._tree.rename(path, to, overwrite=overwrite, condition=_condition(header))
        self._reply.send(stream, end=1, file=file)

    _operations: dict[str, Callable[[FileOperations, int, frames.Header], None]] = {  # noqa: RUF012 - never written to
        "upload": _upload,
        "download": _download,
        "list": _list,
        "stat": _stat,
        "delete": _delete,
        "mkdir": _make_directory,
        "rename": _rename,
    }


def _condition(header: frames.Header) -> Condition:
    return Condition(header.get("if_match"), header.get("if_none_match"))
