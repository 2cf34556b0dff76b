"""Making, changing and deleting identities. What is made has no rights: those are role assignments.

Every change of who there is or who may sign in ends with the question whether somebody is left to give roles, in the same transaction.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from carrel.graph_errors import GraphError, ObjectConflict, ObjectNotFound, RequestDenied
from carrel.models import GUID
from carrel.server.authority.directory import PUBLIC_CLIENTS
from carrel.server.authorization.owners import require_owner
from carrel.server.graph.call import GraphCall
from carrel.store import CredentialRecord, PrincipalRecord, Transaction
from carrel.wire import jsons
from carrel.wire.graph import encode_application, encode_one, encode_principal
from carrel.wire.graph_writes import (
    PrincipalChange,
    decode_expiry,
    decode_member,
    decode_password,
    decode_principal,
    encode_credential,
)
from carrel.wire.oauth import shown

USERS, GROUPS, APPLICATIONS = ("User",), ("Group",), ("ServicePrincipal", "ManagedIdentity")

_HINT = 3  # characters of a secret that lists may show, as Azure's do
_MOST_SECRETS = 20

T = TypeVar("T")


async def create_user(call: GraphCall) -> None:
    """`POST /users`. A user without a password cannot sign in until there is one."""
    call.require_manager()
    given = decode_principal(await call.body())
    if given.user_name is None:
        raise GraphError("'userPrincipalName' is required.", target="userPrincipalName")
    user = _made("User", given)
    password = None if given.password is None else await _credential(call, user.id, given.password, hint="")

    def work(books: Transaction) -> None:
        if books.principals.list(user_name=user.user_name):
            raise ObjectConflict(
                "Another object with the same value for property userPrincipalName already exists.",
                target="userPrincipalName",
            )
        books.principals.put(user)
        if password is not None:
            books.credentials.put(password)

    await _changed(call, work)
    await _made_reply(call, "users", encode_principal(user, call.services.tenant))


async def create_group(call: GraphCall) -> None:
    """`POST /groups`."""
    call.require_manager()
    given = decode_principal(await call.body())
    if given.display_name is None:
        raise GraphError("'displayName' is required.", target="displayName")
    group = _made("Group", given)
    await _changed(call, lambda books: books.principals.put(group))
    await _made_reply(call, "groups", encode_principal(group, call.services.tenant))


async def create_service_principal(call: GraphCall) -> None:
    """`POST /servicePrincipals`. With the `appId` of an application made before, that application's, which is there already."""
    call.require_manager()
    given = decode_principal(await call.body())
    made = await _changed(call, lambda books: _application(books, given, is_known_well=True))
    await _made_reply(call, "servicePrincipals", encode_principal(made, call.services.tenant))


async def create_application(call: GraphCall) -> None:
    """`POST /applications`: an application and its service principal are one here."""
    call.require_manager()
    given = decode_principal(await call.body())
    made = await _changed(call, lambda books: _application(books, given, is_known_well=False))
    await _made_reply(call, "applications", encode_application(made))


def _application(books: Transaction, given: PrincipalChange, *, is_known_well: bool) -> PrincipalRecord:
    found = books.principals.list(app_id=given.app_id) if given.app_id else []
    if found and is_known_well and found[0].kind == "ServicePrincipal" and not given.is_managed:
        return found[0]
    if found or (given.app_id or "").lower() in PUBLIC_CLIENTS:
        raise ObjectConflict("Another object with the same value for property appId already exists.", target="appId")
    if given.display_name is None:
        raise GraphError("'displayName' is required.", target="displayName")
    made = _made("ManagedIdentity" if given.is_managed else "ServicePrincipal", given)
    books.principals.put(made)
    return made


async def update(call: GraphCall, kinds: tuple[str, ...]) -> None:
    """`PATCH`: a name, whether it may sign in, a user's password; all sign-ins that were made before a new one end."""
    call.require_manager()
    given = decode_principal(await call.body())
    if given.password is not None and kinds != USERS:
        raise GraphError("Only users have passwords.", target="passwordProfile")
    password = None if given.password is None else await _credential(call, "", given.password, hint="")

    def work(books: Transaction) -> None:
        found = find(books, call.names["id"], kinds)
        changed = replace(
            found,
            display_name=found.display_name if given.display_name is None else given.display_name,
            is_enabled=found.is_enabled if given.is_enabled is None else given.is_enabled,
        )
        books.principals.put(changed)
        if password is not None:
            _set_password(books, replace(password, principal_id=found.id))
        if found.is_enabled and not changed.is_enabled:
            books.grants.delete_of(found.id)
            require_owner(books, call.services.config.subscription)

    await _changed(call, work)
    await call.reply(204)


async def delete(call: GraphCall, kinds: tuple[str, ...]) -> None:
    """With all that belongs to it: secrets, sign-ins, role assignments, memberships."""
    call.require_manager()

    def work(books: Transaction) -> None:
        found = find(books, call.names["id"], kinds)
        if found.id == call.services.own_id:
            raise RequestDenied("This identity is the server's own: it can be disabled, but not deleted.")
        for assignment in books.assignments.list(principal_id=found.id):
            books.assignments.delete(assignment.id)
        books.grants.delete_of(found.id)
        books.principals.delete(found.id)
        if found.kind == "Group":
            for member in books.principals.list():
                if found.id in member.groups:
                    books.principals.put(replace(member, groups=tuple(set(member.groups) - {found.id})))
        require_owner(books, call.services.config.subscription)

    await _changed(call, work)
    await call.reply(204)


async def add_password(call: GraphCall) -> None:
    """`POST …/addPassword`: a further secret, told once. The ones before stay good, so that it can be rotated without a gap."""
    call.require_manager()
    name, expires_at = decode_expiry(await call.body(), time.time())
    secret = secrets.token_urlsafe(30)
    made = replace(await _credential(call, "", secret, hint=secret[:_HINT]), expires_at=expires_at)

    def work(books: Transaction) -> CredentialRecord:
        found = find(books, call.names["id"], APPLICATIONS)
        if found.kind == "ManagedIdentity":
            raise GraphError("A managed identity has no secrets: its tokens come from this machine's own endpoints.")
        if len(books.credentials.list(found.id)) >= _MOST_SECRETS:
            raise GraphError(f"An application has {_MOST_SECRETS} secrets at most: remove one first.")
        credential = replace(made, principal_id=found.id)
        books.credentials.put(credential)
        return credential

    credential = await _changed(call, work)
    await call.reply(200, jsons.encode(encode_credential(credential, name, secret)))


async def remove_password(call: GraphCall) -> None:
    """`POST …/removePassword`."""
    call.require_manager()
    key = (await call.body()).get("keyId")

    def work(books: Transaction) -> None:
        found = find(books, call.names["id"], APPLICATIONS)
        credential = books.credentials.get(key) if isinstance(key, str) and GUID.fullmatch(key) else None
        if credential is None or credential.principal_id.lower() != found.id.lower():
            raise ObjectNotFound("No password credential found with this keyId.", target="keyId")
        books.credentials.delete(credential.id)
        require_owner(books, call.services.config.subscription)

    await _changed(call, work)
    await call.reply(204)


async def change_password(call: GraphCall) -> None:
    """`POST /me/changePassword`: a user's own, by whoever knows the one before."""
    body = await call.body()
    current, new = decode_password(body, "currentPassword"), decode_password(body, "newPassword")
    if current is None or new is None:
        raise GraphError("'currentPassword' and 'newPassword' are required.", target="newPassword")
    known = await call.services.store.run(lambda books: books.credentials.list(call.principal.id))
    async with call.services.throttle.attempt(call.principal.id, f"password {call.principal.id}") as attempt:
        is_right = await call.services.hasher.matches(current, [each.digest for each in known]) is not None
        attempt.judge(has_passed=is_right)
    if not is_right:
        raise RequestDenied("The current password is not right.", target="currentPassword")
    password = await _credential(call, call.principal.id, new, hint="")

    def work(books: Transaction) -> None:
        find(books, call.principal.id, USERS)
        _set_password(books, password)

    await _changed(call, work)
    await call.reply(204)


async def add_member(call: GraphCall) -> None:
    """`POST /groups/{id}/members/$ref`. Groups hold no groups."""
    call.require_manager()
    member = decode_member(await call.body())
    call.exchange.details = {"of": member}

    def work(books: Transaction) -> None:
        group = find(books, call.names["id"], GROUPS)
        found = find(books, member, (*USERS, *APPLICATIONS))
        if group.id in found.groups:
            raise GraphError("One or more added object references already exist for 'members'.", target="members")
        books.principals.put(replace(found, groups=(*found.groups, group.id)))

    await _changed(call, work)
    await call.reply(204)


async def remove_member(call: GraphCall) -> None:
    """`DELETE /groups/{id}/members/{member}/$ref`."""
    call.require_manager()

    def work(books: Transaction) -> None:
        group = find(books, call.names["id"], GROUPS)
        found = find(books, call.names["member"], (*USERS, *APPLICATIONS))
        if group.id not in found.groups:
            raise ObjectNotFound(f"'{found.id}' is no member of this group.", target="members")
        books.principals.put(replace(found, groups=tuple(each for each in found.groups if each != group.id)))
        require_owner(books, call.services.config.subscription)

    await _changed(call, work)
    await call.reply(204)


def find(books: Transaction, id: str, kinds: tuple[str, ...]) -> PrincipalRecord:
    """By object id, by user name where users are meant, by client id where applications are. Raises ObjectNotFound."""
    found = [books.principals.get(id)] if id.isprintable() else []
    if found and kinds == USERS:
        found += books.principals.list(user_name=id)
    elif found and kinds == APPLICATIONS:
        applications = [each for each in books.principals.list() if each.app_id]
        found += [each for each in applications if id.lower() in (each.app_id.lower(), encode_application(each)["id"])]
    for each in found:
        if each is not None and each.kind in kinds:
            return each
    raise ObjectNotFound(
        f"Resource '{shown(id)}' does not exist or one of its queried reference-property objects are not present."
    )


async def _made_reply(call: GraphCall, collection: str, made: dict[str, Any]) -> None:
    call.exchange.details |= {"of": made["id"], "kind": collection}
    await call.reply(201, encode_one(made, call.context(collection)))


def _made(kind: Any, given: PrincipalChange) -> PrincipalRecord:
    is_application = kind in APPLICATIONS
    return PrincipalRecord(
        str(uuid.uuid4()),
        kind,
        app_id=(given.app_id or str(uuid.uuid4())) if is_application else "",
        user_name=given.user_name or "" if kind == "User" else "",
        display_name=given.display_name or given.user_name or "",
        is_enabled=given.is_enabled is not False,
        created_at=time.time(),
    )


async def _credential(call: GraphCall, principal_id: str, secret: str, hint: str) -> CredentialRecord:
    digest = await call.services.hasher.digest(secret)
    return CredentialRecord(str(uuid.uuid4()), principal_id, digest, hint, time.time())


def _set_password(books: Transaction, password: CredentialRecord) -> None:
    for each in books.credentials.list(password.principal_id):
        books.credentials.delete(each.id)
    books.credentials.put(password)
    books.grants.delete_of(password.principal_id)


async def _changed(call: GraphCall, work: Callable[[Transaction], T]) -> T:
    """What it did counts from its acknowledgement on."""
    result = await call.services.store.run(work)
    await call.services.access.refresh()
    return result
