"""Tokens for the control plane: what azure-core calls a credential, and two of our own that ask a server for them.

Anything with azure-core's `get_token(*scopes)` will do, so azure-identity's credentials work here as they are. Ours exist so that the
client of a local server needs no further package: one asks the managed-identity endpoint, one signs in with a client secret.
"""

from __future__ import annotations

import base64
import binascii
import inspect
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import httpx

from carrel.client.connection import is_local, trust
from carrel.client.errors import ApiError, AuthenticationFailed, Fault, error_of

ARM_SCOPE = "https://management.azure.com/.default"
GRAPH_SCOPE = "https://graph.microsoft.com/.default"
DATA_SCOPE = "https://dynamicsessions.io/.default"

DATA_AUDIENCES = ("https://dynamicsessions.io", "https://acasessions.io")

_EARLY_S = 120  # a token that is about to end is asked for anew: the call it is for may wait behind others


class AccessToken(Protocol):
    """What `get_token` returns; azure.core.credentials.AccessToken is one."""

    @property
    def token(self) -> str: ...
    @property
    def expires_on(self) -> int: ...


class Credential(Protocol):
    """azure.core.credentials.TokenCredential, as far as it is needed. Called before each request: it is to keep what it has."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken: ...


class AsyncCredential(Protocol):
    """The same for asyncio."""

    async def get_token(self, *scopes: str, **options: Any) -> AccessToken: ...


@dataclass(frozen=True, slots=True)
class Token:
    token: str = field(repr=False)
    expires_on: int

    def is_good(self, now: float) -> bool:
        return self.expires_on - _EARLY_S > now


@dataclass(frozen=True, slots=True)
class Asking:
    """How a token is asked for: all arguments of httpx's `request`."""

    method: str
    url: str
    options: Mapping[str, Any] = field(repr=False)


Ask = Callable[[str], Asking]  # scope → how to ask


def by_identity(endpoint: str, header: str) -> Ask:
    """From a managed-identity endpoint, as App Service has it."""

    def ask(scope: str) -> Asking:
        query = {"api-version": "2019-08-01", "resource": scope.removesuffix("/.default")}
        return Asking("GET", endpoint, {"params": query, "headers": {"X-IDENTITY-HEADER": header}})

    return ask


def by_nobody(scope: str) -> Asking:
    """Of a server whose authority is switched off."""
    raise ApiError(
        404, "NoAuthority", f"this server hands out no tokens, its authority is switched off: none for {scope}"
    )


def by_secret(authority: str, tenant: str, client_id: str, secret: str) -> Ask:
    """As a service principal, from an authority such as https://localhost:8443 or https://login.microsoftonline.com."""

    def ask(scope: str) -> Asking:
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret, "scope": scope}
        return Asking("POST", f"{authority.rstrip('/')}/{tenant}/oauth2/v2.0/token", {"data": form})

    return ask


class _Kept:
    """The tokens had so far, by scope."""

    def __init__(
        self, ask: Ask, known: Mapping[str, str | None] | None = None, *, ca_bundle: str | None = None
    ) -> None:
        """`known` are tokens that are there already, by scope."""
        self._ask = ask
        self._ca_bundle = ca_bundle
        self._tokens = {scope: Token(text, expiry(text)) for scope, text in (known or {}).items() if text}

    def _find(self, scope: str) -> Token | None:
        token = self._tokens.get(scope)
        return token if token is not None and token.is_good(time.time()) else None

    def _options(self, asking: Asking) -> dict[str, Any]:
        is_ours = is_local(asking.url)
        return {"verify": trust(asking.url, self._ca_bundle), "trust_env": not is_ours, "timeout": 60.0}

    def _keep(self, scope: str, reply: httpx.Response) -> Token:
        token = self._tokens[scope] = read_token(reply)
        return token


class ServerCredential(_Kept):
    """Tokens of a server, asked for when they are needed and kept until shortly before they end."""

    def get_token(self, *scopes: str, **_options: Any) -> Token:
        if (token := self._find(scopes[0])) is not None:
            return token
        asking = self._ask(scopes[0])
        with httpx.Client(**self._options(asking)) as http:
            return self._keep(scopes[0], http.request(asking.method, asking.url, **asking.options))


class AsyncServerCredential(_Kept):
    """The same for asyncio."""

    async def get_token(self, *scopes: str, **_options: Any) -> Token:
        if (token := self._find(scopes[0])) is not None:
            return token
        asking = self._ask(scopes[0])
        async with httpx.AsyncClient(**self._options(asking)) as http:
            return self._keep(scopes[0], await http.request(asking.method, asking.url, **asking.options))


class FixedCredential:
    """Tokens that somebody else got: by audience where a token tells it, so that no plane is sent another one's."""

    def __init__(self, *tokens: str) -> None:
        self._tokens = [token for token in tokens if token]

    def get_token(self, *scopes: str, **_options: Any) -> Token:
        wanted = scopes[0].removesuffix("/.default").rstrip("/")
        is_data = wanted in DATA_AUDIENCES
        # A server's own address is an audience too, which is its control plane's: only the data plane's are known beforehand.
        fitting = [each for each in self._tokens if (audience(each) in DATA_AUDIENCES) == is_data or not audience(each)]
        if not fitting:
            raise ApiError(401, "NoToken", f"none of the tokens is for {wanted}")
        best = next((each for each in fitting if audience(each) == wanted), fitting[0])
        return Token(best, expiry(best))


class Bearer(httpx.Auth):
    """Puts a credential's token on each request. Only ever on requests to the endpoint that the client was made for."""

    def __init__(self, credential: Credential | AsyncCredential | str, scope: str) -> None:
        self._credential = credential
        self._scope = scope

    def sync_auth_flow(self, request: httpx.Request) -> Any:
        text = self._credential
        if not isinstance(text, str):
            text = cast(Credential, text).get_token(self._scope).token
        request.headers["Authorization"] = _header(text)
        yield request

    async def async_auth_flow(self, request: httpx.Request) -> Any:
        text = self._credential
        if not isinstance(text, str):
            found: Any = text.get_token(self._scope)  # of a plain credential, as FixedCredential is, the token itself
            text = (await found if inspect.isawaitable(found) else found).token
        request.headers["Authorization"] = _header(text)
        yield request


def _header(token: str) -> str:
    """Of a token as files have it, with a line's end. Raises AuthenticationFailed: the words of httpx would have the token in them."""
    text = token.strip()
    if not (text.isascii() and text.isprintable()):
        raise AuthenticationFailed(401, "NoToken", "what was given as the token has characters that no token has")
    return f"Bearer {text}"


def read_token(reply: httpx.Response) -> Token:
    """Of either endpoint. Raises ApiError with the authority's own words where it gives none."""
    try:
        body = reply.json()
    except ValueError:
        body = {}
    if not reply.is_success or not isinstance(body, dict) or not isinstance(body.get("access_token"), str):
        told: dict[str, Any] = body if isinstance(body, dict) else {}
        error: Any = told.get("error")
        if isinstance(error, dict):  # ours and Azure's own endpoints wrap it, OAuth does not
            error, told = error.get("code"), {"error_description": error.get("message")}
        message = str(told.get("error_description") or reply.text[:200]).partition("\r\n")[0]
        raise error_of(reply.status_code, Fault(str(error or ""), message))
    try:
        ends = int(body.get("expires_on") or time.time() + int(body.get("expires_in") or 0))
    except (ValueError, TypeError, OverflowError):
        ends = 0  # it is asked for anew the next time
    return Token(body["access_token"], ends)


def claims(token: str) -> dict[str, Any]:
    """What a token says of itself, believed by nobody: empty where it is no JWT."""
    try:
        part = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (IndexError, ValueError, binascii.Error):
        return {}
    return found if isinstance(found, dict) else {}


def audience(token: str) -> str:
    found = claims(token).get("aud")
    return found.rstrip("/") if isinstance(found, str) else ""


def expiry(token: str) -> int:
    """When it ends; in an hour where it does not say."""
    found = claims(token).get("exp")
    return found if isinstance(found, int) else int(time.time()) + 3600
