"""The file routes. The gateway opens no file: bytes go between caller and host in both directions as they come."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from urllib.parse import quote

from carrel.errors import FileMissing, SessionLost
from carrel.host.hostlink import Download
from carrel.models import FileInfo
from carrel.server import file_streams
from carrel.server.audit import describing
from carrel.server.call import Call, session_headers
from carrel.server.exchange import CallerGone, Headers
from carrel.server.telling import wants_events
from carrel.server.upload import Upload
from carrel.wire import files as wire
from carrel.wire import names
from carrel.wire.conditions import etag_header, is_known
from carrel.wire.events import wants
from carrel.wire.times import http_date

_MAX_RENAME = 64 * 1024  # bytes of a request to rename


async def listing(call: Call) -> None:
    """`GET files`. The old shape has no directories, so it lists what is inside them too: clients look for the name they uploaded."""
    accept = call.exchange.header(b"accept")
    if wants(file_streams.TAR, accept):
        return await file_streams.archive(call)
    if wants_events(call):
        return await file_streams.watch(call)
    is_old = call.version.has_old_files
    recursive = call.flag("recursive", default=is_old and not call.query.get("path"))
    view, infos = await call.link.list_files(call.pool.name, call.identifier(), call.directory(), recursive)
    infos = sorted(infos, key=lambda info: (info.directory, info.name))
    body = wire.encode_old_files(infos) if is_old else wire.encode_files(infos)
    return await call.exchange.reply(200, body, session_headers(view))


async def metadata(call: Call) -> None:
    """`GET files/{name}`."""
    path = names.decode_file_path(call.argument, call.directory())
    view, info = await call.link.stat(call.pool.name, call.identifier(), path)
    if info.is_directory and call.version.has_old_files:
        raise FileMissing("There is no file of this name.")
    headers = [*session_headers(view), etag_header(info.etag)]
    if is_known(call.condition(), info.etag):
        return await call.exchange.reply(304, headers=headers)
    return await call.exchange.reply(200, _shown(call, info), headers)


async def make_directory(call: Call) -> None:
    """`POST files/{name}/mkdir`."""
    path = names.decode_file_path(call.argument.removesuffix("/mkdir"), call.directory())
    call.exchange.details = _told(call, path)
    view, info, is_made = await call.link.make_directory(call.pool.name, call.identifier(), path)
    headers = [*session_headers(view), etag_header(info.etag)]
    await call.exchange.reply(201 if is_made else 200, wire.encode_file(info), headers)


async def rename(call: Call) -> None:
    """`POST files/{name}/rename`."""
    path = names.decode_file_path(call.argument.removesuffix("/rename"), call.directory())
    identifier, condition = call.identifier(), call.condition()
    to, overwrite = wire.decode_rename(await call.exchange.body(_MAX_RENAME))
    call.exchange.details = {**_told(call, path), "to": _told(call, to)}
    pool = call.pool.name
    view, info = await call.link.rename(pool, identifier, path, to, overwrite=overwrite, condition=condition)
    await call.exchange.reply(200, wire.encode_file(info), [*session_headers(view), etag_header(info.etag)])


async def delete(call: Call) -> None:
    """`DELETE files/{name}`."""
    path = names.decode_file_path(call.argument, call.directory())
    call.exchange.details = _told(call, path)
    view = await call.link.delete_file(call.pool.name, call.identifier(), path, call.condition())
    if call.version.has_old_files:
        return await call.exchange.reply(200, wire.encode_old_deletion(), session_headers(view))
    return await call.exchange.reply(204, headers=session_headers(view))


async def upload(call: Call) -> None:
    """`POST files`."""
    headers, info = await _store(call)
    await call.exchange.reply(200, _shown(call, info), headers)


async def upload_old(call: Call) -> None:
    """`POST files/upload` and `python/uploadFile`: the old shape on every version."""
    headers, info = await _store(call)
    await call.exchange.reply(200, wire.encode_old_files([info]), headers)


async def download(call: Call) -> None:
    """`GET files/{name}/content` and the older spellings. `argument` may be a name with `/content` too many, as one sample has it."""
    directory = call.directory()
    identifier = call.identifier()
    path = names.decode_file_path(call.argument, directory)
    try:
        await _send(call, identifier, path)
    except FileMissing:
        if call.exchange.is_begun or not path.endswith("/content"):
            raise
        await _send(call, identifier, path.removesuffix("/content"))


async def download_by_query(call: Call) -> None:
    """`GET python/downloadFile?filename=`."""
    name = call.query.get("filename", "")
    await _send(call, call.identifier(), names.decode_file_path(name, call.directory()))


async def _store(call: Call) -> tuple[Headers, FileInfo]:
    identifier, condition = call.identifier(), call.condition()
    directory = call.directory()
    form = await Upload.open(call.exchange)
    path = names.decode_file_path(names.decode_upload_name(form.file_name), directory)
    call.exchange.details = _told(call, path)
    view, info = await call.link.upload(call.pool.name, identifier, path, form.content(), condition)
    call.exchange.details = _told(call, path, info.size)
    return [*session_headers(view), etag_header(info.etag)], info


def _told(call: Call, path: str, size: int | None = None) -> dict[str, object]:
    """For the audit log."""
    return describing.file(call.digest, path, size)


def _shown(call: Call, info: FileInfo) -> bytes:
    return wire.encode_old_files([info]) if call.version.has_old_files else wire.encode_file(info)


async def _send(call: Call, identifier: str, path: str) -> None:
    """The file, or the one range of it that was asked for."""
    call.exchange.details = _told(call, path)
    async with AsyncExitStack() as stack:
        download, is_range = await _open(call, identifier, path, stack)
        length = download.length
        call.exchange.details = _told(call, path, length)
        if is_known(call.condition(), download.file.etag):
            known = [*session_headers(download.session), etag_header(download.file.etag)]
            return await call.exchange.reply(304, headers=known)
        headers = session_headers(download.session) + _file_headers(download.file, length)
        if is_range:
            last = download.start + length - 1
            headers.append((b"content-range", f"bytes {download.start}-{last}/{download.file.size}".encode()))
        await call.exchange.begin(206 if is_range else 200, headers)
        if call.exchange.method == "HEAD":
            return await call.exchange.write(b"", is_last=True)
        return await _relay(call, download, length)


async def _open(call: Call, identifier: str, path: str, stack: AsyncExitStack) -> tuple[Download, bool]:
    """The stream, and whether it is a range. A range needs the size first, and so one more question to the host."""
    pool, link = call.pool.name, call.link
    asked = call.exchange.header(b"range")
    if asked is not None:
        _, info = await link.stat(pool, identifier, path)
        condition = call.exchange.header(b"if-range")
        is_current = condition in (None, http_date(info.modified_at), f'"{info.etag}"')
        if not info.is_directory and is_current and (span := wire.decode_range(asked, info.size)):
            opened = await stack.enter_async_context(link.download(pool, identifier, path, *span))
            if opened.length:  # else the file shrank in between: the whole of it is then the honest answer
                return opened, True
    return await stack.enter_async_context(link.download(pool, identifier, path)), False


async def _relay(call: Call, download: Download, length: int) -> None:
    """The content as it comes. One that ends early raises, which breaks the connection: a short file must not look like a whole one."""
    exchange = call.exchange
    watcher = asyncio.ensure_future(exchange.watch()) if exchange.has_all else None
    try:
        async for chunk in download:
            if watcher and watcher.done():
                raise CallerGone
            length -= len(chunk)
            await exchange.write(chunk, is_last=length == 0)
        if length:
            raise SessionLost("The file ended before the length that was announced.")
        if not exchange.is_done:  # an empty file
            await exchange.write(b"", is_last=True)
    finally:
        if watcher:
            watcher.cancel()


def _file_headers(info: FileInfo, length: int) -> Headers:
    """`attachment` keeps a browser from showing what a session wrote as a page of this server's."""
    return [
        (b"content-type", wire.content_type(info.name).encode()),
        (b"content-length", str(length).encode()),
        etag_header(info.etag),
        (b"last-modified", http_date(info.modified_at).encode()),
        (b"accept-ranges", b"bytes"),
        (
            b"content-disposition",
            f"attachment; filename*=UTF-8''{quote(info.name, safe='', errors='replace')}".encode(),
        ),
    ]
