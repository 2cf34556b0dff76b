"""The authority's operations, by method and path (server/authority/endpoint.py). They need no token: that is what they are for."""

from __future__ import annotations

from collections.abc import Mapping

from carrel.wire.openapi.model import JSON, Content, Operation, json_of
from carrel.wire.openapi.schemas import OBJECT, TEXT, WHOLE, Schema, array, record

PAGE = "/device"
TENANT = "/{tenant}/"

_FORM = "application/x-www-form-urlencoded"
_HTML = "text/html"
_CONFIGURATION = Operation(
    "The OpenID configuration. `tenant` is the tenant's GUID, `organizations`, `common` or `adfs`.",
    {200: json_of("OpenIdConfiguration")},
    errors=(400,),
    security=(),
    error="OAuthError",
)
_KEYS = Operation("The keys that sign tokens.", {200: json_of("Keys")}, errors=(400,), security=(), error="OAuthError")
_TOKEN = Operation(
    "Tokens, by a client's secret, a device code or a refresh token.",
    {200: json_of("Tokens")},
    body=Content({_FORM: "TokenRequest"}),
    errors=(400, 401, 408, 413, 429),
    security=(),
    error="OAuthError",
)
_DEVICE = Operation(
    "Begin to sign a user in who has a browser elsewhere.",
    {200: json_of("DeviceCode")},
    body=Content({_FORM: "DeviceRequest"}),
    errors=(400, 401, 408, 413, 429),
    security=(),
    error="OAuthError",
)
_REVOKE = Operation(
    "End the sign-in that a refresh token belongs to (beyond Azure; RFC 7009).",
    {200: json_of("Object")},
    body=Content({_FORM: "Revocation"}),
    errors=(400, 401, 408, 413),
    security=(),
    error="OAuthError",
)
_AUTHORIZE = Operation(
    "Not served: signing in by a browser's redirect.", {}, errors=(400,), security=(), error="OAuthError"
)

OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("GET", f"{TENANT}v2.0/.well-known/openid-configuration"): _CONFIGURATION,
    ("GET", f"{TENANT}.well-known/openid-configuration"): _CONFIGURATION,
    ("GET", f"{TENANT}discovery/v2.0/keys"): _KEYS,
    ("GET", f"{TENANT}discovery/keys"): _KEYS,
    ("POST", f"{TENANT}oauth2/v2.0/token"): _TOKEN,
    ("POST", f"{TENANT}oauth2/token"): _TOKEN,
    ("POST", f"{TENANT}oauth2/v2.0/devicecode"): _DEVICE,
    ("POST", f"{TENANT}oauth2/devicecode"): _DEVICE,
    ("POST", f"{TENANT}oauth2/v2.0/revoke"): _REVOKE,
    ("POST", f"{TENANT}oauth2/revoke"): _REVOKE,
    ("GET", f"{TENANT}oauth2/v2.0/authorize"): _AUTHORIZE,
    ("GET", f"{TENANT}oauth2/authorize"): _AUTHORIZE,
    ("GET", PAGE): Operation(
        "The page on which a user approves a device.", {200: Content({_HTML: "Text"})}, security=()
    ),
    ("POST", PAGE): Operation(
        "What the page sends. To who accepts JSON, and not HTML, it answers in JSON.",
        {status: Content({_HTML: "Text", JSON: "Object"}) for status in (200, 400, 401, 403, 404, 429)},
        body=Content({_FORM: "Approval"}),
        errors=(408, 413),
        security=(),
    ),
}

SCHEMAS: dict[str, Schema] = {
    "OAuthError": record({"error": TEXT, "error_description": TEXT}, error_codes=array(WHOLE)),
    "OpenIdConfiguration": record(
        {"issuer": TEXT, "authorization_endpoint": TEXT, "token_endpoint": TEXT, "device_authorization_endpoint": TEXT}
    ),
    "Keys": record({"keys": array(OBJECT)}),
    "TokenRequest": record(
        {"grant_type": {"type": "string", "examples": ["client_credentials"]}},
        client_id=TEXT,
        client_secret=TEXT,
        scope={"type": "string", "examples": ["https://dynamicsessions.io/.default"]},
        resource=TEXT,
        device_code=TEXT,
        refresh_token=TEXT,
    ),
    "Tokens": record(
        {"token_type": TEXT, "expires_in": WHOLE, "access_token": TEXT}, refresh_token=TEXT, id_token=TEXT
    ),
    "Revocation": record({"token": TEXT, "client_id": TEXT}),
    "DeviceRequest": record({"client_id": TEXT}, scope=TEXT, resource=TEXT),
    "DeviceCode": record(
        {"user_code": TEXT, "device_code": TEXT, "verification_uri": TEXT, "expires_in": WHOLE, "interval": WHOLE}
    ),
    "Approval": {"type": "object", "additionalProperties": TEXT},
}
PARAMETERS: dict[str, Schema] = {}
