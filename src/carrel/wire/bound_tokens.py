"""Identifier-bound tokens: what is asked for, and what is given."""

from __future__ import annotations

from dataclasses import dataclass

from carrel.errors import RequestInvalid
from carrel.wire import fields, jsons, names
from carrel.wire.times import timestamp

MAX_BODY = 4096
DEFAULT_TTL_S = 3600
MAX_TTL_S = 86_400


@dataclass(frozen=True, slots=True)
class BoundRequest:
    identifier: str
    ttl_s: int


def decode_bound_request(body: bytes) -> BoundRequest:
    """`{"identifier": "…", "ttlInSeconds": 900}`. Raises RequestInvalid."""
    given = jsons.decode_object(body)
    if unknown := [name for name in given if name not in ("identifier", "ttlInSeconds")]:
        raise RequestInvalid("Known are 'identifier' and 'ttlInSeconds'.", target=unknown[0][:100])
    ttl = fields.integer(given, "ttlInSeconds")
    ttl = DEFAULT_TTL_S if ttl is None else ttl
    if not 1 <= ttl <= MAX_TTL_S:
        raise RequestInvalid(f"'ttlInSeconds' must be from 1 to {MAX_TTL_S}.", target="ttlInSeconds")
    return BoundRequest(names.decode_identifier(fields.text(given, "identifier")), ttl)


def encode_bound(token: str, identifier: str, expires_at: float) -> bytes:
    return jsons.encode({"identifier": identifier, "token": token, "expiresAt": timestamp(expires_at)})
