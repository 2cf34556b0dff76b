"""What rights a server begins with, and that they can never be lost altogether."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping

from carrel import roles
from carrel.arm_errors import LastOwner
from carrel.store import AssignmentRecord, PrincipalRecord, SeedRecord, Stamp, Transaction

_SEED = "rights of the first identity"  # put there once: what was taken away later stays away
_NAMES = uuid.UUID("6f0c9d5e-3a3b-4d0e-9f5e-0f1c2f7b8a64")  # of the ids of what is seeded


def seed(transaction: Transaction, object_id: str, client_id: str, subscription: str) -> None:
    """The identity that the server has made for itself, once: Owner and Session Executor of the whole subscription."""
    applied = transaction.seeds.get(_SEED)
    if applied is not None and applied.digest == f"{object_id} {subscription}":
        return
    now = time.time()
    if transaction.principals.get(object_id) is None:
        transaction.principals.put(
            PrincipalRecord(
                object_id, "ServicePrincipal", app_id=client_id, display_name="Carrel", is_enabled=True, created_at=now
            )
        )
    for each in roles.first_assignments(object_id, subscription):
        id = str(uuid.uuid5(_NAMES, f"{each.scope} {each.role_id} {object_id}".lower()))
        stamp = Stamp(object_id, "Application", now)
        transaction.assignments.put(
            AssignmentRecord(id, each.scope, each.role_id, object_id, "ServicePrincipal", stamp)
        )
    transaction.seeds.put(SeedRecord(_SEED, f"{object_id} {subscription}"))


def require_owner(transaction: Transaction, subscription: str) -> None:
    """Called at the end of every transaction that takes assignments, principals, members or secrets away, or disables a principal.

    Raises LastOwner, which undoes the transaction, unless somebody that can sign in is still Owner of the whole subscription. Principals of
    other issuers do not count: nobody here knows whether there is such a one.
    """
    people = {each.id.lower(): each for each in transaction.principals.list() if each.is_enabled}
    able = _able(transaction, people) & people.keys()
    groups = {group.lower() for id in able for group in people[id].groups} & people.keys()
    scope = f"/subscriptions/{subscription}"
    for each in transaction.assignments.list():
        is_owner = each.role_id.lower() == roles.OWNER_ID and roles.covers(each.scope, scope)
        if is_owner and each.principal_id.lower() in able | groups:
            return
    raise LastOwner(
        "This would leave nobody who is Owner of the subscription, known here and able to sign in. Make somebody else Owner first "
        "(carrel role assignment create --role Owner)."
    )


def _able(transaction: Transaction, people: Mapping[str, PrincipalRecord]) -> set[str]:
    """Who can sign in: managed identities, whoever has a password or secret that is good still, and the server's own, whose is a file."""
    now = time.time()
    able = {id for id, each in people.items() if each.kind == "ManagedIdentity"}
    for each in transaction.credentials.list():
        if each.expires_at is None or each.expires_at > now:
            able.add(each.principal_id.lower())
    if own := transaction.seeds.get(_SEED):
        able.add(own.digest.split()[0].lower())
    return able
