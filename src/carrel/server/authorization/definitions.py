"""`…/Microsoft.Authorization/roleDefinitions`: the roles there are. They are the same at every scope."""

from __future__ import annotations

from carrel import roles
from carrel.arm_errors import SubscriptionNotFound
from carrel.server.arm.call import ArmCall
from carrel.server.authorization.scopes import decode_scope
from carrel.wire import arm_roles as wire

_READ = "Microsoft.Authorization/roleDefinitions/read"


async def listing(call: ArmCall) -> None:
    """`$filter`: `roleName eq 'NAME'`, `type eq 'BuiltInRole'`; scopes make no difference."""
    subscription = _subscription(call)
    wanted = wire.decode_selection(call.query.get("$filter"))
    found = [
        each
        for each in roles.ROLES.values()
        if wanted.role_name in (None, each.name.lower()) and wanted.kind in (None, "builtinrole")
    ]
    await call.reply(200, wire.encode_definitions(found, subscription))


async def show(call: ArmCall) -> None:
    subscription = _subscription(call)
    await call.reply(200, wire.encode_definition(wire.definition(call.names["role"]), subscription))


def _subscription(call: ArmCall) -> str | None:
    """The one in whose name the definitions are told, after asking whether the caller may read them. At the root everybody may."""
    parts = decode_scope(call.names["scope"]).segments
    if not parts:
        return None
    principal, access = call.exchange.caller()
    access.require(principal, _READ, call.names["scope"])
    if parts[0].lower() != "subscriptions" or len(parts) < 2 or parts[1].lower() != call.subscription.lower():
        raise SubscriptionNotFound("There is no such subscription here. GET /subscriptions tells the one there is.")
    return call.subscription
