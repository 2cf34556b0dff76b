"""Our own certificate authority and the server certificate it issues.

The extensions are those that OpenSSL's strict mode (X509_STRICT, on by default from Python 3.13) asks for. Clients trust the CA only
where somebody points them at its file; it is never installed on the machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CA_DAYS = 3650
_SERVER_DAYS = 397  # the most that browsers and Apple's libraries take is 398
_RENEW_DAYS = 30
_CA_RENEW_DAYS = 730  # longer than a server's certificate lives
_SKEW = timedelta(days=1)  # clocks differ, and containers start with odd ones
_LOCAL = ("localhost", "127.0.0.1", "::1")


def server_names(extra: Iterable[str]) -> frozenset[str]:
    """The names and addresses a server certificate must hold: always the local ones; wildcard addresses are nobody's name."""
    return frozenset(_LOCAL) | {name for name in extra if name and name not in ("0.0.0.0", "::")}  # noqa: S104


@dataclass(frozen=True, slots=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def load(cls, pem: bytes) -> Authority:
        """From key and certificate in one file. Raises ValueError where they are damaged or do not belong together."""
        key = serialization.load_pem_private_key(pem, None)
        certificate = x509.load_pem_x509_certificate(pem)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise ValueError("key and certificate do not belong together")
        return cls(key, certificate)

    @property
    def certificate_pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def is_fresh(self, now: float) -> bool:
        return self.certificate.not_valid_after_utc.timestamp() - now > _CA_RENEW_DAYS * 86_400

    def renewed(self, now: float) -> bytes:
        """The same key and name with a new certificate: what was issued stays good, and who trusts the old one trusts it till its end."""
        return _authority_pem(self.key, self.certificate.subject, now)

    def covers(self, pem: bytes, names: frozenset[str], now: float) -> bool:
        """Whether a server's file was issued by this authority, holds every name and stays good for a while."""
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            certificate.verify_directly_issued_by(self.certificate)
            held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (ValueError, TypeError, x509.ExtensionNotFound, InvalidSignature):
            return False
        is_fresh = certificate.not_valid_after_utc.timestamp() - now > _RENEW_DAYS * 86_400
        return is_fresh and {str(name.value) for name in held} >= names

    def issue(self, names: frozenset[str], now: float) -> bytes:
        """A new server key with its certificate and ours, as PEM in the order that TLS servers read."""
        key = ec.generate_private_key(ec.SECP256R1())
        start = datetime.fromtimestamp(now, UTC) - _SKEW
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Carrel server")])
        builder = _builder(subject, self.certificate.subject, key.public_key(), start, _SERVER_DAYS)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in sorted(names)]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return _private_pem(key) + certificate.public_bytes(serialization.Encoding.PEM) + self.certificate_pem


def make_authority() -> bytes:
    """A new CA: key and certificate as PEM in one piece."""
    key = ec.generate_private_key(ec.SECP256R1())
    # Two servers of one machine have two CAs: a name of its own keeps a client that trusts both from picking the wrong one.
    name = f"Carrel CA {x509.random_serial_number():040x}"[:26]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return _authority_pem(key, subject, datetime.now(UTC).timestamp())


def _authority_pem(key: ec.EllipticCurvePrivateKey, subject: x509.Name, now: float) -> bytes:
    certificate = (
        _builder(subject, subject, key.public_key(), datetime.fromtimestamp(now, UTC) - _SKEW, _CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _private_pem(key) + certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
