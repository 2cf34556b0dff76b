"""The host's side of an agent's channel: calls as streams over one socket, each answered within its time or the link is broken.

A broken link never mends: every stream fails with SessionLost, the socket is closed, and `on_broken` tells the owner, who kills the
sandbox. Frames of a stream that was given up may still be on their way; they are dropped, up to a bound. Anything else that was not
asked for (a stream number we never used, a frame after a stream's end, a wrong type, too much of anything) breaks the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

from carrel.errors import CarrelError, FileConflict, FilePathInvalid, SessionBusy, SessionEnded, SessionLost
from carrel.guest.frames import FrameError, Header, chunks, encode
from carrel.models import Condition, FileChange, FileInfo
from carrel.sessions import checks
from carrel.sessions.channel import Channel
from carrel.sessions.executions import Order
from carrel.sessions.streams import (
    LISTING_BYTES,
    Archive,
    Caps,
    Download,
    Flow,
    Listing,
    Run,
    Stream,
    Upload,
    Watch,
)
from carrel.sessions.transcript import Transcript

ANSWER_S = 5.0  # control calls
FILE_S = 30.0  # file calls: how long an agent may do nothing visible
MAX_STREAMS = 256
MAX_PATH = 4096  # PATH_MAX
PROTOCOL = 1
UNRESPONSIVE = "its agent stopped answering"

S = TypeVar("S", bound=Stream)


DELETED = "it was deleted"


def lost(reason: str) -> SessionLost:
    """What callers under way are told of a session that ended for `reason`."""
    kind = SessionEnded if reason == DELETED else SessionLost
    return kind(f"The session ended while the call was under way: {reason}.")


class AgentLink:
    """`on_died`: the interpreter ended while no code ran. `on_broken`: the link is no more, with the reason."""

    def __init__(self, sock: socket.socket, on_died: Callable[[], None], on_broken: Callable[[str], None]) -> None:
        self._on_died = on_died
        self._on_broken = on_broken
        self._streams: dict[int, Stream] = {}
        self._late: dict[int, int] = {}  # streams given up -> bytes that may still come
        self._next = 1
        self._may_die = False  # one `died` per interpreter
        self._lost: str | None = None
        self._channel = Channel(sock, self._received, self.close)

    @property
    def is_broken(self) -> bool:
        return self._lost is not None

    def close(self, reason: str) -> None:
        """Break the link for `reason`, which completes the sentence "The session ended while the call was under way: …"."""
        if self._lost is not None:
            return
        self._lost = reason
        self._channel.close()
        streams, self._streams = list(self._streams.values()), {}
        for stream in streams:
            stream.fail(self._error())
        self._on_broken(reason)

    # -- control -----------------------------------------------------------------------------------------------------

    async def hello(self) -> None:
        answer = await self._call("hello", ANSWER_S)
        if answer.get("protocol") != PROTOCOL:
            self.close("its agent speaks another protocol")
            raise self._error()

    async def attach(self, descriptors: Sequence[int], seconds: float) -> None:
        """Give the agent its interpreter; returns once that is ready. The caller closes `descriptors` afterwards."""
        self._may_die = True
        await self._call("attach", seconds, descriptors)

    async def reset(self) -> None:
        """Kill every process of the sandbox but the agent."""
        await self._call("reset", ANSWER_S)

    async def interrupt(self) -> None:
        await self._call("interrupt", ANSWER_S)

    # -- code --------------------------------------------------------------------------------------------------------

    def execute(self, order: Order, caps: Caps, transcript: Transcript, on_end: Callable[[], None]) -> Run:
        """Send code to run; `on_end` is called when the returned stream is over. Raises SessionLost."""
        run = self._open(Run(self._next, caps, transcript, on_end))
        number = run.number
        limits = {"stream_cap": caps.text, "value_cap": caps.value, "display_cap": caps.displays}
        request = [encode({"s": number, "op": "execute", **limits, **order.fields})]
        request += [encode({"s": number, "data": 1}, chunk) for chunk in chunks(order.code)]
        request += [encode({"s": number, "data": "variables"}, chunk) for chunk in chunks(order.variables)]
        request.append(encode({"s": number, "end": 1}))
        self._channel.send(b"".join(request))
        return run

    async def environment(self, document: bytes) -> None:
        """Give the interpreter the session's environment, a JSON object. What is sent to run afterwards has it."""
        stream = self._open(Stream(self._next))
        request = [encode({"s": stream.number, "op": "environment"})]
        request += [encode({"s": stream.number, "data": 1}, chunk) for chunk in chunks(document)]
        request.append(encode({"s": stream.number, "end": 1}))
        self._channel.send(b"".join(request))
        await self._finish(stream, ANSWER_S)

    def forget(self, stream: Stream) -> None:
        """Expect nothing more of `stream`; what still comes is dropped."""
        if self._streams.pop(stream.number, None) is not None:
            self._late[stream.number] = LISTING_BYTES

    # -- files -------------------------------------------------------------------------------------------------------

    async def stat(self, path: str) -> FileInfo:
        self._admit(path)
        return self._file(await self._call("stat", FILE_S, path=path))

    async def delete(self, path: str, condition: Condition) -> None:
        self._admit(path)
        await self._call("delete", FILE_S, path=path, **_demands(condition))

    async def make_directory(self, path: str) -> tuple[FileInfo, bool]:
        """And whether it was not there before."""
        self._admit(path)
        answer = await self._call("mkdir", FILE_S, path=path)
        return self._file(answer), answer.get("is_new") is True

    async def rename(self, path: str, to: str, overwrite: bool, condition: Condition) -> FileInfo:
        self._admit(path)
        self._admit(to)
        fields = {"path": path, "to": to, "overwrite": overwrite, **_demands(condition)}
        return self._file(await self._call("rename", FILE_S, **fields))

    async def list_files(self, path: str, recursive: bool) -> list[FileInfo]:
        self._admit(path)
        listing = self._open(Listing(self._next))
        self._send(listing, {"op": "list", "path": path, "recursive": recursive})
        await self._finish(listing, FILE_S)
        return listing.entries

    async def upload(self, path: str, content: AsyncIterator[bytes], condition: Condition) -> FileInfo:
        """Store `content`. Whatever it raises aborts the upload, and nothing is left of it in the sandbox."""
        self._admit(path)
        upload = self._open(Upload(self._next))
        try:
            self._send(upload, {"op": "upload", "path": path, **_demands(condition)})
            async for data in content:
                for chunk in chunks(data):
                    await self._send_chunk(upload, chunk)
                if upload.is_over:  # it failed early: the rest is not wanted
                    break
            else:
                self._send(upload, {"end": 1})
            return self._file(await self._finish(upload, FILE_S))
        finally:
            self._give_up(upload)

    @contextlib.asynccontextmanager
    async def download(self, path: str, offset: int, length: int | None) -> AsyncIterator[Download]:
        """Open a file; entered once its size is known. Read with `read`; leaving early stops the agent."""
        self._admit(path)
        download = self._open(Download(self._next))
        try:
            self._send(download, {"op": "download", "path": path, "offset": offset, "length": length})
            await self._begun(download)
            yield download
        finally:
            self._give_up(download)

    @contextlib.asynccontextmanager
    async def archive(self, path: str) -> AsyncIterator[Archive]:
        """A directory as a tar stream, to be read with `read`."""
        self._admit(path)
        archive = self._open(Archive(self._next))
        try:
            self._send(archive, {"op": "archive", "path": path})
            await self._begun(archive)
            yield archive
        finally:
            self._give_up(archive)

    @contextlib.asynccontextmanager
    async def watch(self, path: str, recursive: bool) -> AsyncIterator[Watch]:
        """What changes in a directory, to be read with `changes`; leaving stops the agent's looking."""
        self._admit(path)
        watch = self._open(Watch(self._next))
        try:
            self._send(watch, {"op": "watch", "path": path, "recursive": recursive})
            await self._begun(watch)
            yield watch
        finally:
            self._give_up(watch)

    async def _begun(self, flow: Flow) -> None:
        """Until its first frame is there. Raises what the agent reports instead."""
        while not flow.is_begun and not flow.is_over:
            await self._progress(flow, FILE_S)
        if flow.error is not None:
            raise flow.error

    async def read(self, flow: Flow) -> AsyncIterator[bytes]:
        """The bytes, as fast as they are taken. Raises FileConflict where user code cut the file meanwhile."""
        while True:
            while flow.has_piece:
                yield self._take(flow)
            if flow.is_over:
                break
            await self._progress(flow, FILE_S)
        flow.answer()
        if not flow.is_complete:
            raise FileConflict("The file changed while it was read.")

    async def changes(self, watch: Watch) -> AsyncIterator[list[FileChange]]:
        """As they are seen, until somebody leaves or something fails; silence may be long."""
        while True:
            while watch.has_piece:
                try:
                    yield checks.file_changes(self._take(watch))
                except FrameError as error:
                    self.close(f"its agent broke the protocol ({error})")
            if watch.is_over:
                break
            await watch.changed()
        watch.answer()

    def _take(self, flow: Flow) -> bytes:
        piece, credit = flow.take()
        if credit and not flow.is_over:
            self._send(flow, {"credit": credit})
        return piece

    # -- streams -----------------------------------------------------------------------------------------------------

    def _admit(self, path: str) -> None:
        """Bounds on file calls; control calls and code always get through."""
        if len(path) > MAX_PATH:
            raise FilePathInvalid("The path is too long.")
        if len(self._streams) >= MAX_STREAMS:
            raise SessionBusy("The session has too many calls under way.", headers={"Retry-After": "1"})

    def _open(self, stream: S) -> S:
        if self._lost is not None:
            raise self._error()
        self._next += 1
        self._streams[stream.number] = stream
        return stream

    async def _call(self, op: str, seconds: float, descriptors: Sequence[int] = (), **args: Any) -> Header:
        stream = self._open(Stream(self._next))
        self._channel.send(encode({"s": stream.number, "op": op, **args}), descriptors)
        return await self._finish(stream, seconds)

    async def _finish(self, stream: Stream, seconds: float) -> Header:
        """The stream's answer. An agent that takes longer than `seconds` for it has its link broken."""
        try:
            async with asyncio.timeout(seconds):
                while not stream.is_over:
                    await stream.changed()
        except TimeoutError:
            self.close(UNRESPONSIVE)
        finally:
            self._give_up(stream)
        return stream.answer()

    async def _progress(self, stream: Stream, seconds: float) -> None:
        """Until something happens on the stream; nothing for `seconds` breaks the link."""
        try:
            async with asyncio.timeout(seconds):
                await stream.changed()
        except TimeoutError:
            self.close(UNRESPONSIVE)

    async def _send_chunk(self, upload: Upload, chunk: memoryview) -> None:
        while upload.credit < len(chunk) and not upload.is_over:
            await self._progress(upload, FILE_S)
        if upload.is_over:
            return
        upload.credit -= len(chunk)
        self._channel.send(encode({"s": upload.number, "data": 1}, chunk))

    def _send(self, stream: Stream, header: Header) -> None:
        self._channel.send(encode({"s": stream.number, **header}))

    def _give_up(self, stream: Stream) -> None:
        """Tell the agent to stop, unless the stream is over."""
        if not stream.is_over and stream.number in self._streams:
            self._send(stream, {"abort": 1})
            self.forget(stream)

    def _file(self, answer: Header) -> FileInfo:
        try:
            return checks.file_info(answer.get("file"))
        except FrameError as error:
            self.close(f"its agent broke the protocol ({error})")
            raise self._error() from None

    def _error(self) -> CarrelError:
        return lost(str(self._lost))

    # -- what comes --------------------------------------------------------------------------------------------------

    def _received(self, header: Header, payload: bytes) -> None:
        number = checks.integer(header, "s")
        stream = self._streams.get(number)
        if stream is None:
            self._unclaimed(number, header, payload)
        elif "end" in header:
            stream.end(header)  # a last frame that is wrong leaves the stream open, to fail with the link
            self._streams.pop(number, None)
        elif "error" in header:
            stream.fail(checks.error(header["error"]))
            self._streams.pop(number, None)
        else:
            stream.data(header, payload)

    def _unclaimed(self, number: int, header: Header, payload: bytes) -> None:
        if number == 0:
            return self._event(header)
        if number not in self._late:
            raise FrameError("a frame for a stream that is not open")
        self._late[number] -= len(payload) + 64  # frames without payload are not free either
        if self._late[number] < 0:
            raise FrameError("a stream that was given up goes on")
        if "end" in header or "error" in header:
            del self._late[number]
        return None

    def _event(self, header: Header) -> None:
        if header.get("event") != "died" or not self._may_die:
            raise FrameError("an event that cannot be")
        self._may_die = False
        self._on_died()


def _demands(condition: Condition) -> Header:
    """A condition as the agent takes it."""
    demands = {"if_match": condition.if_match, "if_none_match": condition.if_none_match}
    return {name: list(tags) for name, tags in demands.items() if tags is not None}
