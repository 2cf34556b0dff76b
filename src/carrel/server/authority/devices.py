"""Signing in on another device (RFC 8628): a program shows a code, a person enters it at `/device` and says yes or no.

Two rows of the store's grants belong to one sign-in: the device code's, which holds its state, and the user code's, which leads there. Both
codes are kept as digests. What the device is told first when it asks too often is remembered here and not in the store.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from carrel.server.authority.throttle import Limit, Rate
from carrel.store import GrantRecord, PrincipalRecord, Store, Transaction

LIFE_S = 900
INTERVAL_S = 5

# Consonants that nobody takes for others or makes words of (RFC 8628 §6.1): 20^8, some 34 bits, for fifteen minutes and throttled.
_ALPHABET = "BCDFGHJKLMNPQRSTVWXZ"
_LENGTH = 8
_POLLS = 4096
_BY_PEER = Limit(30, 10.0)
_BY_ALL = Limit(2000, 0.5)

PENDING, AUTHORIZED, DENIED, EXPIRED, SLOW_DOWN = (
    "authorization_pending",
    "authorized",
    "access_denied",
    "expired_token",
    "slow_down",
)


@dataclass(frozen=True, slots=True)
class Begun:
    device_code: str = field(repr=False)
    user_code: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Asked:
    """A sign-in that waits for a person: which program, from where, when."""

    client_id: str
    peer: str
    at: float


class Devices:
    def __init__(
        self, store: Store, clock: Callable[[], float] = time.time, revoked_at: Callable[[], float] = lambda: 0.0
    ) -> None:
        """`revoked_at` is when an operator last ended all tokens that were out: what was begun or approved before is over."""
        self._store = store
        self._clock = clock
        self._revoked_at = revoked_at
        self._polls: OrderedDict[str, float] = OrderedDict()
        self._by_peer = Rate(_BY_PEER, clock)
        self._by_all = Rate(_BY_ALL, clock)

    async def begin(self, client_id: str, scope: str, peer: str) -> Begun:
        """Raises OAuthError (429) where this peer, or everybody, asks for too many."""
        self._by_peer.take(peer)
        self._by_all.take("")
        code = "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))
        begun = Begun(secrets.token_urlsafe(32), f"{code[:4]}-{code[4:]}")
        now = self._clock()
        device = _digest(begun.device_code)
        record = GrantRecord(device, "device", client_id, "", scope, PENDING, now, now + LIFE_S, {"peer": peer})
        pointer = replace(record, digest=_user_digest(begun.user_code), state="code", fields={"device": device})

        def work(books: Transaction) -> None:
            books.grants.put(record)
            books.grants.put(pointer)

        await self._store.run(work)
        return begun

    async def asked(self, user_code: str) -> Asked | None:
        """The sign-in that waits under this code."""
        record = await self._store.run(lambda books: self._pending(books, user_code))
        return Asked(record.client_id, str(record.fields.get("peer", "?")), record.created_at) if record else None

    async def settle(self, user_code: str, user: PrincipalRecord, *, is_approved: bool) -> bool:
        """A person's answer; False where nothing waits for it (any more). A code is good for one answer."""

        def work(books: Transaction) -> bool:
            record = self._pending(books, user_code)
            if record is None:
                return False
            state = AUTHORIZED if is_approved else DENIED
            books.grants.put(replace(record, state=state, principal_id=user.id))
            return books.grants.delete(_user_digest(user_code))

        return await self._store.run(work)

    def _pending(self, books: Transaction, user_code: str) -> GrantRecord | None:
        pointer = books.grants.get(_user_digest(user_code))
        record = books.grants.get(str(pointer.fields["device"])) if pointer and pointer.state == "code" else None
        is_waiting = record is not None and record.state == PENDING and not self._is_over(record)
        return record if is_waiting else None

    def _is_over(self, record: GrantRecord) -> bool:
        return record.expires_at <= self._clock() or record.created_at <= self._revoked_at()

    async def poll(self, device_code: str, client_id: str) -> GrantRecord | None:
        """How it stands, for the device that asks; its `state` is one of those above. None: no such code of this client's."""
        digest, now = _digest(device_code), self._clock()
        record = await self._store.run(lambda books: books.grants.get(digest))
        if record is None or record.kind != "device" or record.state == "code" or record.client_id != client_id:
            return None
        if self._is_over(record):
            return replace(record, state=EXPIRED)
        last = self._polls.get(digest, 0.0)
        self._polls[digest] = now
        while len(self._polls) > _POLLS:
            self._polls.popitem(last=False)
        if record.state == PENDING and now - last < INTERVAL_S - 1:
            return replace(record, state=SLOW_DOWN)
        return record

    async def redeem(self, record: GrantRecord) -> bool:
        """Take an authorized one: once, also where two ask together."""

        def work(books: Transaction) -> bool:
            found = books.grants.get(record.digest)
            return found is not None and found.state == AUTHORIZED and books.grants.delete(record.digest)

        return await self._store.run(work)


def _digest(code: str) -> str:
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()


def _user_digest(code: str) -> str:
    """As people type it: in any case, with or without the hyphen."""
    return _digest("user " + "".join(letter for letter in code.upper() if letter.isalnum()))
