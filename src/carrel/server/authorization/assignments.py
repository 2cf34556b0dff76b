"""`…/Microsoft.Authorization/roleAssignments`: who has which role where. A change counts from its reply on."""

from __future__ import annotations

import time

from carrel import roles
from carrel.arm_errors import (
    AssignmentExists,
    AssignmentFixed,
    AssignmentLimit,
    AssignmentNotFound,
    PrincipalNotFound,
    PrincipalTypeWrong,
)
from carrel.server.arm.call import ArmCall
from carrel.server.authorization.owners import require_owner
from carrel.server.authorization.scopes import AssignableScope, decode_scope
from carrel.store import AssignmentRecord, Stamp, Transaction
from carrel.wire import arm_roles as wire
from carrel.wire.arm_roles import AssignmentRequest, Selection

_ACTION = "Microsoft.Authorization/roleAssignments/{}"
MOST = 4000  # assignments; Azure's, of a subscription


async def listing(call: ArmCall) -> None:
    """All that hold at the scope or below it, less what `$filter` does not want."""
    scope = _scope(call, "read")
    wanted = wire.decode_selection(call.query.get("$filter"))

    def work(transaction: Transaction) -> list[AssignmentRecord]:
        scope.found(transaction, call.config)
        return _selected(transaction, scope, wanted)

    found = await call.services.store.run(work)
    await call.reply(200, wire.encode_assignments(found, call.subscription))


async def show(call: ArmCall) -> None:
    scope = _scope(call, "read")
    record = await call.services.store.run(lambda transaction: _at(transaction, call.names["assignment"], scope))
    if record is None:
        raise AssignmentNotFound("There is no role assignment of this name at this scope.")
    await call.reply(200, wire.encode_assignment(record, call.subscription))


async def put(call: ArmCall) -> None:
    """201 where this made it, 200 where it was there; of one that is there only the description can be changed."""
    scope = _scope(call, "write")
    name = wire.decode_name(call.names["assignment"])
    request = wire.decode_assignment(await call.body())
    call.exchange.details = _told(request.role_id, request.principal_id)
    stamp = call.exchange.caller()[0].stamp(time.time())

    def work(transaction: Transaction) -> tuple[AssignmentRecord, bool]:
        return _put(transaction, name, scope.found(transaction, call.config), request, stamp)

    record, is_new = await call.services.store.run(work)
    await call.services.access.refresh()
    await call.reply(201 if is_new else 200, wire.encode_assignment(record, call.subscription))


async def delete(call: ArmCall) -> None:
    """200 with what it was, 204 where there was none."""
    scope = _scope(call, "delete")

    def work(transaction: Transaction) -> AssignmentRecord | None:
        record = _at(transaction, call.names["assignment"], scope)
        if record is not None:
            transaction.assignments.delete(record.id)
            if record.role_id.lower() == roles.OWNER_ID:
                require_owner(transaction, call.subscription)
        return record

    record = await call.services.store.run(work)
    if record is None:
        return await call.reply(204)
    call.exchange.details = _told(record.role_id, record.principal_id)
    await call.services.access.refresh()
    return await call.reply(200, wire.encode_assignment(record, call.subscription))


def _told(role_id: str, principal_id: str) -> dict[str, object]:
    """For the audit log: which right, and whose."""
    role = roles.ROLES.get(role_id.lower())
    return {"role": role.name if role else role_id, "of": principal_id}


def _scope(call: ArmCall, verb: str) -> AssignableScope:
    """The scope of the path, for a caller that may do this there. Raises AuthorizationFailed before anything is looked for."""
    scope = decode_scope(call.names["scope"])
    principal, access = call.exchange.caller()
    access.require(principal, _ACTION.format(verb), scope.path)
    return scope


def _at(transaction: Transaction, name: str, scope: AssignableScope) -> AssignmentRecord | None:
    record = transaction.assignments.get(name)
    return record if record is not None and roles.normal(record.scope) == roles.normal(scope.path) else None


def _selected(transaction: Transaction, scope: AssignableScope, wanted: Selection) -> list[AssignmentRecord]:
    who: set[str] | None = None if wanted.principal_id is None else {wanted.principal_id}
    if wanted.assigned_to is not None:
        known = transaction.principals.get(wanted.assigned_to)
        groups = {each.lower() for each in known.groups} if known is not None else set()
        assigned = {wanted.assigned_to, *groups}
        who = assigned if who is None else who & assigned
    return [
        each
        for each in transaction.assignments.list()
        if (who is None or each.principal_id.lower() in who)
        and (
            (roles.covers(each.scope, scope.path) and not (wanted.is_below and not _is_same(each, scope)))
            or (roles.covers(scope.path, each.scope) and not wanted.is_at_scope)
        )
    ]


def _is_same(record: AssignmentRecord, scope: AssignableScope) -> bool:
    return roles.normal(record.scope) == roles.normal(scope.path)


def _put(
    transaction: Transaction, name: str, scope: AssignableScope, request: AssignmentRequest, stamp: Stamp
) -> tuple[AssignmentRecord, bool]:
    kind = _kind_of(transaction, request)
    existing = transaction.assignments.get(name)
    if existing is not None:
        if not _is_same(existing, scope) or not _is_for(existing, request):
            raise AssignmentFixed("Tenant ID, application ID, principal ID, and scope are not allowed to be updated.")
    else:
        others = transaction.assignments.list()
        for each in others:
            if _is_same(each, scope) and _is_for(each, request):
                raise AssignmentExists(
                    f"The role assignment already exists. The ID of the existing role assignment is {each.id.replace('-', '')}."
                )
        if len(others) >= MOST:
            raise AssignmentLimit(f"There are {MOST} role assignments, and no more are allowed.")
    record = AssignmentRecord(
        existing.id if existing else name,
        scope.path,
        request.role_id,
        request.principal_id,
        existing.principal_kind if existing else kind,
        existing.created if existing else stamp,
        request.description,
    )
    if record != existing:
        transaction.assignments.put(record)
    return record, existing is None


def _is_for(record: AssignmentRecord, request: AssignmentRequest) -> bool:
    is_same_role = record.role_id.lower() == request.role_id.lower()
    return is_same_role and record.principal_id.lower() == request.principal_id.lower()


def _kind_of(transaction: Transaction, request: AssignmentRequest) -> str:
    """What the principal is. One that is not known here has to be said: it is another issuer's, and nobody can be asked."""
    known = transaction.principals.get(request.principal_id)
    if known is None:
        if not request.kind:
            raise PrincipalNotFound(
                f"Principal {request.principal_id} does not exist in the directory. For a principal of another issuer give principalType.",
                target="properties.principalId",
            )
        return request.kind
    kind = "ServicePrincipal" if known.kind == "ManagedIdentity" else known.kind
    if request.kind and request.kind != kind:
        raise PrincipalTypeWrong(
            f"The PrincipalId '{request.principal_id}' has type '{kind}', which is different from the specified "
            f"PrincipalType '{request.kind}'.",
            target="properties.principalType",
        )
    return kind
