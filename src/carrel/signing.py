"""The keys that sign tokens, in `keys/signing/`: the newest signs, those before it verify until their last token has ended.

    N.pem     the N-th key, with the moment it was made in a line before it; made by hard link, so that two who rotate at once rotate once
    N.until   where tokens of N live longer than TOKEN_TTL_S (`carrel token --ttl`): until when
    revoked   when somebody last ended all tokens; sign-ins of before are over then, too

A new key is published before it is used: whoever verifies has it by then, which for a running gateway takes half a second
(cli/changes.py). A set of keys never changes; the owner of the folder reads a new one from it, a gateway is handed one.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from carrel.statefiles import StateError, create, parsed, private_folder, read_private, replace

TOKEN_TTL_S = 86_400  # a managed identity's token lives as long; AutoGen keeps its first one for ever
MOST = 16  # each is in every answer of the key endpoint, and in every message to a gateway
PUBLISHED_S = 2.0  # before a new key signs
_GRACE_S = 300.0  # clocks, and a token that was being signed while its key was replaced
_MADE = "Made-At: "


@dataclass(frozen=True, slots=True)
class SigningKey:
    number: int
    made_at: float
    private: rsa.RSAPrivateKey = field(repr=False)
    tokens_until: float = 0  # of tokens that live longer than others

    @property
    def public(self) -> rsa.RSAPublicKey:
        return self.private.public_key()

    @property
    def id(self) -> str:
        der = self.public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return base64.urlsafe_b64encode(hashlib.sha256(der).digest()[:20]).rstrip(b"=").decode()

    @property
    def pem(self) -> bytes:
        key = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return f"{_MADE}{self.made_at:.3f}\n\n".encode() + key


class SigningKeys:
    """A set of them. `public` is by key id, in the order in which they were made."""

    def __init__(self, keys: Iterable[SigningKey], revoked_at: float = 0.0) -> None:
        self.revoked_at = revoked_at
        self._keys = sorted(keys, key=lambda each: each.number)
        self.public: Mapping[str, rsa.RSAPublicKey] = {each.id: each.public for each in self._keys}

    @property
    def newest(self) -> SigningKey:
        return self._keys[-1]

    def signer(self, now: float) -> SigningKey:
        """What to sign with: the newest, once everybody who verifies can have it."""
        known = [each for each in self._keys if each.made_at + PUBLISHED_S <= now] or self._keys[:1]
        return known[-1]

    def ended(self, now: float) -> list[SigningKey]:
        """Those whose last token has ended."""
        replaced = zip(self._keys, self._keys[1:], strict=False)
        return [old for old, new in replaced if max(new.made_at + TOKEN_TTL_S, old.tokens_until) + _GRACE_S < now]

    def to_json(self) -> dict[str, Any]:
        """For the gateway's pipe only: the private keys are in it."""
        keys = [{"number": each.number, "pem": each.pem.decode()} for each in self._keys]
        return {"keys": keys, "revoked_at": self.revoked_at}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        keys = [_load(each["number"], each["pem"].encode(), 0) for each in fields["keys"]]
        return cls(keys, fields["revoked_at"])


class SigningFolder:
    """The folder, for its owner. Making one makes the first key; raises StateError where one cannot be used."""

    def __init__(self, folder: Path, before: Path) -> None:
        """`before` is the file that held the only key before there was a folder of them."""
        self.path = folder
        private_folder(folder)
        if not self._numbers():
            if before.exists():
                parsed(before, _new, lambda text: _load(1, text, 0))
                create(folder / "1.pem", read_private(before))
            else:
                create(folder / "1.pem", _new())
        before.unlink(missing_ok=True)

    def read(self) -> SigningKeys:
        for _ in range(3):  # a key that ended may be removed meanwhile
            try:
                keys = [self._key(number) for number in self._numbers()]
                return SigningKeys(keys, _moment(self.path / "revoked"))
            except FileNotFoundError:
                continue
        raise StateError(f"{self.path} changes all the time: what else writes there?")

    def rotate(self, *, now: float | None = None, is_final: bool = False) -> None:
        """Make the next key. `is_final` removes all others: their tokens, and whoever is signed in, are refused from then on."""
        numbers = self._numbers()
        if len(numbers) >= MOST and not is_final:
            raise StateError(
                f"there are {MOST} signing keys already: wait until tokens of the oldest have ended, or revoke all"
            )
        number = numbers[-1] + 1
        create(self.path / f"{number}.pem", _new(now))
        if is_final:
            replace(self.path / "revoked", f"{time.time() if now is None else now:.3f}\n".encode(), 0o600)
            self._remove(each for each in self._numbers() if each < number)

    def prune(self, now: float) -> int:
        """Remove keys whose last token has ended; how many."""
        ended = [each.number for each in self.read().ended(now)]
        self._remove(ended)
        return len(ended)

    def remember(self, number: int, until: float) -> None:
        """A token of this key will live until then."""
        file = self.path / f"{number}.until"
        lock = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if until > _moment(file):
                replace(file, f"{until:.0f}\n".encode(), 0o600)
        finally:
            os.close(lock)

    def _numbers(self) -> list[int]:
        found = (re.fullmatch(r"([1-9][0-9]{0,8})\.pem", each.name) for each in self.path.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def _key(self, number: int) -> SigningKey:
        file = self.path / f"{number}.pem"
        try:
            return _load(number, read_private(file), _moment(self.path / f"{number}.until"))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise StateError(f"{file} is damaged ({error}): restore it, or move it away") from error

    def _remove(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            (self.path / f"{number}.pem").unlink(missing_ok=True)
            (self.path / f"{number}.until").unlink(missing_ok=True)


def _new(now: float | None = None) -> bytes:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return SigningKey(0, time.time() if now is None else now, private).pem


def _load(number: int, text: bytes, until: float) -> SigningKey:
    key = serialization.load_pem_private_key(text, None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not an RSA key")
    match = re.match(rb"Made-At: ([0-9]{1,12}(?:\.[0-9]{1,6})?)\n", text)
    return SigningKey(number, float(match[1]) if match else 0.0, key, until)


def _moment(file: Path) -> float:
    try:
        return float(read_private(file))
    except FileNotFoundError:
        return 0.0
    except ValueError as error:
        raise StateError(f"{file} is damaged: there is to be a moment in it, in Unix seconds") from error
