"""A server's key and certificates as TLS uses them: checked before they are served, and exchanged while a server runs."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization


def context(pem: bytes) -> ssl.SSLContext:
    """For a server, from its key and chain. Opens no file: a gateway may not. Raises ValueError saying what is wrong."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    with _as_file(pem) as path:
        try:
            # Without a password OpenSSL would ask for one on the terminal.
            made.load_cert_chain(path, password=lambda: b"")
        except (ssl.SSLError, OSError) as error:
            raise ValueError(_reason(pem, error)) from None
    return made


def check(pem: bytes, now: float) -> datetime:
    """When it ends. Raises ValueError where it cannot be served, or has ended."""
    context(pem)
    end = x509.load_pem_x509_certificates(pem)[0].not_valid_after_utc
    if end <= datetime.fromtimestamp(now, UTC):
        raise ValueError(f"the certificate ended on {end:%Y-%m-%d %H:%M} UTC")
    return end


def roots(pem: bytes) -> bytes:
    """What is self-signed in a server's file: clients on this machine have to trust that, and cannot know it from elsewhere."""
    found = []
    for each in x509.load_pem_x509_certificates(pem):
        try:
            each.verify_directly_issued_by(each)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        found.append(each.public_bytes(serialization.Encoding.PEM))
    return b"".join(found)


class LiveCertificate:
    """What a server shows to whoever connects, until `replace`: connections that are there keep what they were begun with."""

    def __init__(self, pem: bytes) -> None:
        self._pem = pem
        self.front = self._current = context(pem)
        self.front.sni_callback = self._choose  # called for every connection, also for one that names no server

    @property
    def end(self) -> datetime:
        return x509.load_pem_x509_certificates(self._pem)[0].not_valid_after_utc

    def replace(self, pem: bytes) -> None:
        """Raises ValueError, and goes on with the one there is, where this cannot be served."""
        if pem != self._pem:
            self._current, self._pem = context(pem), pem

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _front: ssl.SSLContext) -> None:
        connection.context = self._current


@contextmanager
def _as_file(content: bytes) -> Iterator[str]:
    descriptor = os.memfd_create("carrel-tls", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def _reason(pem: bytes, error: Exception) -> str:
    if b"ENCRYPTED" in pem:
        return "the key is encrypted: a server that starts by itself needs one that is not"
    if b"PRIVATE KEY-----" not in pem:
        return "there is no key in it"
    if b"-----BEGIN CERTIFICATE-----" not in pem:
        return "there is no certificate in it"
    if isinstance(error, ssl.SSLError) and error.reason == "KEY_VALUES_MISMATCH":
        return "key and certificate do not belong together"
    return f"it is damaged ({getattr(error, 'reason', None) or error})"
