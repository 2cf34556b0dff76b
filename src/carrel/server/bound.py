"""`.carrel/token`: tokens that are good for one session only, so that an application can hand its user the way to that user's session.

Beyond Azure, where a token opens every session of the pool and must never leave the application. Such a token speaks for whom it was made
for: what that principal loses, it loses too, and it does not outlive the token that it was asked for with.
"""

from __future__ import annotations

import time

from carrel.errors import Unauthorized
from carrel.server.access import Principal
from carrel.server.audit.noting import of_token
from carrel.server.call import Call
from carrel.storage import State
from carrel.store import PoolId
from carrel.wire import bound_tokens as wire
from carrel.wire.bound_tokens import BoundRequest


class BoundTokens:
    """What makes them. `scope` is the pool's resource id."""

    def __init__(self, state: State) -> None:
        self._state = state

    def issue(self, principal: Principal, scope: str, request: BoundRequest) -> tuple[str, bytes]:
        """The token, and the reply with it. Raises Unauthorized."""
        now = time.time()
        ttl_s = int(min(request.ttl_s, principal.ends_at - now))
        if ttl_s < 1:
            raise Unauthorized("The token is about to expire.")
        claims = _claims(principal, scope, request.identifier)
        token = self._state.issue_token(ttl_s=ttl_s, subject=principal.id, claims=claims, now=now)
        return token, wire.encode_bound(token, request.identifier, int(now) + ttl_s)


async def issue(call: Call) -> None:
    """`POST .carrel/token`, for those who may use every session of the pool."""
    request = wire.decode_bound_request(await call.exchange.body(wire.MAX_BODY))
    target = call.target
    scope = PoolId(target.subscription, target.resource_group, target.pool).resource_id
    token, reply = call.tokens.issue(call.exchange.caller()[0], scope, request)
    call.exchange.session = call.digest(request.identifier)
    call.exchange.details = {"grant": "identifier-bound", **of_token(token)}
    await call.exchange.reply(201, reply)


def _claims(principal: Principal, scope: str, identifier: str) -> dict[str, object]:
    """Rights that came with the caller's token, or with its groups there, go on with this one; all others are looked up when it is used."""
    claims: dict[str, object] = {
        "carrel_identifier": identifier,
        "carrel_scope": scope,
        "idtyp": "user" if principal.kind == "User" else "app",
        "appid": principal.app_id,
    }
    if principal.is_granted:
        claims |= {"roles": sorted(principal.granted_roles), "carrel_pools": sorted(principal.granted_pools)}
    if groups := sorted(principal.ids - {principal.id.lower()}):
        claims["groups"] = groups
    return claims
