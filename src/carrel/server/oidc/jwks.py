"""An issuer's key set (RFC 7517), read as hostile input: what is no usable public key of a known kind is passed over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

MOST_KEYS = 64
_MOST_ENTRIES = 1000
_RSA_BITS = range(2048, 8193)
_NUMBER = 1400  # characters of a modulus, a little over 8192 bits
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_PRIVATE = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key and what it verifies. Which algorithm that is, is the key's word and never the token's."""

    id: str | None
    algorithms: frozenset[str]
    key: RSAPublicKey | EllipticCurvePublicKey = field(repr=False)


class Malformed(ValueError):
    """What an issuer sent is not what it should be."""


def parse(text: bytes) -> tuple[PublicKey, ...]:
    """Raises Malformed where it is no key set; keys that are of no use here are left out."""
    entries = document(text).get("keys")
    if not isinstance(entries, list) or len(entries) > _MOST_ENTRIES:
        raise Malformed("its key set has no list of keys, or too many")
    found = [key for entry in entries if isinstance(entry, dict) and (key := _key(entry)) is not None]
    return tuple(found[:MOST_KEYS])


def document(text: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise Malformed("what it sent is not JSON") from None
    if not isinstance(fields, dict):
        raise Malformed("what it sent is no JSON object")
    return fields


def matching(keys: tuple[PublicKey, ...], key_id: str | None, algorithm: str) -> list[PublicKey]:
    """The keys that a token may be held against. One that names no key is held against an only key, not against all of them."""
    fitting = [key for key in keys if algorithm in key.algorithms]
    if key_id is None:
        return fitting if len(fitting) == 1 else []
    return [key for key in fitting if key.id == key_id][:2]


def _key(entry: Mapping[str, Any]) -> PublicKey | None:
    operations = entry.get("key_ops")
    if entry.get("use", "sig") != "sig" or _PRIVATE & entry.keys():
        return None
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        return None
    name = entry.get("kid")
    if name is not None and not (isinstance(name, str) and 0 < len(name) <= 512):
        return None
    try:
        made = _made(entry)
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, UnsupportedAlgorithm):
        return None
    if made is None:
        return None
    key, algorithms = made
    if (only := entry.get("alg")) is not None:
        algorithms = algorithms & {only} if isinstance(only, str) else frozenset()
    return PublicKey(name, algorithms, key) if algorithms else None


def _made(entry: Mapping[str, Any]) -> tuple[RSAPublicKey | EllipticCurvePublicKey, frozenset[str]] | None:
    if entry.get("kty") == "RSA" and _is_short(entry, n=_NUMBER, e=12):
        rsa = RSAAlgorithm.from_jwk({name: entry[name] for name in ("kty", "n", "e")})
        return (rsa, frozenset(_RSA)) if isinstance(rsa, RSAPublicKey) and rsa.key_size in _RSA_BITS else None
    if entry.get("kty") == "EC" and entry.get("crv") in _CURVES and _is_short(entry, x=100, y=100):
        curve = ECAlgorithm.from_jwk({name: entry[name] for name in ("kty", "crv", "x", "y")})
        return (curve, frozenset([_CURVES[entry["crv"]]])) if isinstance(curve, EllipticCurvePublicKey) else None
    return None


def _is_short(entry: Mapping[str, Any], **limits: int) -> bool:
    """Whether these are texts, and none so long that to make a number of it would take time."""
    return all(isinstance(entry.get(name), str) and len(entry[name]) <= most for name, most in limits.items())
