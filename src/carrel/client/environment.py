"""What the environment says of the pool to use, and of whom to be: for `Client.from_env` and `Management.from_env`.

The variables are those of `carrel env`, and those that Azure's samples and azure-identity know. Without any of them it is the local
server's pool. A secret goes only to the authority that is named with it, or to Microsoft's for a pool of Azure.
"""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from carrel.client.connection import Connection, NotRunning, is_local
from carrel.client.credentials import ARM_SCOPE, DATA_SCOPE, Ask, FixedCredential, by_identity, by_secret

_ENDPOINTS = ("CARREL_POOL_ENDPOINT", "POOL_MANAGEMENT_ENDPOINT", "ACA_POOL_MANAGEMENT_ENDPOINT")
MANAGEMENT_ENDPOINTS = ("CARREL_ENDPOINT", "CARREL_ARM")
_TOKENS = {DATA_SCOPE: "CARREL_TOKEN", ARM_SCOPE: "CARREL_ARM_TOKEN"}
_ENTRA = "https://login.microsoftonline.com"
_AZURES = (".azure.com", ".dynamicsessions.io", ".acasessions.io", ".azurecontainerapps.io")

Kind = Callable[..., Any]  # ServerCredential, or the one for asyncio


class NotConfigured(Exception):
    """The environment does not say what is needed; the message says which variable would."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The environment, read. `azure` is the module that has DefaultAzureCredential."""

    azure: str
    kind: Kind
    variables: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def pool_endpoint(self, pool: str) -> str | None:
        return self.endpoint(f"CARREL_POOL_{re.sub('[^A-Z0-9]', '_', pool.upper())}", *_ENDPOINTS)

    def endpoint(self, *names: str) -> str | None:
        """None where there is none named. Raises NotConfigured for one that tokens must not be sent to."""
        found = next(((name, self.variables[name]) for name in names if self.variables.get(name)), None)
        if found is None:
            return None
        name, endpoint = found
        is_private = endpoint.lower().startswith("https://") or is_local(endpoint)
        if not urlsplit(endpoint).hostname or not (is_private or self.variables.get("CARREL_INSECURE_HTTP")):
            raise NotConfigured(f"{name}: is no https:// address (http:// elsewhere: CARREL_INSECURE_HTTP=true)")
        return endpoint

    def credential(self, endpoint: str, scope: str = DATA_SCOPE) -> Any:
        """Whom to be there. Raises NotConfigured. A pool's token is taken as it is: an issuer may call its audience as it likes."""
        tokens = {scope: self.variables.get(name) for scope, name in _TOKENS.items()}
        ask = self._ask(endpoint)
        if ask is not None:
            return self.kind(ask, tokens, ca_bundle=self.ca_bundle())
        if scope == DATA_SCOPE and tokens[scope]:
            return tokens[scope]
        if tokens[scope]:
            return FixedCredential(*(token for token in tokens.values() if token))
        try:
            return importlib.import_module(self.azure).DefaultAzureCredential()
        except ImportError:
            raise NotConfigured(
                f"no token: set {_TOKENS[scope]}, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, "
                "or install azure-identity"
            ) from None

    def ca_bundle(self) -> str | None:
        return self.variables.get("SSL_CERT_FILE") or self.variables.get("REQUESTS_CA_BUNDLE") or None

    def local(self, pool: str) -> tuple[str, Any, str | None]:
        """The local server's pool, credential and certificates. Raises NotConfigured."""
        try:
            connection = Connection.read()
            found = connection.pools[pool]
        except NotRunning as error:
            text = f"set CARREL_POOL_ENDPOINT, or start a server with `carrel serve` ({error})"
            raise NotConfigured(text) from error
        except KeyError:
            raise NotConfigured(f"the local server has no pool {pool!r}") from None
        fields = connection.fields
        if not fields.get("identity_endpoint"):
            return found.endpoint, connection.token, connection.ca_bundle
        ask = by_identity(fields["identity_endpoint"], fields["identity_header"])
        credential = self.kind(ask, {DATA_SCOPE: connection.token}, ca_bundle=connection.ca_bundle)
        return found.endpoint, credential, connection.ca_bundle

    def first(self, *names: str) -> str | None:
        return next((self.variables[name] for name in names if self.variables.get(name)), None)

    def _ask(self, endpoint: str) -> Ask | None:
        """How to get tokens oneself; as azure-identity would: a client secret, then a managed identity."""
        named = self.variables.get
        tenant, client, secret = (named(f"AZURE_{name}", "") for name in ("TENANT_ID", "CLIENT_ID", "CLIENT_SECRET"))
        authority = named("AZURE_AUTHORITY_HOST") or (_ENTRA if _is_azures(endpoint) else "")
        if tenant and client and secret and authority:
            address = authority if "://" in authority else f"https://{authority}"
            if not (address.lower().startswith("https://") or is_local(address)):
                raise NotConfigured("AZURE_AUTHORITY_HOST: would be sent the client secret in the clear; https://…")
            return by_secret(address, tenant, client, secret)
        identity, header = named("IDENTITY_ENDPOINT"), named("IDENTITY_HEADER")
        if identity and header:
            return by_identity(identity, header)
        return None


def _is_azures(endpoint: str) -> bool:
    return (urlsplit(endpoint).hostname or "").endswith(_AZURES)
