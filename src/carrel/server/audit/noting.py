"""A call as the audit log has it: who, what, where, how it ended. No path, since identifiers and names of files stand in it, and no secret.

Sessions are known by the digest that the server's log has for them too, and files by one of the same kind: names of files are people's own
words, and the log is kept longer than they are. Whoever knows a name can have its digest (`carrel audit digest`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import jwt

from carrel.audit.trail import stamp
from carrel.errors import CarrelError
from carrel.server.audit.actions import Action
from carrel.server.audit.describing import Code
from carrel.server.exchange import Exchange
from carrel.wire import arm_paths

_LONGEST = 512  # characters of anything that callers choose
_POOL = re.compile(r"/resourceGroups/([^/]+)/providers/Microsoft\.App/sessionPools/([^/]+)", re.IGNORECASE)
_CLAIMS = {"aud": "audience", "exp": "expires", "jti": "tokenId", "appid": "client", "carrel_scope": "onlyFor"}

Record = dict[str, object]


def of_call(exchange: Exchange, action: Action | None, outcome: str) -> Record:
    """A record of what a call is about. `action` is None for one that was refused before it was about anything."""
    record: Record = {
        "at": stamp(time.time()),
        "action": action.name if action else "calls/other",
        "outcome": outcome,
        "status": exchange.status,
        "code": exchange.fault,
        "route": f"{exchange.method} {exchange.route}" if exchange.route else "",
        **_actor(exchange),
        "peer": peer_of(exchange),
        "trace": exchange.trace_id,
        **_place(exchange),
        "session": exchange.session,
        "details": {name: _short(value) for name, value in exchange.details.items()},
    }
    return {name: value for name, value in record.items() if value}


def peer_of(exchange: Exchange) -> str:
    client = exchange.scope.get("client")
    return str(client[0]) if client else ""


def of_token(token: str) -> dict[str, Any]:
    """What a token that is being handed out says of itself: for whom, for what, until when, under which number. Never the token."""
    try:
        claims: Mapping[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return {}
    found = {name: claims[claim] for claim, name in _CLAIMS.items() if claim in claims}
    if "expires" in found:
        found["expires"] = stamp(float(found["expires"]))
    return {"for": str(claims.get("oid", "")), **found}


def outcome_of(status: int) -> str:
    if status in (401, 403):
        return "Refused"
    if status >= 400:
        return "Failed"
    return "Accepted" if status == 202 else "Succeeded"


def _actor(exchange: Exchange) -> Record:
    principal = exchange.principal
    if principal is None:
        return {}
    found: Record = {"principal": principal.id, "kind": principal.kind, "client": principal.app_id}
    if principal.name != principal.id:
        found["name"] = _short(principal.name)
    if principal.identifier is not None:
        found["isBound"] = True
    return found


def _place(exchange: Exchange) -> Record:
    """The pool, by its group and name; on the planes whose paths are resources' ids the path."""
    if exchange.place is not None:
        return {"pool": "/".join(exchange.place).lower()[:_LONGEST]}
    if not exchange.route.startswith(("/subscriptions", "{scope}", "/v1.0")):
        return {}
    path = _plain(exchange.scope["raw_path"])
    found = _POOL.search(path)
    pool = {"pool": f"{found[1]}/{found[2]}".lower()} if found else {}
    return {**pool, "resource": path[:_LONGEST]}


def _plain(raw_path: bytes) -> str:
    """A path as the planes understand it: nobody hides what was changed by writing its name another way."""
    try:
        return "".join(f"/{each.replace('/', '%2F')}" for each in arm_paths.split(raw_path))
    except CarrelError:  # one that is none
        return raw_path.decode("ascii", "replace")


def _short(value: object) -> object:
    """Bounded, and of JSON: what callers choose may be anything."""
    if isinstance(value, Code):
        return value
    if isinstance(value, str):
        return value[:_LONGEST]
    if isinstance(value, list | tuple):
        return [_short(each) for each in value[:50]]
    return value if isinstance(value, int | float | bool | dict) else None
