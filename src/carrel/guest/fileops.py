"""The agent's file calls: what is under way on which stream, and the answers.

`files.py` does the single steps below /mnt/data; here they become the channel's operations. Nothing here waits: an upload takes what
comes, a download sends a chunk in each round of the agent's loop, as far as the host's credit goes.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Protocol

from carrel.guest import frames
from carrel.guest.archive import Archive
from carrel.guest.files import Tree
from carrel.guest.paths import Condition, FileError, translated
from carrel.guest.uploads import Upload
from carrel.guest.watch import Watch

# Characters of a listing in one frame; one entry more, of the longest path there is, still fits the payload.
_PAGE = 64 * 1024
_CHUNK = frames.MAX_PAYLOAD
ARCHIVES, WATCHES = 4, 4  # at once


class Reply(Protocol):
    """The agent's side of the channel."""

    def send(self, stream: int, payload: bytes | memoryview = b"", **fields: object) -> None:
        """Put a frame in line."""

    def fail(self, stream: int, code: str, message: str) -> None:
        """Answer with an error, and forget the stream."""

    def flush(self) -> None:
        """Send what is in line."""


class Source(Protocol):
    """What is sent piece by piece, as far as the host's credit goes."""

    name: str  # of its frames
    least_credit: int  # less than this, and it waits

    @property
    def wake_at(self) -> float:
        """When it has something to say next (monotonic); in the past for at once."""

    def read(self, most: int) -> bytes | None:
        """A piece, b"" for none at the moment, None at the end. Raises FileError."""

    def close(self) -> None: ...


class Download:
    name = "file"
    least_credit = 1
    wake_at = 0.0

    def __init__(self, fd: int, length: int) -> None:
        self._fd, self._left = fd, length

    def read(self, most: int) -> bytes | None:
        if not self._left:
            return None
        data = os.read(self._fd, min(most, self._left))
        if not data:
            raise FileError("FileConflict", "The file was cut while it was being read.")
        self._left -= len(data)
        return data

    def close(self) -> None:
        os.close(self._fd)


class Flow:
    """A source on a stream."""

    def __init__(self, source: Source) -> None:
        self.source, self.credit = source, frames.INITIAL_CREDIT

    @property
    def can_go_on(self) -> bool:
        return self.credit >= self.source.least_credit


class FileOperations:
    """The file calls of one agent, below `root`. Every method may raise FileError or OSError, which ends the stream at hand."""

    def __init__(self, root: str, reply: Reply) -> None:
        self._tree, self._reply = Tree(root), reply
        self._uploads: dict[int, Upload] = {}
        self._flows: dict[int, Flow] = {}

    def used(self) -> int | None:
        """Bytes that the files take, where anybody can say."""
        return self._tree.used()

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
        if stream in self._flows:
            self._flows[stream].credit += count

    def drop(self, stream: int) -> None:
        """Forget a stream and what it holds."""
        if (upload := self._uploads.pop(stream, None)) is not None:
            upload.close()
        if (flow := self._flows.pop(stream, None)) is not None:
            flow.source.close()

    @property
    def patience(self) -> float | None:
        """How long the loop may sleep for us: not at all while there is something to send."""
        due = [flow.source.wake_at for flow in self._flows.values() if flow.can_go_on]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def send_some(self) -> None:
        """One piece of every flow that has credit: between two rounds everything else gets its turn."""
        for stream, flow in list(self._flows.items()):
            if flow.can_go_on and flow.source.wake_at <= time.monotonic():
                try:
                    self._send_piece(stream, flow)
                except FileError as error:
                    self._reply.fail(stream, error.code, str(error))
                except OSError as error:
                    failure = translated(error, "")
                    self._reply.fail(stream, failure.code, str(failure))

    def _send_piece(self, stream: int, flow: Flow) -> None:
        data = flow.source.read(min(_CHUNK, flow.credit))
        if data is None:
            self.drop(stream)
            self._reply.send(stream, end=1)
        elif data:
            flow.credit -= len(data)
            self._reply.send(stream, data, data=flow.source.name)

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
        self._flows[stream] = Flow(Download(fd, length))
        self._reply.send(stream, data="info", file=info, start=offset, length=length)

    def _archive(self, stream: int, header: frames.Header) -> None:
        self._admit(Archive, ARCHIVES)
        self._flows[stream] = Flow(Archive(self._tree.open_directory(str(header["path"]))))
        self._reply.send(stream, data="info")

    def _watch(self, stream: int, header: frames.Header) -> None:
        self._admit(Watch, WATCHES)
        path = str(header["path"])
        os.close(self._tree.open_directory(path))  # one that is not there is an error, not an empty one
        self._flows[stream] = Flow(Watch(self._tree, path, bool(header.get("recursive"))))
        self._reply.send(stream, data="info")

    def _admit(self, kind: type[Archive | Watch], most: int) -> None:
        """Each holds descriptors, or what it has seen."""
        if sum(isinstance(flow.source, kind) for flow in self._flows.values()) >= most:
            raise FileError("TooManyRequests", f"A session has at most {most} of these calls at once.")

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
        "archive": _archive,
        "watch": _watch,
    }


def _condition(header: frames.Header) -> Condition:
    return Condition(header.get("if_match"), header.get("if_none_match"))
