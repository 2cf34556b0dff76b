"""A multipart upload on its way through: read a chunk, hand its content on, forget it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Self

from carrel.errors import ContentTooLarge
from carrel.server.exchange import Exchange
from carrel.wire.multipart import FileForm, boundary_of, sniff_boundary

MAX_CONTENT = 134_217_728  # 128 MB, Azure's limit for one file
_ALLOWANCE = 1024 * 1024  # for boundaries, headers and parts that are not the file


class Upload:
    """An upload read up to its file: `file_name` is known, `content` still to come."""

    def __init__(self, body: _Body, form: FileForm, begun: list[bytes]) -> None:
        self.file_name = form.file_name or b""
        self._body = body
        self._form = form
        self._begun = begun  # content that came in the same chunk as the headers before it

    @classmethod
    async def open(cls, exchange: Exchange) -> Self:
        """Read on to the file's part. Nothing is read where the declared length is over the limit.

        Raises ContentTooLarge, RequestInvalid (malformed, cut short, no file in it), CallerGone.
        """
        body = _Body(exchange)
        boundary, start = await _boundary(body, exchange.header(b"content-type"))
        form = FileForm(boundary)
        pieces = form.feed(start)
        while form.file_name is None:
            chunk = await body.chunk()
            if chunk is None:
                form.finish()  # raises: it ended before a file came
            pieces = form.feed(chunk or b"")
        return cls(body, form, pieces)

    async def content(self) -> AsyncIterator[bytes]:
        """The file's content in pieces. Its end means that the whole form was there, closing boundary included; else it raises."""
        pieces, size = self._begun, 0
        while True:
            for piece in pieces:
                size += len(piece)
                if size > MAX_CONTENT:
                    raise _too_large()
                yield piece
            chunk = await self._body.chunk()
            if chunk is None:
                self._form.finish()
                return
            pieces = self._form.feed(chunk)


class _Body:
    """The request's body, bounded as a whole: the other parts of a form must not be endless either."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._left = MAX_CONTENT + _ALLOWANCE
        if (exchange.content_length or 0) > self._left:
            raise _too_large()

    async def chunk(self) -> bytes | None:
        chunk = await self._exchange.chunk()
        self._left -= len(chunk or b"")
        if self._left < 0:
            raise _too_large()
        return chunk


async def _boundary(body: _Body, content_type: str | None) -> tuple[bytes, bytes]:
    """The form's boundary, and what had to be read to find it."""
    named = boundary_of(content_type)
    if named is not None:
        return named, b""
    start = b""
    while True:
        chunk = await body.chunk()
        start += chunk or b""
        sniffed = sniff_boundary(start, is_end=chunk is None)
        if sniffed is not None:
            return sniffed, start


def _too_large() -> ContentTooLarge:
    return ContentTooLarge(f"A file may have {MAX_CONTENT} bytes at most.", target="file")
