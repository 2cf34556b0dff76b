"""The managed-identity endpoints: how unmodified clients on this machine get a token without being configured for us.

Both hand out tokens of the server's own principal, or of a managed identity made here, so both answer to this machine only, and never
to a request that a proxy passed on (X-Forwarded-For: the mark that cloud metadata services refuse too, since it betrays a forged request
made through somebody's server). Nor to one for a name that is not ours: a web page whose name is made to lead here (DNS rebinding) may
send any header, from the browser of the very user that is let in, and read the reply.

The App Service form asks for a secret header besides. The IMDS form has none, as its clients can send none but `Metadata: true`; there
the kernel is asked whose socket it is, and other users of the machine are refused. Sandboxes have no way here: their loopback is their own.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
import time
from collections.abc import Collection, Mapping

from carrel.audiences import AUDIENCES
from carrel.errors import Forbidden, RequestInvalid, Unauthorized
from carrel.server.audit.noting import of_token
from carrel.server.authority.claims import access_claims
from carrel.server.authority.directory import Directory
from carrel.server.authority.resources import Resources
from carrel.server.exchange import Exchange
from carrel.server.peers import is_loopback, uid_of
from carrel.server.request import decode_query
from carrel.storage import TOKEN_TTL_S, State
from carrel.store import PrincipalRecord
from carrel.wire import jsons

# Which identity: by client id, object id or resource id, whose last part is its name. Azure's services spell two of them in several ways.
_NAMES = {
    "client_id": "app_id",
    "clientid": "app_id",
    "object_id": "object_id",
    "principal_id": "object_id",
    "mi_res_id": "name",
    "msi_res_id": "name",
}
_RESOURCE = re.compile(
    r"/subscriptions/[^/]+/resourcegroups/[^/]+/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/([^/]+)",
    re.IGNORECASE,
)
_MARKS = (b"x-forwarded-for", b"forwarded", b"via", b"x-real-ip")  # what proxies leave on what they pass on


class Identity:
    def __init__(self, state: State, resources: Resources, directory: Directory, hosts: Collection[str]) -> None:
        """`hosts` are the server's own names."""
        self._hosts = {name.lower() for name in hosts}
        self._state = state
        self._resources = resources
        self._directory = directory

    async def app_service(self, exchange: Exchange) -> None:
        """`GET /msi/token` with X-IDENTITY-HEADER, as App Service has it (IDENTITY_ENDPOINT, IDENTITY_HEADER)."""
        self._require_local(exchange)
        given = exchange.header(b"x-identity-header") or ""
        if not hmac.compare_digest(given.encode("latin-1"), self._state.identity_header.encode()):
            raise Unauthorized("X-IDENTITY-HEADER is missing or wrong.", target="X-IDENTITY-HEADER")
        await exchange.reply(200, jsons.encode(await self._token(exchange)))

    async def instance_metadata(self, exchange: Exchange) -> None:
        """`GET /metadata/identity/oauth2/token` with `Metadata: true`, as virtual machines have it."""
        self._require_local(exchange)
        if (exchange.header(b"metadata") or "").lower() != "true":
            raise RequestInvalid("The header 'Metadata: true' is required.", target="Metadata")
        owner = uid_of(exchange.scope["client"], exchange.scope["server"])
        if owner not in (0, self._state.owner):
            raise Forbidden("Only the user that runs the server may have a token here; others use IDENTITY_ENDPOINT.")
        now = int(time.time())
        more = {"expires_in": str(TOKEN_TTL_S), "ext_expires_in": str(TOKEN_TTL_S), "not_before": str(now)}
        await exchange.reply(200, jsons.encode(await self._token(exchange) | more))

    def _require_local(self, exchange: Exchange) -> None:
        is_passed_on = any(exchange.header(mark) is not None for mark in _MARKS)
        if is_passed_on or not is_loopback(exchange.scope["client"]):
            raise Forbidden("Tokens are given to callers on this machine only.")
        host = _host_of(exchange)
        if not (
            _is_address(host) or host in self._hosts
        ):  # no page of somebody else's has an address of ours for a name
            raise Forbidden(
                "Tokens are given at this server's own addresses and names only, such as localhost.", target="Host"
            )

    async def _token(self, exchange: Exchange) -> dict[str, str]:
        query = decode_query(exchange.scope["query_string"])
        resource = query.get("resource", "")
        audience = self._resources.audience(resource)
        if audience is None:
            known = ", ".join(name for names in AUDIENCES.values() for name in names)
            raise RequestInvalid(f"resource must be one of {known}, or this server's address.", target="resource")
        principal = await self._principal(query)
        now = time.time()
        token = self._state.issue_token(audience, subject=principal.id, claims=access_claims(principal), now=now)
        exchange.details = {"grant": "managed_identity", **of_token(token)}
        return {
            "access_token": token,
            "expires_on": str(int(now) + TOKEN_TTL_S),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": principal.app_id,
        }

    async def _principal(self, query: Mapping[str, str]) -> PrincipalRecord:
        """Whom a token is asked for; the server's own principal, where nobody is named. Raises RequestInvalid."""
        named = {_NAMES[name]: value for name, value in query.items() if name in _NAMES and value}
        given = [name for name in _NAMES if query.get(name)]
        if len(named) > 1 or len(given) > 1:
            raise RequestInvalid(f"Only one of {', '.join(given)} may be given.", target=given[-1])
        if "name" in named:
            named["name"] = _name_of(named["name"])
        principal = await self._directory.managed(**named)
        if principal is None or not principal.is_enabled:
            raise RequestInvalid(
                "Identity not found: there is no such managed identity, or it is disabled.",
                target=given[0] if given else None,
            )
        return principal


def _name_of(resource_id: str) -> str:
    match = _RESOURCE.fullmatch(resource_id)
    if match is None:
        raise RequestInvalid("mi_res_id must be the resource id of a user-assigned identity.", target="mi_res_id")
    return match[1]


def _host_of(exchange: Exchange) -> str:
    """The Host header without its port."""
    host = (exchange.header(b"host") or "").strip().lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
