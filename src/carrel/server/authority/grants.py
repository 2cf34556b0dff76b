"""Which token requests are granted: oauthlib's token endpoint over facts that were read before.

oauthlib decides synchronously, what it asks about lies in a store that answers later, and secrets take tens of milliseconds to check: so
everything it may ask for is gathered first, and what it decides is carried out afterwards.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from typing import Any, cast

from oauthlib.common import Request
from oauthlib.oauth2 import RequestValidator
from oauthlib.oauth2.rfc6749.endpoints.token import TokenEndpoint
from oauthlib.oauth2.rfc6749.grant_types import ClientCredentialsGrant, RefreshTokenGrant
from oauthlib.oauth2.rfc6749.tokens import BearerToken
from oauthlib.oauth2.rfc8628.grant_types import DeviceCodeGrant

from carrel.server.authority.directory import Client, Verdict
from carrel.server.authority.refreshing import Presented
from carrel.store import GrantRecord
from carrel.wire.oauth import DEVICE_GRANT, Form, OAuthError, invalid_client, missing, shown

logging.getLogger("oauthlib").setLevel(logging.WARNING)  # on `debug` it writes tokens into the log

_URI = "https://authority.carrel/token"  # oauthlib wants one; what it says is looked at by nobody
_FOR_USERS = (DEVICE_GRANT, "refresh_token")

# OAuth's error → Entra's number and a sentence for whoever reads it.
_ANSWERS = {
    "invalid_request": (900144, "The request is malformed, or a parameter is missing."),
    "unauthorized_client": (700016, "The client may not use this grant."),
    "unsupported_grant_type": (70003, "The app requested an unsupported grant type."),
    "invalid_scope": (70011, "The provided value for the input parameter 'scope' is not valid."),
    "invalid_grant": (70000, "The provided grant is invalid: it was used, revoked, or issued to another client."),
    "authorization_pending": (70016, "The sign-in is pending: the code was not entered yet."),
    "slow_down": (70016, "The sign-in is pending, and you ask too often."),
    "expired_token": (70019, "The code has expired. Begin again."),
    "access_denied": (65004, "The sign-in was denied by the person who was asked."),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request before it is decided."""

    form: Form
    client: Client | None
    verdict: Verdict = Verdict.WRONG  # on the client's secret
    device: GrantRecord | None = field(default=None, repr=False)
    refresh: Presented | None = field(default=None, repr=False)


def decide(facts: Facts) -> None:
    """Raises OAuthError where the request is not to be granted."""
    form = facts.form
    if not form.grant_type:
        raise missing("grant_type")
    if not form.client_id:
        raise missing("client_id")
    if facts.client is None:
        name = shown(form.client_id)
        raise OAuthError("unauthorized_client", 700016, f"Application with identifier '{name}' was not found.")
    _, body, status = _endpoint(_Validator(facts)).create_token_response(_URI, "POST", _body(form), {})
    if status != 200:
        error = str(json.loads(body)["error"])
        number, message = _ANSWERS.get(error, _ANSWERS["invalid_request"])
        raise OAuthError(error, number, message)


def _body(form: Form) -> list[tuple[str, str]]:
    """Without secrets and codes, which were looked at before: it asks whether they are there."""
    fields = {"grant_type": form.grant_type, "client_id": form.client_id, "scope": form.scope}
    given = {"device_code": form.device_code, "refresh_token": form.refresh_token}
    return [(name, value) for name, value in fields.items() if value] + [
        (name, "given") for name in given if given[name]
    ]


def _endpoint(validator: RequestValidator) -> TokenEndpoint:
    grants = {
        "client_credentials": ClientCredentialsGrant(validator),
        "refresh_token": RefreshTokenGrant(validator),
        DEVICE_GRANT: DeviceCodeGrant(validator),
        "unsupported": ClientCredentialsGrant(validator),  # which answers for all others that it is not they
    }
    # The tokens are not oauthlib's: ours are signed, and made once it is known that there will be one.
    tokens = BearerToken(validator, token_generator=lambda _request: "granted")
    # Its stub says that the default token type is a name; the code wants the handler itself.
    return TokenEndpoint("unsupported", cast(Any, tokens), grants)


class _Validator(RequestValidator):
    """oauthlib's questions, answered from the facts."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    def client_authentication_required(self, request: Request, *_: Any, **__: Any) -> bool:
        return self._facts.client is not None and not self._facts.client.is_public

    def authenticate_client(self, request: Request, *_: Any, **__: Any) -> bool:
        client = request.client = self._facts.client
        name = shown(self._facts.form.client_id)
        if client is None or client.principal is None:
            raise invalid_client(700025, "Client is public, so no 'client_secret' should be presented.")
        if not self._facts.form.client_secret:
            raise invalid_client(7000218, "The request body must contain the following parameter: 'client_secret'.")
        if self._facts.verdict is Verdict.WRONG:
            raise invalid_client(7000215, f"Invalid client secret provided for app '{name}'.")
        if self._facts.verdict is Verdict.EXPIRED:
            raise invalid_client(7000222, f"The provided client secret for app '{name}' has expired.")
        if not client.principal.is_enabled:
            raise OAuthError("unauthorized_client", 7000112, f"Application '{name}' is disabled.")
        return True

    def authenticate_client_id(self, client_id: str, request: Request, *_: Any, **__: Any) -> bool:
        request.client = self._facts.client
        return True

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Request, *_: Any, **__: Any
    ) -> bool:
        asker = self._facts.client
        return asker is not None and (grant_type in _FOR_USERS) == asker.is_public

    def validate_device_code(self, client_id: str, code: str, request: Request, *_: Any, **__: Any) -> str | None:
        device = self._facts.device
        request.scopes = device.scope.split() if device else []
        return device.state if device else None

    def validate_refresh_token(self, refresh_token: str, client: Any, request: Request, *_: Any, **__: Any) -> bool:
        return self._facts.refresh is not None

    def get_original_scopes(self, refresh_token: str, request: Request, *_: Any, **__: Any) -> list[str]:
        return self._facts.refresh.record.scope.split() if self._facts.refresh else []

    def is_within_original_scope(
        self, request_scopes: Any, refresh_token: str, request: Request, *_: Any, **__: Any
    ) -> bool:
        """Entra's refresh tokens are good for every resource: az signs in for ARM's and goes on to Graph's and the pools'."""
        return True

    def validate_scopes(self, client_id: str, scopes: Any, client: Any, request: Request, *_: Any, **__: Any) -> bool:
        return True  # resources.py reads them

    def get_default_scopes(self, client_id: str, request: Request, *_: Any, **__: Any) -> list[str]:
        return []

    def save_bearer_token(self, token: Any, request: Request, *_: Any, **__: Any) -> None:
        """Nothing: access tokens are signed, not stored."""
