"""What tokens say of whom they are for, in the words of Entra's v1 access tokens and v2 id tokens."""

from __future__ import annotations

import base64
from typing import Any

from carrel.store import PrincipalRecord
from carrel.wire import jsons


def access_claims(principal: PrincipalRecord, client_id: str = "") -> dict[str, Any]:
    """Of a token for a resource. `client_id`: the program that a user signed in with. No rights: those are role assignments."""
    if principal.kind == "User":
        return {
            "idtyp": "user",
            "appid": client_id,
            "appidacr": "0",  # a public client
            "scp": "user_impersonation",
            "upn": principal.user_name,
            "unique_name": principal.user_name,
            "name": principal.display_name or principal.user_name,
        }
    claims = {"idtyp": "app", "appid": principal.app_id, "app_displayname": principal.display_name}
    if principal.kind == "ManagedIdentity":
        return {**claims, "appidacr": "2", "carrel_kind": principal.kind}
    return {**claims, "appidacr": "1"}


def id_claims(principal: PrincipalRecord, client_id: str, issuer: str, tenant: str, now: float) -> dict[str, Any]:
    """Of what a client learns about the user who signed in."""
    issued = int(now)
    return {
        "ver": "2.0",
        "iss": issuer,
        "aud": client_id,
        "iat": issued,
        "nbf": issued,
        "exp": issued + 3600,
        "sub": principal.id,
        "oid": principal.id,
        "tid": tenant,
        "name": principal.display_name or principal.user_name,
        "preferred_username": principal.user_name,
        "upn": principal.user_name,  # what MSAL reads in its place at an AD FS
    }


def client_info(principal: PrincipalRecord, tenant: str) -> str:
    """What MSAL calls an account by, in its cache."""
    return base64.urlsafe_b64encode(jsons.encode({"uid": principal.id, "utid": tenant})).rstrip(b"=").decode()
