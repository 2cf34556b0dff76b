"""The one file of a multipart upload, read as it comes.

`FileForm` is fed bytes and gives back the content of the first part that is a file: one named `file`, or one that has a file name.
Other parts are skipped. It holds nothing but headers, which are bounded, so the largest upload needs the memory of one chunk.
"""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_to_bytes

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from carrel.errors import RequestInvalid

_MAX_BOUNDARY = 200  # RFC 2046 says 70
_BOUNDARY_LINE = re.compile(rb"(?:\r\n)?--([!-~ ]{1,200})\r\n")
_EXTENDED_NAME = re.compile(rb";[ \t]*filename\*[ \t]*=[ \t]*utf-8'[^']*'([^;\s\"]+)", re.IGNORECASE)

# The library warns about each malformed body: a caller could fill the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def boundary_of(content_type: str | None) -> bytes | None:
    """The boundary that a Content-Type names; None where it is not multipart or names none (then ask sniff_boundary)."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary") if kind.startswith(b"multipart/") else None
    return boundary if boundary and len(boundary) <= _MAX_BOUNDARY else None


def sniff_boundary(start: bytes, *, is_end: bool = False) -> bytes | None:
    """The boundary by the body's first line, for clients whose Content-Type lies. None while more of the body is needed to tell.

    Semantic Kernel leaves `application/json` on the client it shares between calls, so its uploads name no boundary at all.
    Raises RequestInvalid where this cannot be multipart.
    """
    if match := _BOUNDARY_LINE.match(start):
        return match[1].rstrip()
    if is_end or len(start) > _MAX_BOUNDARY + 8 or not (b"--".startswith(start[:2]) or b"\r\n--".startswith(start[:4])):
        raise _malformed("the body does not begin with a boundary")
    return None


class FileForm:
    """An incremental reader of one multipart body. After `feed`, look at `file_name`, and at the content it returned."""

    def __init__(self, boundary: bytes) -> None:
        self.file_name: bytes | None = (
            None  # set once the headers of the file's part are complete; b"" where it has none
        )
        self.is_complete = False  # the closing boundary was seen
        self._content: list[bytes] = []
        self._is_inside = False
        self._header = [bytearray(), bytearray()]
        self._disposition = b""
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_data,
                "on_part_end": self._part_ends,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> list[bytes]:
        """Take in the next bytes of the body; returns the content of the file among them. Raises RequestInvalid."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise _malformed("a boundary or a part's header is malformed") from error
        content, self._content = self._content, []
        return content

    def finish(self) -> None:
        """Call at the end of the body. Raises RequestInvalid where it was cut short or held no file."""
        if not self.is_complete:
            raise _malformed("it ends before the closing boundary")
        if self.file_name is None:
            raise RequestInvalid("The form holds no file: send one part named 'file' with a file name.", target="file")

    def _part_begins(self) -> None:
        self._disposition = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _header_ends(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = bytes(self._header[1])
        self._header = [bytearray(), bytearray()]

    def _headers_end(self) -> None:
        if self.file_name is not None:
            return
        _, options = parse_options_header(self._disposition)
        name = _extended_name(self._disposition) or options.get(b"filename")
        if name is not None or options.get(b"name") == b"file":
            self.file_name = name or b""
            self._is_inside = True

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_inside:
            self._content.append(data[start:end])

    def _part_ends(self) -> None:
        self._is_inside = False

    def _end(self) -> None:
        self.is_complete = True


def _extended_name(disposition: bytes) -> bytes | None:
    """`filename*`, which RFC 7578 forbids and .NET sends beside a `filename` in RFC 2047 form that nobody else understands."""
    match = _EXTENDED_NAME.search(disposition)
    return unquote_to_bytes(match[1]) if match else None


def _malformed(reason: str) -> RequestInvalid:
    return RequestInvalid(f"The body is not a well-formed multipart form: {reason}.", target="file")
