"""Encryption of what is secret in the store: Fernet, with the keys of the state folder. The first key encrypts, every one decrypts.

What is encrypted names the row it belongs to, so that whoever can write to the database cannot move a secret to a pool of his own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from carrel.store.troubles import StoreError


class Vault:
    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise StoreError("the store needs a key: keys/store.key in the state folder is empty")
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise StoreError(f"a line of keys/store.key in the state folder is no key ({error}): restore it") from None

    def seal(self, owner: str, value: object) -> str:
        return self._fernet.encrypt(json.dumps([owner, value]).encode()).decode()

    def reveal(self, owner: str, sealed: str) -> Any:
        """Raises StoreError where it was sealed with another key, or for another owner."""
        try:
            found, value = json.loads(self._fernet.decrypt(sealed.encode()))
        except (InvalidToken, ValueError):
            raise StoreError(
                "the store was written with another key than those in keys/store.key of the state folder: "
                "restore that file, or let every Carrel that shares this store have the same one"
            ) from None
        if found != owner:
            raise StoreError(f"a secret in the store is another one's than {owner}'s: somebody has changed the store")
        return value
