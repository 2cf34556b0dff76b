"""Secrets and passwords at rest: scrypt with a salt each, off the event loop, and never more at once than the machine has room for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from carrel.server.authority.throttle import too_many

# RFC 7914 and OWASP's password storage sheet: 16 MiB and some 40 ms each. What is stored says what it was made with.
_LOG_N, _R, _P = 14, 8, 1
_MAX_MEMORY = 128 * 1024 * 1024
_THREADS = 2
_WAITING = 64  # more callers than this are told to come again: each holds a request open

MAX_SECRET = 1024

T = TypeVar("T")


def digest_of(secret: str) -> str:
    """What is stored of a secret: `scrypt$LOG_N$R$P$SALT$HASH`. Takes tens of milliseconds."""
    salt = secrets.token_bytes(16)
    return "$".join(
        ["scrypt", str(_LOG_N), str(_R), str(_P), _text(salt), _text(_scrypt(secret, salt, _LOG_N, _R, _P))]
    )


def _matches(secret: str, digest: str) -> bool:
    try:
        name, log_n, r, p, salt, expected = digest.split("$")
        if name != "scrypt" or not 10 <= int(log_n) <= 16:
            return False
        found = _scrypt(secret, base64.b64decode(salt), int(log_n), int(r), int(p))
        return hmac.compare_digest(found, base64.b64decode(expected))
    except ValueError:  # a row that somebody else wrote
        return False


def _scrypt(secret: str, salt: bytes, log_n: int, r: int, p: int) -> bytes:
    # One person types é as one character, another's keyboard sends two (RFC 8265 §4.2).
    text = unicodedata.normalize("NFC", secret).encode("utf-8", "surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=1 << log_n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=32)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Hasher:
    """Threads come with the first secret, so after the gateway gave up its rights."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "scrypt")
        self._waiting = 0
        self._nobodys = ""

    async def digest(self, secret: str) -> str:
        return await self._in_thread(digest_of, secret)

    async def matches(self, secret: str, digests: list[str]) -> str | None:
        """The digest that this is the secret of. Takes as long where there are none. Raises OAuthError (429)."""
        if len(secret) > MAX_SECRET:
            return None
        if not digests:
            self._nobodys = self._nobodys or await self.digest(secrets.token_hex())
            await self._in_thread(_matches, secret, self._nobodys)
            return None
        for digest in digests:
            if await self._in_thread(_matches, secret, digest):
                return digest
        return None

    async def _in_thread(self, work: Callable[..., T], *arguments: str) -> T:
        if self._waiting >= _WAITING:
            raise too_many(1)
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._waiting -= 1
