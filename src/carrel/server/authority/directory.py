"""Who the authority knows: principals of the store with their secrets, and the public clients that users sign in with.

The server's own service principal is one of them (authorization/owners.py puts it there); its first secret is a file, as it has to work
before anybody has made anything.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from carrel.server.authority.hashing import Hasher
from carrel.storage import State
from carrel.store import CredentialRecord, PrincipalRecord, Store, Transaction

AZURE_CLI = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"  # what az and azure-identity's interactive credentials say they are
CARREL_CLI = "5e8c4b7e-4a1f-4d55-9f0c-6b1f2a8d3c90"  # `carrel` itself
CONSOLE = "b7b1c0de-6c2f-4b0e-9a55-3d1f0c9e7a42"  # the web console (src/carrel/console/auth.js)
PUBLIC_CLIENTS = {AZURE_CLI: "Microsoft Azure CLI", CARREL_CLI: "Carrel command line", CONSOLE: "Carrel console"}


class Verdict(StrEnum):
    """What a secret is."""

    RIGHT = "right"
    WRONG = "wrong"
    EXPIRED = "expired"  # said only to who knows it


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks for a token: an application, or a program that users sign in with, which has no secret and no rights of its own."""

    client_id: str
    name: str
    principal: PrincipalRecord | None = None

    @property
    def is_public(self) -> bool:
        return self.principal is None


class Directory:
    def __init__(self, state: State, store: Store, hasher: Hasher, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._store = store
        self._hasher = hasher
        self._clock = clock

    async def client(self, client_id: str) -> Client | None:
        known = client_id.lower()
        if known in PUBLIC_CLIENTS:
            return Client(known, PUBLIC_CLIENTS[known])
        principal = await self._store.run(lambda books: self._application(books, known))
        return Client(principal.app_id, principal.display_name, principal) if principal else None

    def _application(self, books: Transaction, client_id: str) -> PrincipalRecord | None:
        found = [each for each in books.principals.list(app_id=client_id) if each.kind == "ServicePrincipal"]
        return found[0] if client_id and len(found) == 1 else None

    async def principal(self, id: str) -> PrincipalRecord | None:
        """By its object id."""
        return await self._store.run(lambda books: books.principals.get(id))

    async def managed(self, *, app_id: str = "", object_id: str = "", name: str = "") -> PrincipalRecord | None:
        """The managed identity of this client id, object id or name; without any, the server's own principal."""

        def find(books: Transaction) -> PrincipalRecord | None:
            own = books.principals.get(self._state.object_id)
            wanted = (app_id or object_id or name).lower()
            if not wanted:
                return own
            known = [each for each in books.principals.list() if each.kind == "ManagedIdentity"] + (
                [own] if own else []
            )
            found = [
                each
                for each in known
                if wanted == (each.app_id if app_id else each.id if object_id else each.display_name).lower()
            ]
            return found[0] if len(found) == 1 else None

        return await self._store.run(find)

    async def check_secret(self, client: Client, secret: str) -> Verdict:
        """What this is of the client's secrets. Raises OAuthError (429) where too much is checked already."""
        if client.principal is None or not secret:
            return Verdict.WRONG
        is_own = client.principal.id == self._state.object_id
        if is_own and hmac.compare_digest(secret.encode(), self._state.client_secret.encode()):
            return Verdict.RIGHT
        return await self._check(client.principal.id, secret)

    async def check_password(self, user_name: str, password: str) -> PrincipalRecord | None:
        """The user, where name and password belong together. Takes as long for a name that nobody has."""

        def find(books: Transaction) -> PrincipalRecord | None:
            found = [each for each in books.principals.list(user_name=user_name) if each.kind == "User"]
            return found[0] if user_name and len(found) == 1 else None

        user = await self._store.run(find)
        verdict = await self._check(user.id if user else "", password)
        return user if user and user.is_enabled and verdict is Verdict.RIGHT else None

    async def _check(self, principal_id: str, secret: str) -> Verdict:
        known = await self._store.run(lambda books: books.credentials.list(principal_id) if principal_id else [])
        likely = [each for each in known if not each.hint or secret.startswith(each.hint)]
        digest = await self._hasher.matches(secret, [each.digest for each in likely])
        found = next((each for each in likely if each.digest == digest), None)
        if found is None:
            return Verdict.WRONG
        return Verdict.EXPIRED if self._has_expired(found) else Verdict.RIGHT

    def _has_expired(self, credential: CredentialRecord) -> bool:
        return credential.expires_at is not None and credential.expires_at <= self._clock()
