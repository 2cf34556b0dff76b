"""Looking principals up: oneself, by id, by name, many by their ids.

Everybody may look at itself. At others those may look who may read role assignments anywhere: they need names for what they see. For
anybody else there is nobody but itself.
"""

from __future__ import annotations

from carrel.graph_errors import ObjectNotFound
from carrel.server.graph.call import GraphCall
from carrel.store import PrincipalRecord, Transaction
from carrel.store.records import PrincipalKind
from carrel.wire import graph as wire
from carrel.wire import jsons
from carrel.wire.graph_writes import encode_credential

_READ = "Microsoft.Authorization/roleAssignments/read"
_KINDS: dict[str, PrincipalKind] = {"User": "User", "ManagedIdentity": "ManagedIdentity"}


async def me(call: GraphCall) -> None:
    """Whoever asks. Azure knows it for users only; here it answers a service principal too, so that scripts written for users work."""
    record = await _own(call)
    await call.reply(200, wire.encode_one(wire.encode_principal(record, call.services.tenant), call.context("users")))


async def users(call: GraphCall) -> None:
    await _listing(call, wire.USERS)


async def service_principals(call: GraphCall) -> None:
    await _listing(call, wire.SERVICE_PRINCIPALS)


async def groups(call: GraphCall) -> None:
    await _listing(call, wire.GROUPS)


async def applications(call: GraphCall) -> None:
    """One for each service principal."""
    records = [each for each in await _visible(call) if each.app_id]
    await _reply(call, wire.APPLICATIONS, [wire.encode_application(each) for each in records])


async def user(call: GraphCall) -> None:
    """By id or user name."""
    await _one(call, wire.USERS)


async def service_principal(call: GraphCall) -> None:
    await _one(call, wire.SERVICE_PRINCIPALS)


async def group(call: GraphCall) -> None:
    await _one(call, wire.GROUPS)


async def application(call: GraphCall) -> None:
    """By its own id or its `appId`."""
    wanted = call.names["id"].lower()
    for record in await _visible(call):
        found = wire.encode_application(record)
        if record.app_id and wanted in (found["id"], record.app_id.lower()):
            found = await _with_secrets(call, record, found)
            return await call.reply(200, wire.encode_one(found, call.context(wire.APPLICATIONS)))
    raise _missing(call.names["id"])


async def members(call: GraphCall) -> None:
    """Of a group."""
    found = await _find(call, wire.GROUPS)
    inside = [each for each in await _visible(call) if found.id.lower() in {group.lower() for group in each.groups}]
    objects = [wire.encode_principal(each, call.services.tenant) for each in inside]
    await call.reply(200, wire.encode_list(objects, call.context("directoryObjects")))


async def by_ids(call: GraphCall) -> None:
    """`POST directoryObjects/getByIds`: those that there are of those asked for."""
    ids, types = wire.decode_ids(await call.body())
    known = {each.id.lower(): each for each in await _visible(call)}
    objects = [wire.encode_principal(known[id], call.services.tenant) for id in dict.fromkeys(ids) if id in known]
    wanted = [each for each in objects if types is None or wire.type_of(each) in types]
    await call.reply(200, wire.encode_list(wanted, call.context("directoryObjects")))


async def check_groups(call: GraphCall) -> None:
    """`POST directoryObjects/{id}/checkMemberGroups`: those of `groupIds` that it is in (`az ad group member check`)."""
    ids, _ = wire.decode_ids(await call.body(), "groupIds")
    inside = await _groups_of(call)
    await _names(call, [each for each in dict.fromkeys(ids) if each in inside])


async def groups_of(call: GraphCall) -> None:
    """`POST …/getMemberGroups`: the ids of all groups that it is in."""
    await call.body()
    await _names(call, sorted(await _groups_of(call)))


async def _groups_of(call: GraphCall) -> set[str]:
    wanted = call.names["id"].lower()
    for each in await _visible(call):
        if wanted in {each.id.lower(), each.user_name.lower()} - {""}:
            return {group.lower() for group in each.groups}
    raise _missing(call.names["id"])


async def _names(call: GraphCall, names: list[str]) -> None:
    await call.reply(200, jsons.encode({"@odata.context": call.context("Collection(Edm.String)"), "value": names}))


async def _listing(call: GraphCall, collection: str) -> None:
    records = [each for each in await _visible(call) if wire.collection_of(each) == collection]
    await _reply(call, collection, [wire.encode_principal(each, call.services.tenant) for each in records])


async def _reply(call: GraphCall, collection: str, objects: list[wire.Object]) -> None:
    wanted = wire.decode_wanted(call.query.get("$filter"))
    wire.check(wanted, wire.EXAMPLES[collection])
    await call.reply(200, wire.encode_list(wire.select(objects, wanted), call.context(collection)))


async def _one(call: GraphCall, collection: str) -> None:
    record = await _find(call, collection)
    found = wire.encode_principal(record, call.services.tenant)
    if collection == wire.SERVICE_PRINCIPALS:
        found = await _with_secrets(call, record, found)
    await call.reply(200, wire.encode_one(found, call.context(collection)))


async def _with_secrets(call: GraphCall, record: PrincipalRecord, found: wire.Object) -> wire.Object:
    """What `az ad sp credential` lists, and removes where it resets: ids, beginnings and ends."""
    secrets = await call.services.store.run(lambda transaction: transaction.credentials.list(record.id))
    return found | {"passwordCredentials": [encode_credential(each) for each in secrets]}


async def _find(call: GraphCall, collection: str) -> PrincipalRecord:
    """By id; a user by its name too, a service principal by its `appId` in the form `servicePrincipals(appId='…')`."""
    wanted = call.names["id"].lower()
    for each in await _visible(call):
        keys = {each.id.lower()} | ({each.user_name.lower()} if collection == wire.USERS else {each.app_id.lower()})
        if wire.collection_of(each) == collection and wanted in keys - {""}:
            return each
    raise _missing(call.names["id"])


async def _visible(call: GraphCall) -> list[PrincipalRecord]:
    """Whom this caller may look at."""
    if not call.services.access.may_somewhere(call.principal, _READ):
        return [await _own(call)]
    return await call.services.store.run(lambda transaction: transaction.principals.list())


async def _own(call: GraphCall) -> PrincipalRecord:
    """The caller, as the store knows it; one of another issuer as its token says."""
    principal = call.principal

    def work(transaction: Transaction) -> PrincipalRecord | None:
        return transaction.principals.get(principal.id)

    found = await call.services.store.run(work)
    if found is not None:
        return found
    kind = _KINDS.get(principal.kind, "ServicePrincipal")
    name = principal.name if kind == "User" else ""
    return PrincipalRecord(principal.id, kind, app_id=principal.app_id, user_name=name, display_name=principal.name)


def _missing(id: str) -> ObjectNotFound:
    shown = id[:80] if id.isprintable() else "given"
    return ObjectNotFound(
        f"Resource '{shown}' does not exist or one of its queried reference-property objects are not present."
    )
