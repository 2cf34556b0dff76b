"""Refresh tokens: each is good for one use and replaced by the next, and an old one that turns up again ends them all.

A sign-in is a row of the store's grants, its family; the digest of the newest token stands in it, and of the one before. What is not
the newest was copied, or was used by two programs at the same moment, as `az` is where a script runs it in parallel: for a minute the one
before still gets an access token, but no successor. After that somebody else has it, and the family is deleted (RFC 9700 §4.14.2).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from carrel.store import GrantRecord, Store, Transaction

LIFE_S = 90 * 86_400  # since its last use, as Entra's
_GRACE_S = 60.0
_PREFIX = "0"


@dataclass(frozen=True, slots=True)
class Presented:
    """A refresh token that somebody has shown, and is good."""

    record: GrantRecord
    is_newest: bool
    secret: str = field(repr=False)


class Refreshing:
    def __init__(
        self, store: Store, clock: Callable[[], float] = time.time, revoked_at: Callable[[], float] = lambda: 0.0
    ) -> None:
        """`revoked_at` is when an operator last ended all tokens that were out: sign-ins of before then are over."""
        self._store = store
        self._revoked_at = revoked_at
        self._clock = clock

    async def begin(self, client_id: str, principal_id: str, scope: str) -> str:
        """A new family's first token."""
        family, secret, now = secrets.token_hex(16), secrets.token_urlsafe(32), self._clock()
        fields = {"newest": _digest(secret), "before": "", "rotated_at": now}
        record = GrantRecord(
            _digest(family), "refresh", client_id, principal_id, scope, "live", now, now + LIFE_S, fields
        )
        await self._store.run(lambda books: books.grants.put(record))
        return f"{_PREFIX}.{family}.{secret}"

    async def present(self, token: str, client_id: str) -> Presented | None:
        """What the token is good for, None where it is for nothing. One that was used before ends its family."""
        family, _, secret = token.removeprefix(f"{_PREFIX}.").partition(".")

        def work(books: Transaction) -> Presented | None:
            record = books.grants.get(_digest(family))
            if record is None or record.kind != "refresh" or record.client_id != client_id:
                return None
            now, shown = self._clock(), _digest(secret)
            if record.expires_at <= now:
                return None
            if record.created_at <= self._revoked_at():
                books.grants.delete(record.digest)
                return None
            if hmac.compare_digest(shown, str(record.fields["newest"])):
                return Presented(record, is_newest=True, secret=secret)
            is_late = now - float(record.fields["rotated_at"]) > _GRACE_S
            if hmac.compare_digest(shown, str(record.fields["before"])) and not is_late:
                return Presented(record, is_newest=False, secret=secret)
            books.grants.delete(record.digest)
            return None

        return await self._store.run(work)

    async def end(self, token: str, client_id: str) -> None:
        """By whoever has one of its tokens, of now or before (RFC 7009). What is none, or another program's, ends nothing."""
        family, _, secret = token.removeprefix(f"{_PREFIX}.").partition(".")

        def work(books: Transaction) -> None:
            record = books.grants.get(_digest(family))
            if record is None or record.kind != "refresh" or record.client_id != client_id:
                return
            shown = _digest(secret)
            if any(hmac.compare_digest(shown, str(record.fields[name])) for name in ("newest", "before")):
                books.grants.delete(record.digest)

        await self._store.run(work)

    async def rotate(self, presented: Presented, token: str) -> str | None:
        """The successor; None where another call was first, which is then as if this one's token had been the one before."""
        family = token.removeprefix(f"{_PREFIX}.").partition(".")[0]
        secret, now = secrets.token_urlsafe(32), self._clock()
        shown = _digest(presented.secret)

        def work(books: Transaction) -> bool:
            record = books.grants.get(presented.record.digest)
            if record is None or record.fields["newest"] != shown:
                return False
            fields = {"newest": _digest(secret), "before": shown, "rotated_at": now}
            books.grants.put(replace(record, fields=fields, expires_at=now + LIFE_S))
            return True

        return f"{_PREFIX}.{family}.{secret}" if await self._store.run(work) else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
