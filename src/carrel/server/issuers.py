"""Issuers of tokens: each turns a token that says it is its own into a principal, or refuses it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from carrel.audiences import AUDIENCES, Plane, plane_of
from carrel.server.access import Principal, refused
from carrel.storage import ALGORITHM

LEEWAY_S = 30


class Issuer(Protocol):
    """One of those whose tokens are good here. The Verifier asks the one whose `name` is the token's `iss`, and keeps its answer."""

    @property
    def name(self) -> str: ...

    async def verify(self, token: str) -> Principal:
        """Raises Unauthorized. The token is hostile until its signature is checked, except that it is not long."""
        ...

    def epoch(self) -> object:
        """What its answers rest on. Whoever keeps one asks again when this is another object: a key may have been withdrawn."""
        ...


class OwnIssuer:
    """This server: its authority, its managed identity, and `carrel token`. `keys` are asked for at each token, since they change.

    With an authority that is not `is_open`, what counts is what an operator made, or somebody who may for one session.
    """

    def __init__(
        self,
        name: str,
        keys: Callable[[], Mapping[str, RSAPublicKey]],
        hosts: Collection[str],
        *,
        is_open: bool = True,
    ) -> None:
        self.name = name
        self._keys = keys
        self._hosts = hosts
        self._is_open = is_open

    async def verify(self, token: str) -> Principal:
        principal = _principal(self._claims(token), self._hosts)
        if not (self._is_open or principal.is_granted or principal.identifier is not None):
            raise refused("this server's own authority is switched off")
        return principal

    def epoch(self) -> object:
        return self._keys()

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            keys = self._keys()
            candidates = list(keys.values()) if kid is None else [keys[kid]] if kid in keys else []
            for key in candidates:
                try:
                    return self._decoded(token, key)
                except jwt.InvalidSignatureError:
                    continue
        except jwt.ExpiredSignatureError as error:
            raise refused("the token has expired", "expired") from error
        except (
            jwt.PyJWTError,
            ValueError,
            TypeError,
        ) as error:  # the last two: JSON that decodes, but to other things than claims
            raise refused("the token is not valid here") from error
        raise refused("the token is not valid here")

    def _decoded(self, token: str, key: RSAPublicKey) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=[ALGORITHM],  # pinned: what the header of the token says is the caller's word
            issuer=self.name,
            leeway=LEEWAY_S,
            options={"require": ["exp", "iss", "aud", "sub"], "verify_aud": False},  # looked at right after
        )


def plane_for(audience: object, hosts: Collection[str]) -> tuple[Plane, str]:
    """The plane and the audience of a token. Raises Unauthorized where it is for somebody else."""
    plane = plane_of(audience, hosts) if isinstance(audience, str) else None
    if plane is None or not isinstance(audience, str):
        known = ", ".join(name for names in AUDIENCES.values() for name in names)
        raise refused(f"the token's audience is not one of {known}", "audience")
    return plane, audience


def _principal(claims: dict[str, Any], hosts: Collection[str]) -> Principal:
    """Of claims that we have signed."""
    plane, audience = plane_for(claims["aud"], hosts)
    oid = str(claims.get("oid") or claims["sub"])
    return Principal(
        id=oid,
        ids=frozenset(each.lower() for each in (oid, *_texts(claims.get("groups")))),
        name=_name(claims) or oid,
        kind=_kind(claims),
        plane=plane,
        audience=audience,
        expires_at=float(claims["exp"]) + LEEWAY_S,
        ends_at=float(claims["exp"]),
        tenant=str(claims.get("tid", "")),
        app_id=str(claims.get("appid") or claims.get("azp") or ""),
        is_granted="carrel_pools" in claims,
        granted_roles=frozenset(_texts(claims.get("roles"))),
        granted_pools=frozenset(name.lower() for name in _texts(claims.get("carrel_pools"))),
        identifier=_text(claims, "carrel_identifier"),
        bound_scope=_text(claims, "carrel_scope") or "",
    )


def _name(claims: dict[str, Any]) -> str:
    for claim in ("upn", "preferred_username", "unique_name", "app_displayname", "appid", "azp"):
        if text := _text(claims, claim):
            return text
    return ""


def _kind(claims: dict[str, Any]) -> str:
    if claims.get("xms_mirid") or claims.get("carrel_kind") == "ManagedIdentity":
        return "ManagedIdentity"
    return "User" if claims.get("idtyp") == "user" or _text(claims, "upn") else "ServicePrincipal"


def _text(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    return value if isinstance(value, str) else None


def _texts(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
