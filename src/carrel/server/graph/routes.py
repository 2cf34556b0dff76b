"""Every route of Graph: one table, from which requests are dispatched and documents are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from carrel.server import route_table
from carrel.server.graph import lookups, writes
from carrel.server.graph.call import Handler
from carrel.server.route_table import Route
from carrel.wire.arm_paths import Pattern

_BY_APP = re.compile(r"(\w+)\(appId='([^']*)'\)", re.IGNORECASE)  # OData's alternate key


def _route(text: str, methods: Mapping[str, Handler]) -> Route[Handler]:
    return Route(Pattern(text), methods)


def _object(show: Handler, kinds: tuple[str, ...]) -> dict[str, Handler]:
    change, remove = partial(writes.update, kinds=kinds), partial(writes.delete, kinds=kinds)
    return {"GET": show, "PATCH": change, "DELETE": remove}


ROUTES: tuple[Route[Handler], ...] = (
    _route("/v1.0/me", {"GET": lookups.me}),
    _route("/v1.0/me/changePassword", {"POST": writes.change_password}),
    _route("/v1.0/users", {"GET": lookups.users, "POST": writes.create_user}),
    _route("/v1.0/users/{id}", _object(lookups.user, writes.USERS)),
    _route("/v1.0/servicePrincipals", {"GET": lookups.service_principals, "POST": writes.create_service_principal}),
    _route("/v1.0/servicePrincipals/{id}", _object(lookups.service_principal, writes.APPLICATIONS)),
    _route("/v1.0/servicePrincipals/{id}/addPassword", {"POST": writes.add_password}),
    _route("/v1.0/servicePrincipals/{id}/removePassword", {"POST": writes.remove_password}),
    _route("/v1.0/applications", {"GET": lookups.applications, "POST": writes.create_application}),
    _route("/v1.0/applications/{id}", _object(lookups.application, writes.APPLICATIONS)),
    _route("/v1.0/applications/{id}/addPassword", {"POST": writes.add_password}),
    _route("/v1.0/applications/{id}/removePassword", {"POST": writes.remove_password}),
    _route("/v1.0/groups", {"GET": lookups.groups, "POST": writes.create_group}),
    _route("/v1.0/groups/{id}", _object(lookups.group, writes.GROUPS)),
    _route("/v1.0/groups/{id}/members", {"GET": lookups.members}),
    _route("/v1.0/groups/{id}/members/$ref", {"POST": writes.add_member}),
    _route("/v1.0/groups/{id}/members/{member}/$ref", {"DELETE": writes.remove_member}),
    _route("/v1.0/directoryObjects/getByIds", {"POST": lookups.by_ids}),
    _route("/v1.0/directoryObjects/{id}/checkMemberGroups", {"POST": lookups.check_groups}),
    _route("/v1.0/users/{id}/getMemberGroups", {"POST": lookups.groups_of}),
    _route("/v1.0/groups/{id}/getMemberGroups", {"POST": lookups.groups_of}),
    _route("/v1.0/servicePrincipals/{id}/getMemberGroups", {"POST": lookups.groups_of}),
)


def find(segments: list[str]) -> tuple[Route[Handler], Mapping[str, str]] | None:
    """The route of a path and the names in it. `servicePrincipals(appId='…')` is `servicePrincipals/…`."""
    spelled: list[str] = []
    for each in segments:
        match = _BY_APP.fullmatch(each)
        spelled += [match[1], match[2]] if match else [each]
    return route_table.find(ROUTES, spelled)
