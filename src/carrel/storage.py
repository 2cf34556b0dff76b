"""The state folder: the keys, certificates and names that a server has made for itself and keeps.

Everything is made on first use and never replaced in silence. A file appears whole or not at all, and where two processes start at
once both end up with the file of the one that came first: it is written under a temporary name and hard-linked to its own, which
fails where the name exists. A pair that must agree (key and certificate) is one file. Public copies, which can be made again from
the rest at any time, are replaced by rename.

    keys/signing/       keys that sign tokens           ca.pem          our CA's certificate, for clients
    keys/ca.pem         the CA's key and certificate    ca-bundle.pem   the same and the system's CAs, for clients that take one file
    keys/names.json     ids and secrets                 tls/server.pem  the server's key, certificate and CA, renewed at start
    keys/mcp/POOL       a key for the pool's MCP endpoint that the store is to take over at the next start
    keys/store.key      keys of what is secret in the store, one a line: the first encrypts, all decrypt
    keys/client-secret  secret of the server's own service principal: removed, a start makes another
    keys/audit.key      the key of the audit log's chain (carrel/audit), which the auditor reads and nobody else
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import socket
import ssl
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import certifi
import jwt
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from carrel import certificates
from carrel.signing import TOKEN_TTL_S, SigningFolder, SigningKeys
from carrel.statefiles import StateError, parsed, private_folder, read_private, replace

__all__ = [
    "ALGORITHM",
    "APPLICATION",
    "ARM_AUDIENCE",
    "AUDIENCES",
    "GRAPH_AUDIENCE",
    "POOL_CONTRIBUTOR",
    "SESSION_EXECUTOR",
    "TOKEN_TTL_S",
    "State",
    "StateError",
]

AUDIENCES = ("https://dynamicsessions.io", "https://acasessions.io")
ARM_AUDIENCE = "https://management.azure.com"
GRAPH_AUDIENCE = "https://graph.microsoft.com"
SESSION_EXECUTOR = "Azure ContainerApps Session Executor"
POOL_CONTRIBUTOR = "Container Apps SessionPools Contributor"  # may change what a pool's sessions may do
APPLICATION = {"idtyp": "app", "appidacr": "1"}  # claims of a service principal's tokens, as Entra's have them
ALGORITHM = "RS256"  # what Entra signs with: clients that look into a token expect it

_MCP_KEY = re.compile(r"[\x21-\x7e]{16,256}")  # what can stand in a header; an operator may have written one of his own


class State:
    """An open state folder. Making one creates what is missing; raises StateError where something is there but not usable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = os.geteuid()  # who runs the server; a gateway that holds this is another user by then
        self.ca = path / "ca.pem"
        self.ca_bundle = path / "ca-bundle.pem"
        for folder in (path, path / "keys", path / "tls"):
            private_folder(folder)
        self.signing = SigningFolder(path / "keys" / "signing", path / "keys" / "signing.pem")
        self._keys = self.signing.read()
        names = _names(path / "keys" / "names.json")
        self.tenant = names["tenant"]
        self.client_id = names["client_id"]
        self.object_id = names["object_id"]
        self.identity_header = names["identity_header"]
        self.client_secret = parsed(path / "keys" / "client-secret", _make_secret, _secret)
        self._digest_key = names["digest_key"].encode()
        self._store_keys = parsed(path / "keys" / "store.key", lambda: Fernet.generate_key() + b"\n", _store_keys)
        self.issuer = (
            f"https://carrel.local/{self.tenant}/v2.0"  # no host or port of ours: both may change between starts
        )
        self._authority = parsed(path / "keys" / "ca.pem", certificates.make_authority, certificates.Authority.load)
        if not self._is_published():
            self.publish()

    def public_keys(self) -> Mapping[str, RSAPublicKey]:
        """The keys that tokens of ours may be signed with, by their ids. They change while a server runs: ask anew each time."""
        return self._keys.public

    @property
    def public_key(self) -> RSAPublicKey:
        """That of the newest."""
        return self._keys.newest.public

    @property
    def key_id(self) -> str:
        return self._keys.newest.id

    @property
    def keys(self) -> SigningKeys:
        return self._keys

    def adopt(self, keys: SigningKeys) -> None:
        """Go on with these: read from the folder by its owner, or handed to a gateway, which cannot read it."""
        self._keys = keys

    def issue_token(
        self,
        audience: str = AUDIENCES[0],
        *,
        ttl_s: int = TOKEN_TTL_S,
        roles: Iterable[str] = (SESSION_EXECUTOR,),
        pools: Iterable[str] = ("*",),
        subject: str | None = None,
        claims: Mapping[str, object] | None = None,
        now: float | None = None,
    ) -> str:
        """A signed token in the form of Entra's. `pools` are the names of the pools it is good for, or "*" for all.

        With `claims` it is one of the authority's: they take the place of `roles` and `pools`, since its rights are role assignments.
        """
        issued = int(time.time() if now is None else now)
        subject = subject or self.object_id
        rights = {"roles": list(roles), "carrel_pools": list(pools)} if claims is None else claims
        content = {
            "appid": self.client_id,
            "ver": "1.0",
            **rights,
            "iss": self.issuer,
            "aud": audience.rstrip("/"),
            "iat": issued,
            "nbf": issued,
            "exp": issued + ttl_s,
            "sub": subject,
            "oid": subject,
            "tid": self.tenant,
            "jti": secrets.token_hex(8),
        }
        key = self._keys.signer(issued)
        if ttl_s > TOKEN_TTL_S:
            self.signing.remember(key.number, issued + ttl_s)  # first: no token outlives its key
        return jwt.encode(content, key.private, algorithm=ALGORITHM, headers={"kid": key.id})

    def issue_id_token(self, claims: Mapping[str, object], now: float) -> str:
        """What a client learns of a user from; no server takes it, since its audience is the client."""
        key = self._keys.signer(int(now))
        return jwt.encode(dict(claims), key.private, algorithm=ALGORITHM, headers={"kid": key.id})

    def server_certificate(self, names: Iterable[str] = (), *, now: float | None = None) -> Path:
        """A PEM file with the server's key, its certificate and the CA's, good for localhost, this machine and `names`.

        Made again where it is missing, is of another CA, lacks a name or ends within 30 days.
        """
        file = self.path / "tls" / "server.pem"
        wanted = certificates.server_names([socket.gethostname(), *names])
        moment = time.time() if now is None else now
        if not (file.exists() and self._authority.covers(read_private(file), wanted, moment)):
            replace(file, self._authority.issue(wanted, moment), 0o600)
        return file

    def mcp_key(self, pool: str) -> str | None:
        """A key for a pool's MCP endpoint that an earlier version or an operator has put into the file `keys/mcp/NAME`.

        The store keeps it from then on; `forget_mcp_key` removes the file once it does.
        """
        file = self.path / "keys" / "mcp" / pool.lower()
        return parsed(file, bytes, _mcp_key) if file.exists() else None

    def forget_mcp_key(self, pool: str) -> None:
        (self.path / "keys" / "mcp" / pool.lower()).unlink(missing_ok=True)

    def store_keys(self) -> tuple[bytes, ...]:
        """What encrypts the secrets in the store: the first does, each of them decrypts. An operator puts a new one before the others."""
        return self._store_keys

    def digest(self, identifier: str) -> str:
        """A short name for an identifier in logs: the same one each time, and of no use without this folder's secret."""
        return hashlib.blake2s(identifier.encode(), digest_size=4, key=self._digest_key).hexdigest()

    def _is_published(self) -> bool:
        """Whoever opens the folder sees to it that the files are there; what else is in them is the server's."""
        files = [file for file in (self.ca, self.ca_bundle) if file.exists()]
        return len(files) == 2 and all(file.read_bytes().startswith(self._authority.certificate_pem) for file in files)

    def publish(self, more: bytes = b"") -> None:
        """Write what clients are to trust: our CA, `more` that the operator brings, and the system's."""
        certificates = self._authority.certificate_pem + more
        replace(self.ca, certificates, 0o644)
        replace(self.ca_bundle, certificates + _system_authorities(), 0o644)

    def renew_authority(self, now: float) -> bool:
        """Give the CA another certificate for the same key where its own ends within two years; whether it did."""
        if self._authority.is_fresh(now):
            return False
        pem = self._authority.renewed(now)
        replace(self.path / "keys" / "ca.pem", pem, 0o600)
        self._authority = certificates.Authority.load(pem)
        self.publish()
        return True


def _names(file: Path) -> dict[str, str]:
    def make() -> bytes:
        ids = {name: str(uuid.uuid4()) for name in ("tenant", "client_id", "object_id")}
        return json.dumps(ids | {name: secrets.token_hex(16) for name in ("identity_header", "digest_key")}).encode()

    def load(text: bytes) -> dict[str, str]:
        values = json.loads(text)
        wanted = ("tenant", "client_id", "object_id", "identity_header", "digest_key")
        if not isinstance(values, dict) or not all(
            isinstance(values.get(name), str) and values[name] for name in wanted
        ):
            raise ValueError("a name is missing")
        return {name: values[name] for name in wanted}

    return parsed(file, make, load)


def _make_secret() -> bytes:
    """In the alphabet of Entra's, which shells and forms pass on as it is."""
    return secrets.token_urlsafe(30).encode()


def _secret(text: bytes) -> str:
    secret = text.decode("ascii").strip()
    if not _MCP_KEY.fullmatch(secret):
        raise ValueError("a secret is 16 to 256 printable ASCII characters without spaces")
    return secret


def _mcp_key(text: bytes) -> str:
    key = text.decode("ascii").strip()
    if not _MCP_KEY.fullmatch(key):
        raise ValueError("a key is 16 to 256 printable ASCII characters without spaces")
    return key


def _store_keys(text: bytes) -> tuple[bytes, ...]:
    keys = tuple(text.split())
    if not keys:
        raise ValueError("no key in it")
    for key in keys:
        Fernet(key)
    return keys


def _system_authorities() -> bytes:
    """The machine's own CAs, by the path built into OpenSSL: SSL_CERT_FILE may already point at our bundle."""
    for file in (ssl.get_default_verify_paths().openssl_cafile, "/etc/ssl/certs/ca-certificates.crt", certifi.where()):
        if Path(file).is_file():
            return Path(file).read_bytes()
    return b""
