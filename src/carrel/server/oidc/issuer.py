"""An external issuer: its tokens, once verified, as principals whose rights are assignments of ours and nothing the token says."""

from __future__ import annotations

import asyncio
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from carrel.audiences import Plane
from carrel.issuer_settings import GIVEN, IssuerSpec
from carrel.models import GUID
from carrel.server import outgoing
from carrel.server.access import Principal, refused
from carrel.server.oidc.jwks import PublicKey
from carrel.server.oidc.keyset import FETCH_S, KeySet
from carrel.statefiles import StateError

_MOST_GROUPS = 200  # as many as Entra puts into a token
_MOST_TEXT = 256
_REMEMBERED_S = 600.0  # then a token is verified anew, in case its key is too old by then
_TYPES = (None, "jwt", "at+jwt", "application/at+jwt")
_FAULTS = (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError)

IsOurs = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class ExternalIssuer:
    """One `iss` of an issuer; those of the same table share their keys."""

    name: str
    tenant: str  # that its tokens must be of; "" where it is not told apart
    spec: IssuerSpec
    keys: KeySet
    is_ours: IsOurs  # whether an id is a principal's of this server, which nobody else can be

    def epoch(self) -> object:
        return self.keys.keys

    async def verify(self, token: str) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            algorithm, key_id = str(header["alg"]), header.get("kid")
            if algorithm not in self.spec.algorithms or not _is_plain(header):
                raise refused("the token is not signed in a way that is accepted")
            found = await self.keys.find(key_id, algorithm)
            return self._principal(self._claims(token, algorithm, found))
        except jwt.ExpiredSignatureError as error:
            raise refused("the token has expired", "expired") from error
        except _FAULTS as error:
            raise refused("the token is not valid here") from error

    def _claims(self, token: str, algorithm: str, keys: list[PublicKey]) -> Mapping[str, Any]:
        for key in keys:
            try:
                return jwt.decode(
                    token,
                    key.key,
                    algorithms=[algorithm],  # the key's, by `find`
                    issuer=self.name,
                    leeway=self.spec.leeway,
                    options={"require": ["exp", "iss", "aud"], "verify_aud": False},  # looked at in _plane
                )
            except jwt.InvalidSignatureError:
                continue
        raise refused("the token is signed with a key that its issuer does not publish")

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        spec = self.spec
        plane, audience = self._plane(claims["aud"])
        tenant = _text(claims, "tid").lower()
        if spec.tenants and (tenant not in spec.tenants or (self.tenant and tenant != self.tenant)):
            raise refused("the token is of a tenant that is not let in")
        if not (who := _text(claims, spec.principal_claim)):
            raise refused(f"the token has no claim '{spec.principal_claim}'")
        if spec.principal_claim == "email" and claims.get("email_verified", True) not in (True, "true"):
            raise refused("the token's e-mail address is one that its issuer has not verified")
        principal = self._id(who, tenant)
        if principal is None or self.is_ours(principal):
            raise refused(f"the token's claim '{spec.principal_claim}' is no id that this issuer may give")
        return Principal(
            id=principal,
            ids=frozenset([principal, *self._groups(claims, tenant), *self._mapped(claims)]),
            name=_name(claims) or principal,
            kind=_kind(claims),
            plane=plane,
            audience=audience,
            expires_at=min(float(claims["exp"]) + spec.leeway, time.time() + _REMEMBERED_S),
            ends_at=float(claims["exp"]),
            tenant=tenant,
            app_id=_text(claims, "appid") or _text(claims, "azp"),
        )

    def _plane(self, audience: object) -> tuple[Plane, str]:
        """Raises Unauthorized where it is for somebody else, or for several planes at once."""
        given = audience if isinstance(audience, list) else [audience]
        found = {plane: name for name, plane in self.spec.audiences if name in given}
        if len(found) != 1:
            raise refused("the token's audience is not one that this issuer's tokens may have here", "audience")
        return next(iter(found.items()))

    def _id(self, value: str, tenant: str, *, is_group: bool = False) -> str | None:
        """The id that assignments name: the issuer's own, or one made of it that no other issuer's can be."""
        if self.spec.principal_ids == GIVEN:
            return value.lower() if GUID.fullmatch(value) else None
        return derived(self.spec.issuer, tenant if self.spec.tenants else "", value, is_group=is_group)

    def _groups(self, claims: Mapping[str, Any], tenant: str) -> Iterable[str]:
        names = _texts(claims.get(self.spec.groups_claim)) if self.spec.groups_claim else []
        if len(names) > _MOST_GROUPS:
            raise refused(f"the token names more than {_MOST_GROUPS} groups")
        found = (self._id(name, tenant, is_group=True) for name in names)
        return [each for each in found if each is not None and not self.is_ours(each)]

    def _mapped(self, claims: Mapping[str, Any]) -> Iterable[str]:
        """What the operator has made of its app roles. What they are called grants nothing by itself."""
        given = set(_texts(claims.get(self.spec.roles_claim))) if self.spec.roles_claim else set()
        return [principal for role, principal in self.spec.roles if role in given]


def derived(issuer: str, tenant: str, value: str, *, is_group: bool = False) -> str:
    """A GUID (of version 5, by name) for whom an issuer calls so; another one for a group, or a user could take a group's name."""
    names = uuid.uuid5(uuid.NAMESPACE_URL, issuer)
    return str(uuid.uuid5(uuid.uuid5(names, "groups") if is_group else names, f"{tenant}\n{value}"))


class ExternalIssuers:
    """All of them. Made while files can still be read."""

    def __init__(self, specs: Iterable[IssuerSpec], authorities: Path, is_ours: IsOurs) -> None:
        self._kept = [(spec, KeySet(spec), _trust(spec, authorities)) for spec in specs]
        mapped = frozenset(principal for spec, _, _ in self._kept for _, principal in spec.roles)

        def is_taken(principal: str) -> bool:
            """Also what an operator made of roles: whoever could name that as its own would have another issuer's roles."""
            return principal in mapped or is_ours(principal)

        self.each = [
            ExternalIssuer(name, tenant, spec, keys, is_taken)
            for spec, keys, _ in self._kept
            for name, tenant in spec.issuers().items()
        ]
        if self._kept:
            asyncio.run(outgoing.rehearse())

    async def run(self) -> None:
        """Until cancelled: keep their keys."""
        async with asyncio.TaskGroup() as group:
            for _spec, keys, trust in self._kept:
                group.create_task(_keep(keys, trust))


async def _keep(keys: KeySet, trust: ssl.SSLContext) -> None:
    async with outgoing.client(trust, FETCH_S, 2) as http:
        await keys.run(http)


def _trust(spec: IssuerSpec, authorities: Path) -> ssl.SSLContext:
    trust = ssl.create_default_context(cafile=authorities)
    try:
        if spec.ca:
            trust.load_verify_locations(spec.ca)
    except OSError as error:
        raise StateError(f"[issuers.{spec.name}] ca: {spec.ca} cannot be used: {error.strerror or error}") from error
    return trust


def _is_plain(header: Mapping[str, Any]) -> bool:
    """No extension that has to be understood, and nothing but an access token."""
    kind, key_id = header.get("typ"), header.get("kid")
    is_known = kind is None or (isinstance(kind, str) and kind.lower() in _TYPES)
    return is_known and "crit" not in header and "b64" not in header and (key_id is None or isinstance(key_id, str))


def _kind(claims: Mapping[str, Any]) -> str:
    is_user = any(_text(claims, name) for name in ("upn", "preferred_username", "email", "scp"))
    return "User" if is_user and _text(claims, "idtyp") != "app" else "ServicePrincipal"


def _name(claims: Mapping[str, Any]) -> str:
    """For messages and systemData, so without what could be more than a name."""
    known = ("upn", "preferred_username", "unique_name", "email", "app_displayname", "appid", "azp")
    return next((text for each in known if (text := _text(claims, each)) and text.isprintable()), "")


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    return value if isinstance(value, str) and len(value) <= _MOST_TEXT else ""


def _texts(value: object) -> list[str]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, str) and 0 < len(item) <= _MOST_TEXT]
