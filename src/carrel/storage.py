"""The state folder: the keys, certificates and names that a server has made for itself and keeps.

Everything is made on first use and never replaced in silence. A file appears whole or not at all, and where two processes start at
once both end up with the file of the one that came first: it is written under a temporary name and hard-linked to its own, which
fails where the name exists. A pair that must agree (key and certificate) is one file. Public copies, which can be made again from
the rest at any time, are replaced by rename.

    keys/signing.pem    key that signs tokens           ca.pem          our CA's certificate, for clients
    keys/ca.pem         the CA's key and certificate    ca-bundle.pem   the same and the system's CAs, for clients that take one file
    keys/names.json     ids and secrets                 tls/server.pem  the server's key, certificate and CA, renewed at start
    keys/mcp/POOL       key for the pool's MCP endpoint
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import socket
import ssl
import stat
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import certifi
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from carrel import certificates

AUDIENCES = ("https://dynamicsessions.io", "https://acasessions.io")
SESSION_EXECUTOR = "Azure ContainerApps Session Executor"
MCP_CALLER = "carrel.mcp"  # of whoever calls with a pool's MCP key; no token has it
POOL_CONTRIBUTOR = "Container Apps SessionPools Contributor"  # may change what a pool's sessions may do
ALGORITHM = "RS256"  # what Entra signs with: clients that look into a token expect it
TOKEN_TTL_S = 86_400  # a managed identity's token lives as long; AutoGen keeps its first one for ever

_MCP_KEY = re.compile(r"[\x21-\x7e]{16,256}")  # what can stand in a header; an operator may have written one of his own

T = TypeVar("T")


class StateError(Exception):
    """The state folder cannot be used. The message names the file and what to do; it is for the operator, not for callers."""


class State:
    """An open state folder. Making one creates what is missing; raises StateError where something is there but not usable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.owner = os.geteuid()  # who runs the server; a gateway that holds this is another user by then
        self.ca = path / "ca.pem"
        self.ca_bundle = path / "ca-bundle.pem"
        for folder in (path, path / "keys", path / "tls"):
            _private_folder(folder)
        self._signing_key = _signing_key(path / "keys" / "signing.pem")
        self.public_key = self._signing_key.public_key()
        self.key_id = _key_id(self.public_key)
        names = _names(path / "keys" / "names.json")
        self.tenant = names["tenant"]
        self.client_id = names["client_id"]
        self.object_id = names["object_id"]
        self.identity_header = names["identity_header"]
        self._digest_key = names["digest_key"].encode()
        self._mcp_keys: dict[str, str] = {}
        self.issuer = (
            f"https://carrel.local/{self.tenant}/v2.0"  # no host or port of ours: both may change between starts
        )
        self._authority = _parsed(path / "keys" / "ca.pem", certificates.make_authority, certificates.Authority.load)
        self._publish()

    def issue_token(
        self,
        audience: str = AUDIENCES[0],
        *,
        ttl_s: int = TOKEN_TTL_S,
        roles: Iterable[str] = (SESSION_EXECUTOR,),
        pools: Iterable[str] = ("*",),
        subject: str | None = None,
        now: float | None = None,
    ) -> str:
        """A signed token in the form of Entra's. `pools` are the names of the pools it is good for, or "*" for all."""
        issued = int(time.time() if now is None else now)
        subject = subject or self.object_id
        claims = {
            "iss": self.issuer,
            "aud": audience.rstrip("/"),
            "iat": issued,
            "nbf": issued,
            "exp": issued + ttl_s,
            "sub": subject,
            "oid": subject,
            "tid": self.tenant,
            "appid": self.client_id,
            "ver": "1.0",
            "jti": secrets.token_hex(8),
            "roles": list(roles),
            "carrel_pools": list(pools),
        }
        return jwt.encode(claims, self._signing_key, algorithm=ALGORITHM, headers={"kid": self.key_id})

    def server_certificate(self, names: Iterable[str] = (), *, now: float | None = None) -> Path:
        """A PEM file with the server's key, its certificate and the CA's, good for localhost, this machine and `names`.

        Made again where it is missing, is of another CA, lacks a name or ends within 30 days.
        """
        file = self.path / "tls" / "server.pem"
        wanted = certificates.server_names([socket.gethostname(), *names])
        moment = time.time() if now is None else now
        if not (file.exists() and self._authority.covers(_read_private(file), wanted, moment)):
            _replace(file, self._authority.issue(wanted, moment), 0o600)
        return file

    def mcp_key(self, pool: str) -> str:
        """The key for a pool's MCP endpoint, and for nothing else. Names of pools compare in any case."""
        name = pool.lower()
        if name not in self._mcp_keys:
            folder = self.path / "keys" / "mcp"
            _private_folder(folder)
            self._mcp_keys[name] = _parsed(folder / name, lambda: secrets.token_hex(24).encode(), _mcp_key)
        return self._mcp_keys[name]

    def digest(self, identifier: str) -> str:
        """A short name for an identifier in logs: the same one each time, and of no use without this folder's secret."""
        return hashlib.blake2s(identifier.encode(), digest_size=4, key=self._digest_key).hexdigest()

    def _publish(self) -> None:
        certificate = self._authority.certificate_pem
        _replace(self.ca, certificate, 0o644)
        _replace(self.ca_bundle, certificate + _system_authorities(), 0o644)


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

    return _parsed(file, make, load)


def _mcp_key(text: bytes) -> str:
    key = text.decode("ascii").strip()
    if not _MCP_KEY.fullmatch(key):
        raise ValueError("a key is 16 to 256 printable ASCII characters without spaces")
    return key


def _signing_key(file: Path) -> rsa.RSAPrivateKey:
    def make() -> bytes:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def load(text: bytes) -> rsa.RSAPrivateKey:
        key = serialization.load_pem_private_key(text, None)
        if not isinstance(key, rsa.RSAPrivateKey):
            raise ValueError("not an RSA key")
        return key

    return _parsed(file, make, load)


def _key_id(key: rsa.RSAPublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()[:20]).rstrip(b"=").decode()


def _parsed(file: Path, make: Callable[[], bytes], load: Callable[[bytes], T]) -> T:
    """The content of a file that is made if missing."""
    if not file.exists():
        _create(file, make())
    try:
        return load(_read_private(file))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StateError(f"{file} is damaged ({error}): restore it, or move it away to have a new one made") from error


def _private_folder(folder: Path) -> None:
    """Makes a folder that is ours alone; one that is there and belongs to someone else is refused."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
        if status.st_uid != os.geteuid():
            raise StateError(
                f"{folder} belongs to uid {status.st_uid}, not to {os.geteuid()}: choose another with --state"
            )
        if status.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise StateError(f"{folder} cannot be used: {error.strerror}") from error


def _read_private(file: Path) -> bytes:
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
        raise StateError(f"{file} holds a secret and others may read it: check who did, then chmod 600 {file}")
    return file.read_bytes()


def _create(file: Path, content: bytes) -> None:
    """Puts `content` there unless another process was first."""
    temporary = _written(file, content, 0o600)
    try:
        os.link(temporary, file)
    except FileExistsError:
        pass  # the other one's file is as good, and both read it back
    finally:
        temporary.unlink()


def _replace(file: Path, content: bytes, mode: int) -> None:
    """Puts `content` there at once; leaves a file that has it already alone."""
    if not (file.exists() and file.read_bytes() == content):
        _written(file, content, mode).replace(file)


def _written(file: Path, content: bytes, mode: int) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        os.fchmod(descriptor, mode)
        stream.flush()
        os.fsync(descriptor)
    return Path(name)


def _system_authorities() -> bytes:
    """The machine's own CAs, by the path built into OpenSSL: SSL_CERT_FILE may already point at our bundle."""
    for file in (ssl.get_default_verify_paths().openssl_cafile, "/etc/ssl/certs/ca-certificates.crt", certifi.where()):
        if Path(file).is_file():
            return Path(file).read_bytes()
    return b""
