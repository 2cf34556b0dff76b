"""A pool's egress list on the wire: routes of ours, which Azure has nothing like."""

from __future__ import annotations

from typing import Any

from carrel.egress import rules
from carrel.errors import RequestInvalid
from carrel.models import EgressPolicy, EgressVerdict, Network
from carrel.wire import jsons

_STATUS = {Network.NONE: "EgressDisabled", Network.LISTED: "EgressEnabled", Network.OPEN: "EgressEnabled"}


def encode_policy(policy: EgressPolicy) -> bytes:
    """`allow` is null where there is no list: nothing is allowed then, or everything that is public."""
    return jsons.encode(
        {
            "status": _STATUS[policy.network],
            "allow": list(policy.allow) if policy.network is Network.LISTED else None,
            "connections": policy.connections,
            "refusals": policy.refusals,
        }
    )


def decode_policy(body: bytes) -> tuple[str, ...]:
    """The rules of `{"allow": […]}`. Raises RequestInvalid."""
    allow = jsons.decode_object(body).get("allow")
    if not isinstance(allow, list) or not all(isinstance(each, str) for each in allow):
        raise RequestInvalid(f"'allow' must be a list of {rules.SYNTAX}.", target="allow")
    try:
        return tuple(rule.text for rule in rules.parse_all(allow))
    except ValueError as error:
        raise RequestInvalid(f"{error}; 'allow' is a list of {rules.SYNTAX}.", target="allow") from error


def decode_target(body: bytes) -> str:
    """The target of `{"host": …, "port": …}` in its one spelling. Raises RequestInvalid."""
    fields = jsons.decode_object(body)
    host, port = fields.get("host"), fields.get("port", 443)
    if not isinstance(host, str) or not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65_535:
        raise RequestInvalid("'host' must be a name or an address, 'port' a number from 1 to 65535.", target="host")
    try:
        return str(rules.target_of(host, port))
    except ValueError as error:
        raise RequestInvalid(f"'host' is {error}.", target="host") from error


def encode_verdict(verdict: EgressVerdict) -> bytes:
    addresses: list[dict[str, Any]] = [
        {"address": each.address, "allowed": each.refusal is None, "reason": each.refusal} for each in verdict.addresses
    ]
    return jsons.encode(
        {
            "target": verdict.target,
            "allowed": verdict.is_allowed,
            "rule": verdict.rule,
            "reason": verdict.reason,
            "addresses": addresses,
        }
    )
