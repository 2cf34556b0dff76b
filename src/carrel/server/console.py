"""`/console`: the web console's files, which come with Carrel (src/carrel/console).

They are read once, before the gateway gives up its rights, and are the same for everybody: no token is needed to see them, and nothing in
them is about this server. What they may do in a browser is said here, in headers: run their own scripts, ask this server, and nothing else.
No text is ever made into markup or code (`require-trusted-types-for`), nobody frames them, and no other page keeps a handle on them.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import carrel
from carrel.server import output_frame
from carrel.server.exchange import Exchange, Headers
from carrel.wire.conditions import decode_condition, etag_header, is_known

ROOT = "/console"
FILE = "/console/{file}"
FOLDER = Path(carrel.__file__).parent / "console"

# `blob:` is for images that the console makes of a session's results; the frame is that of a session's markup (/console/output), whose
# origin is nobody's.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; frame-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS: Headers = [
    (b"content-security-policy", _POLICY.encode()),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
]
_TYPES = {
    ".css": b"text/css; charset=utf-8",
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}
_GZIP_FROM = 1024  # bytes: what is smaller fits into a packet as it is

Handler = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the console as it goes out: always asked for again, and sent again only where it is another one."""

    content_type: bytes
    body: bytes
    squeezed: bytes
    tag: str
    headers: tuple[tuple[bytes, bytes], ...] = tuple(_HEADERS)

    @classmethod
    def of(cls, body: bytes, suffix: str, headers: Headers | None = None) -> Asset:
        squeezed = gzip.compress(body, mtime=0) if len(body) >= _GZIP_FROM else b""
        tag = hashlib.sha256(body).hexdigest()[:32]
        return cls(_TYPES[suffix], body, squeezed, tag, tuple(_HEADERS if headers is None else headers))

    async def send(self, exchange: Exchange) -> None:
        exchange.caching = b"no-cache"
        condition = decode_condition(None, exchange.header(b"if-none-match"))
        headers = [etag_header(self.tag), (b"vary", b"accept-encoding"), *self.headers]
        if is_known(condition, self.tag):
            await exchange.reply(304, b"", headers)
            return
        is_squeezed = bool(self.squeezed) and "gzip" in (exchange.header(b"accept-encoding") or "")
        body = self.squeezed if is_squeezed else self.body
        if is_squeezed:
            headers.append((b"content-encoding", b"gzip"))
        headers += [(b"content-type", self.content_type), (b"content-length", str(len(body)).encode())]
        await exchange.begin(200, headers)
        await exchange.write(b"" if exchange.method == "HEAD" else body, is_last=True)


def handlers() -> dict[str, Handler]:
    """By path. Reads the files."""
    found: dict[str, Handler] = {}
    for file in sorted(each for each in FOLDER.rglob("*") if each.suffix in _TYPES):
        if file.name == output_frame.FILE:
            page = file.read_bytes()
            found[output_frame.PATH] = Asset.of(page, file.suffix, output_frame.headers(page)).send
            continue
        name = file.relative_to(FOLDER).as_posix()
        found[FILE.format(file=name)] = Asset.of(file.read_bytes(), file.suffix).send
    return {ROOT: _to_folder, f"{ROOT}/": found[FILE.format(file="index.html")], **found}


async def _to_folder(exchange: Exchange) -> None:
    """The page's own addresses are relative to the folder."""
    await exchange.reply(302, b"", [(b"location", b"/console/"), (b"content-length", b"0")])
