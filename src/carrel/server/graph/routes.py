"""Every route of Graph: one table, from which requests are dispatched and documents are made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from carrel.server.exchange import method_not_allowed
from carrel.server.graph import lookups, writes
from carrel.server.graph.call import Handler
from carrel.wire.arm_paths import Pattern

_BY_APP = re.compile(r"(\w+)\(appId='([^']*)'\)", re.IGNORECASE)  # OData's alternate key


@dataclass(frozen=True, slots=True)
class Route:
    """A pattern below `/v1.0`, and its handlers by method."""

    pattern: Pattern
    methods: Mapping[str, Handler]

    def handler(self, method: str) -> Handler:
        """Raises MethodNotAllowed. HEAD is GET: the server leaves the body away."""
        handler = self.methods.get("GET" if method == "HEAD" else method)
        if handler is None:
            raise method_not_allowed(
                self.pattern.text, method, {*self.methods, *({"HEAD"} if "GET" in self.methods else ())}
            )
        return handler


def _route(text: str, methods: Mapping[str, Handler]) -> Route:
    return Route(Pattern(text), methods)


def _object(show: Handler, kinds: tuple[str, ...]) -> dict[str, Handler]:
    change, remove = partial(writes.update, kinds=kinds), partial(writes.delete, kinds=kinds)
    return {"GET": show, "PATCH": change, "DELETE": remove}


ROUTES: tuple[Route, ...] = (
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


def find(segments: list[str]) -> tuple[Route, Mapping[str, str]] | None:
    """The route of a path and the names in it. `servicePrincipals(appId='…')` is `servicePrincipals/…`."""
    spelled: list[str] = []
    for each in segments:
        match = _BY_APP.fullmatch(each)
        spelled += [match[1], match[2]] if match else [each]
    lower = [each.lower() for each in spelled]
    for route in ROUTES:
        names = route.pattern.match(spelled, lower)
        if names is not None:
            return route, names
    return None
