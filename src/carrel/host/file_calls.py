"""What hostlink can ask of a session's files. All of it allocates the session where there is none."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator

from carrel.guest.frames import MAX_PAYLOAD
from carrel.host import codec
from carrel.host.call import Call
from carrel.host.code_calls import seen
from carrel.models import FileInfo
from carrel.sessions.keeper import Keeper
from carrel.sessions.session import Session


class FileCalls:
    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self.ops: dict[str, Callable[[Call], Awaitable[None]]] = {
            "list": self._list,
            "stat": self._stat,
            "delete": self._delete,
            "mkdir": self._make_directory,
            "rename": self._rename,
            "upload": self._upload,
            "download": self._download,
            "archive": self._archive,
            "watch": self._watch,
        }

    async def _list(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        files = await session.list_files(str(call.header["path"]), bool(call.header["recursive"]))
        for page in _pages(files):
            await call.send({"data": 1}, page)
        call.end(seen(session, is_new))

    async def _stat(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        file = await session.stat(str(call.header["path"]))
        call.end({**seen(session, is_new), "file": codec.file_to(file)})

    async def _delete(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        await session.delete_file(str(call.header["path"]), codec.condition_from(call.header))
        call.end(seen(session, is_new))

    async def _make_directory(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        file, is_made = await session.make_directory(str(call.header["path"]))
        call.end({**seen(session, is_new), "file": codec.file_to(file), "is_made": is_made})

    async def _rename(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        path, to, overwrite = str(call.header["path"]), str(call.header["to"]), bool(call.header["overwrite"])
        file = await session.rename(path, to, overwrite, codec.condition_from(call.header))
        call.end({**seen(session, is_new), "file": codec.file_to(file)})

    async def _upload(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        file = await session.upload(
            str(call.header["path"]), call.body(), codec.condition_from(call.header), call.principal
        )
        call.end({**seen(session, is_new), "file": codec.file_to(file)})

    async def _download(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        offset, length = call.header["offset"], call.header["length"]
        async with session.download(str(call.header["path"]), offset, length, call.principal) as reading:
            start = {"file": codec.file_to(reading.file), "start": reading.start, "length": reading.length}
            await call.send({**seen(session, is_new), **start})
            async for chunk in reading.chunks:
                await call.send({"data": 1}, chunk)
        call.end({})

    async def _archive(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        async with session.archive(str(call.header["path"]), call.principal) as pieces:
            await call.send(seen(session, is_new))
            async for piece in pieces:
                await call.send({"data": 1}, piece)
        call.end({})

    async def _watch(self, call: Call) -> None:
        session, is_new = await self._allocate(call)
        async with session.watch(str(call.header["path"]), bool(call.header["recursive"])) as pages:
            await call.send(seen(session, is_new))
            while (page := await call.while_there(anext(pages, None))) is not None:
                await call.send({"data": 1}, codec.json_to([codec.change_to(change) for change in page]))
        call.end({})

    async def _allocate(self, call: Call) -> tuple[Session, bool]:
        return await self._keeper.session(call.pool, call.identifier, call.principal)


def _pages(files: Iterable[FileInfo]) -> Iterator[bytes]:
    """The listing as JSON arrays; half a frame each, so that one more entry fits however long its path is."""
    page: list[bytes] = []
    size = 0
    for file in files:
        entry = codec.json_to(codec.file_to(file))
        if size + len(entry) > MAX_PAYLOAD // 2:
            yield b"[" + b",".join(page) + b"]"
            page, size = [], 0
        page.append(entry)
        size += len(entry) + 1
    yield b"[" + b",".join(page) + b"]"
