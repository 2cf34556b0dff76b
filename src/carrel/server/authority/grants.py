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
from oauthlib.oauth2.rfc6749.grant_types import ClientCredentialsGrant
from oauthlib.oauth2.rfc6749.tokens import BearerToken

from carrel.server.authority.directory import Client
from carrel.wire.oauth import Form, OAuthError, invalid_client, missing

logging.getLogger("oauthlib").setLevel(logging.WARNING)  # on `debug` it writes tokens into the log

_URI = "https://authority.carrel/token"  # oauthlib wants one; what it says is looked at by nobody

# OAuth's error → Entra's number and a sentence for whoever reads it.
_ANSWERS = {
    "invalid_request": (900144, "The request is malformed, or a parameter is missing."),
    "unauthorized_client": (700016, "The client may not use this grant."),
    "unsupported_grant_type": (70003, "The app requested an unsupported grant type."),
    "invalid_scope": (70011, "The provided value for the input parameter 'scope' is not valid."),
    "invalid_grant": (9002313, "The grant is invalid, was revoked, or was issued to another client."),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a request before it is decided."""

    form: Form = field(repr=False)
    client: Client | None
    is_authenticated: bool  # the client's secret was given and is right


def decide(facts: Facts) -> None:
    """Raises OAuthError where the request is not to be granted."""
    form = facts.form
    if not form.grant_type:
        raise missing("grant_type")
    if not form.client_id:
        raise missing("client_id")
    if facts.client is None:
        raise OAuthError(
            "unauthorized_client", 700016, f"Application with identifier '{_shown(form.client_id)}' was not found."
        )
    _, body, status = _endpoint(_Validator(facts)).create_token_response(_URI, "POST", _body(form), {})
    if status != 200:
        error = str(json.loads(body)["error"])
        number, message = _ANSWERS.get(error, _ANSWERS["invalid_request"])
        raise OAuthError(error, number, message)


def _body(form: Form) -> list[tuple[str, str]]:
    """Without secrets, which were checked before."""
    fields = {"grant_type": form.grant_type, "client_id": form.client_id, "scope": form.scope}
    return [(name, value) for name, value in fields.items() if value]


def _endpoint(validator: RequestValidator) -> TokenEndpoint:
    grants = {"client_credentials": ClientCredentialsGrant(validator)}
    # The tokens are not oauthlib's: ours are signed, and made once it is known that there will be one.
    tokens = BearerToken(validator, token_generator=lambda _request: "granted")
    # Its stub says that the default token type is a name; the code wants the handler itself.
    return TokenEndpoint("unsupported", cast(Any, tokens), grants | {"unsupported": _Unsupported(validator)})


class _Unsupported(ClientCredentialsGrant):
    """Answers for every grant type that is none of ours, and for none at all."""


class _Validator(RequestValidator):
    """oauthlib's questions, answered from the facts."""

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    def client_authentication_required(self, request: Request, *_: Any, **__: Any) -> bool:
        return self._facts.client is not None and not self._facts.client.is_public

    def authenticate_client(self, request: Request, *_: Any, **__: Any) -> bool:
        request.client = self._facts.client
        if self._facts.is_authenticated:
            return True
        if self._facts.client is not None and self._facts.client.is_public:
            raise invalid_client(700025, "Client is public, so no 'client_secret' should be presented.")
        if not self._facts.form.client_secret:
            raise invalid_client(7000218, "The request body must contain the following parameter: 'client_secret'.")
        raise invalid_client(7000215, f"Invalid client secret provided for app '{_shown(self._facts.form.client_id)}'.")

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Request, *_: Any, **__: Any
    ) -> bool:
        return True

    def validate_scopes(
        self, client_id: str, scopes: list[str], client: Any, request: Request, *_: Any, **__: Any
    ) -> bool:
        return True  # resources.py has read them

    def get_default_scopes(self, client_id: str, request: Request, *_: Any, **__: Any) -> list[str]:
        return []

    def save_bearer_token(self, token: Any, request: Request, *_: Any, **__: Any) -> None:
        """Nothing: access tokens are signed, not stored."""


def _shown(text: str) -> str:
    """A stranger's word inside a message."""
    return text[:80].encode("ascii", "replace").decode().replace("'", "?")
