"""The calls about identities: users, applications, groups and their secrets, of Carrel's Graph or of Microsoft's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import quote

import httpx

from carrel.client.arm import Page, page
from carrel.client.calls import Call
from carrel.client.errors import ApiError
from carrel.client.resources import Principal

USERS, APPLICATIONS, GROUPS = "users", "servicePrincipals", "groups"
_COLLECTIONS = {"User": USERS, "Group": GROUPS}


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret of an application. `text` is there once, in the reply to who made it; `hint` is how it begins."""

    id: str
    hint: str
    created_at: datetime
    ends_at: datetime | None
    text: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> Self:
        begin, end = body["startDateTime"], body.get("endDateTime")
        return cls(
            body["keyId"],
            body.get("hint") or "",
            datetime.fromisoformat(begin),
            datetime.fromisoformat(end) if end else None,
            body.get("secretText"),
        )


def chosen(everybody: Sequence[Principal], text: str) -> Principal:
    """By object id, user name, client id or display name, in any case. Raises ApiError where there is none, or more than one."""
    wanted = text.lower()
    exact = [each for each in everybody if wanted in (each.id.lower(), each.name.lower(), each.app_id.lower())]
    found = exact or [each for each in everybody if each.display_name.lower() == wanted]
    if len(found) > 1:
        raise ApiError(409, "AmbiguousName", f"{text!r} is the name of {len(found)} identities: give an id", "name")
    if not found:
        raise ApiError(404, "PrincipalNotFound", f"there is no identity {text!r}", "name")
    return found[0]


def collection(principal: Principal) -> str:
    return _COLLECTIONS.get(principal.kind, APPLICATIONS)


def listing(what: str) -> Call[Page[Principal]]:
    return Call("GET", f"v1.0/{what}", page(Principal.parse), version="")


def show(principal: Principal) -> Call[Principal]:
    return Call("GET", _path(principal), _principal, version="")


def application(display_name: str, is_managed: bool) -> dict[str, Any]:
    kind = {"servicePrincipalType": "ManagedIdentity"} if is_managed else {}
    return {"displayName": display_name, **kind}


def group(display_name: str) -> dict[str, Any]:
    return {"displayName": display_name, "mailEnabled": False, "securityEnabled": True, "mailNickname": "group"}


def create(what: str, body: Mapping[str, Any]) -> Call[Principal]:
    return Call("POST", f"v1.0/{what}", _principal, options={"json": dict(body)}, version="")


def user(name: str, display_name: str | None, password: str | None) -> dict[str, Any]:
    body: dict[str, Any] = {"userPrincipalName": name, "displayName": display_name or name, "accountEnabled": True}
    body["mailNickname"] = "".join(letter for letter in name.partition("@")[0] if letter.isalnum()) or "user"
    return body | ({"passwordProfile": _profile(password)} if password is not None else {})


def update(principal: Principal, body: Mapping[str, Any]) -> Call[None]:
    return Call("PATCH", _path(principal), _nothing, options={"json": dict(body)}, version="")


def new_password(password: str) -> dict[str, Any]:
    return {"passwordProfile": _profile(password)}


def delete(principal: Principal) -> Call[None]:
    return Call("DELETE", _path(principal), _nothing, version="")


def add_secret(principal: Principal, days: float | None) -> Call[Secret]:
    bag: dict[str, Any] = {"displayName": "carrel"}
    if days is not None:
        bag["endDateTime"] = (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    options = {"json": {"passwordCredential": bag}}
    path = f"{_path(principal)}/addPassword"
    return Call("POST", path, lambda reply: Secret.parse(reply.json()), options=options, version="")


def secrets(principal: Principal) -> list[Secret]:
    """Of one that was just shown."""
    return [Secret.parse(each) for each in principal.resource.get("passwordCredentials") or []]


def remove_secret(principal: Principal, secret_id: str) -> Call[None]:
    options = {"json": {"keyId": secret_id}}
    return Call("POST", f"{_path(principal)}/removePassword", _nothing, options=options, version="")


def members(of: Principal) -> Call[Page[Principal]]:
    return Call("GET", f"{_path(of)}/members", page(Principal.parse), version="")


def add_member(to: Principal, member: Principal, graph: str) -> Call[None]:
    options = {"json": {"@odata.id": f"{graph.rstrip('/')}/v1.0/directoryObjects/{member.id}"}}
    return Call("POST", f"{_path(to)}/members/$ref", _nothing, options=options, version="")


def remove_member(of: Principal, member: Principal) -> Call[None]:
    return Call("DELETE", f"{_path(of)}/members/{quote(member.id, safe='')}/$ref", _nothing, version="")


def _path(principal: Principal) -> str:
    return f"v1.0/{collection(principal)}/{quote(principal.id, safe='')}"


def _profile(password: str | None) -> dict[str, Any]:
    return {"password": password, "forceChangePasswordNextSignIn": False}


def _principal(reply: httpx.Response) -> Principal:
    return Principal.parse(reply.json())


def _nothing(_: httpx.Response) -> None:
    return None
