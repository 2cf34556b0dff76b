"""The authority's wire: OAuth forms in, OAuth replies out, both as Entra writes them.

A form is read here and not by a library: what comes twice, is too long or is not text is refused before anything looks at it, and only the
fields that a grant may have go further.
"""

from __future__ import annotations

import base64
import binascii
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm

from carrel.errors import CarrelError

MAX_FORM = 64 * 1024
_MAX_FIELDS = 40
_MAX_VALUE = 16 * 1024

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
_FORM = "application/x-www-form-urlencoded"


class OAuthError(CarrelError):
    """An answer of the authority: `error` as OAuth has it, `number` as Entra's AADSTS codes have it."""

    code, status = "OAuthError", 400

    def __init__(
        self, error: str, number: int, message: str, *, status: int = 400, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, headers=headers)
        self.error = self.code = error
        self.number = number
        self.status = status


@dataclass(frozen=True, slots=True)
class Form:
    """What a client posts to the token or device-code endpoint. Fields that are not there are empty."""

    grant_type: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    scope: str = ""
    resource: str = ""
    device_code: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    client_info: str = ""
    token: str = field(default="", repr=False)  # that is to be revoked


def decode_form(body: bytes, content_type: str, authorization: str | None) -> Form:
    """Raises OAuthError."""
    fields: dict[str, str] = {}
    for name, value in decode_fields(body, content_type):
        if name in fields:
            raise invalid_request(90014, f"The parameter '{shown(name)}' is given twice.")
        fields[name] = value
    fields.setdefault("device_code", fields.get("code", ""))  # what the v1 endpoint calls it; MSAL sends both
    known = {name: fields[name] for name in Form.__dataclass_fields__ if name in fields}
    return Form(**known) if authorization is None else _with_header(known, authorization)


def decode_fields(body: bytes, content_type: str) -> list[tuple[str, str]]:
    """The fields of any form, in their order. Raises OAuthError."""
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise invalid_request(900144, f"The request body must be of type '{_FORM}'.")
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise invalid_request(90014, "The request body is not a form in UTF-8, or has too many fields.") from error
    for name, value in pairs:
        if len(value) > _MAX_VALUE or "\0" in value:
            raise invalid_request(90014, f"The parameter '{shown(name)}' is too long or not text.")
    return pairs


def _with_header(fields: dict[str, str], authorization: str) -> Form:
    """`Authorization: Basic` (RFC 6749 §2.3.1): both halves are form-encoded before they are put together."""
    scheme, _, value = authorization.partition(" ")
    try:
        if scheme.lower() != "basic":
            raise ValueError("not Basic")
        name, colon, secret = base64.b64decode(value.strip(), validate=True).decode("utf-8").partition(":")
        client_id, client_secret = unquote_plus(name, errors="strict"), unquote_plus(secret, errors="strict")
    except (ValueError, binascii.Error) as error:
        raise invalid_client(900144, "The Authorization header must be of the form 'Basic <credentials>'.") from error
    if "\0" in client_id:
        raise invalid_client(900144, "The client id is not text.")
    if not colon or "client_secret" in fields or fields.get("client_id", client_id) != client_id:
        raise invalid_request(90014, "The client authenticates in two ways at once, or as two clients.")
    return Form(**(fields | {"client_id": client_id, "client_secret": client_secret}))


def shown(text: str) -> str:
    """A stranger's word inside a message."""
    return text[:80].encode("ascii", "replace").decode().replace("'", "?")


def invalid_request(number: int, message: str) -> OAuthError:
    return OAuthError("invalid_request", number, message)


def missing(parameter: str) -> OAuthError:
    return invalid_request(900144, f"The request body must contain the following parameter: '{parameter}'.")


def invalid_client(number: int, message: str) -> OAuthError:
    return OAuthError(
        "invalid_client", number, message, status=401, headers={"WWW-Authenticate": 'Basic realm="carrel"'}
    )


def encode_oauth_error(error: OAuthError, trace_id: str, correlation_id: str, now: float) -> dict[str, Any]:
    """In Entra's form: clients show `error_description`, and some look for numbers in `error_codes`."""
    timestamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(now))
    return {
        "error": error.error,
        "error_description": f"AADSTS{error.number}: {error.message} Trace ID: {trace_id} "
        f"Correlation ID: {correlation_id} Timestamp: {timestamp}",
        "error_codes": [error.number],
        "timestamp": timestamp,
        "trace_id": trace_id,
        "correlation_id": correlation_id,
    }


def encode_configuration(origin: str, tenant: str, issuer: str, *, is_adfs: bool) -> dict[str, Any]:
    """The OpenID configuration below `tenant`, the first word of the path it was asked at."""
    base = f"{origin}/{tenant}"
    oauth2 = f"{base}/oauth2" if is_adfs else f"{base}/oauth2/v2.0"
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{oauth2}/authorize",
        "token_endpoint": f"{oauth2}/token",
        "device_authorization_endpoint": f"{oauth2}/devicecode",
        "revocation_endpoint": f"{oauth2}/revoke",
        "jwks_uri": f"{base}/discovery/keys" if is_adfs else f"{base}/discovery/v2.0/keys",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "grant_types_supported": ["client_credentials", "refresh_token", DEVICE_GRANT],
        "response_types_supported": ["token"],
        "response_modes_supported": ["query"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "offline_access"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "nbf", "oid", "tid", "name", "preferred_username"],
    }


def encode_key(name: str, key: RSAPublicKey) -> dict[str, Any]:
    """One of the JSON Web Key Set (RFC 7517)."""
    jwk = RSAAlgorithm.to_jwk(key, as_dict=True)
    return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": name, "n": jwk["n"], "e": jwk["e"]}


def encode_device_code(
    device_code: str, user_code: str, page: str, life_s: int, interval_s: int, *, is_classic: bool
) -> dict[str, Any]:
    """RFC 8628 §3.2; `message` is what az and azure-identity print. The v1 endpoint's words are others."""
    fields = {
        "user_code": user_code,
        "device_code": device_code,
        "verification_uri": page,
        "expires_in": life_s,
        "interval": interval_s,
        "message": f"To sign in, open the page {page} in a browser and enter the code {user_code}.",
    }
    return fields | {"verification_url": page} if is_classic else fields
