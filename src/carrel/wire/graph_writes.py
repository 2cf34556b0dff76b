"""What is written over Graph: bodies of identities, their secrets and members, and the secrets that are told once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from carrel.errors import RequestInvalid
from carrel.graph_errors import GraphError
from carrel.models import GUID
from carrel.store import CredentialRecord
from carrel.wire import fields

MIN_PASSWORD, MAX_PASSWORD = 8, 1024

_USER_NAME = re.compile(r"[^\s/\\?#%'\"<>&;,()\x00-\x1f\x7f]{1,256}")
_MAX_NAME = 256
_LAST = datetime(
    9999, 12, 31, 23, 59, 59, tzinfo=UTC
).timestamp()  # .NET's last moment is rounded to a second that has no date


@dataclass(frozen=True, slots=True)
class PrincipalChange:
    """What a body says of a principal; None where it says nothing."""

    display_name: str | None = None
    user_name: str | None = None
    app_id: str | None = None
    is_enabled: bool | None = None
    password: str | None = field(default=None, repr=False)
    is_managed: bool = False


def decode_principal(body: Mapping[str, Any]) -> PrincipalChange:
    """Raises GraphError. Properties that are not ours to keep are ignored, as clients send many."""
    profile = body.get("passwordProfile")
    if profile is not None and not isinstance(profile, dict):
        raise GraphError("'passwordProfile' must be an object.", target="passwordProfile")
    kind = _text(body, "servicePrincipalType")
    return PrincipalChange(
        display_name=_name(body, "displayName"),
        user_name=_user_name(body),
        app_id=_guid(body, "appId"),
        is_enabled=_flag(body, "accountEnabled"),
        password=decode_password(profile, "password") if profile else None,
        is_managed=(kind or "").lower() == "managedidentity",
    )


def decode_password(body: Mapping[str, Any], name: str) -> str | None:
    """A password that somebody chose. Raises GraphError without repeating it."""
    password = _text(body, name)
    if password is not None and not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise GraphError(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters.", target=name)
    return password


def decode_expiry(body: Mapping[str, Any], now: float) -> tuple[str, float | None]:
    """Name and end of a secret that is to be made; None: never. Raises GraphError."""
    credential = body.get("passwordCredential")
    if credential is None:
        return "", None
    if not isinstance(credential, dict):
        raise GraphError("'passwordCredential' must be an object.", target="passwordCredential")
    end = _text(credential, "endDateTime")
    if end is None:
        return _name(credential, "displayName") or "", None
    try:
        moment = datetime.fromisoformat(end)
        at = min((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), _LAST)
    except (ValueError, OverflowError) as error:
        raise GraphError("'endDateTime' must be a time such as 2030-01-31T12:00:00Z.", target="endDateTime") from error
    if at <= now:
        raise GraphError("'endDateTime' lies in the past.", target="endDateTime")
    return _name(credential, "displayName") or "", at


def decode_member(body: Mapping[str, Any]) -> str:
    """The object id at the end of `@odata.id`. Raises GraphError."""
    member = (_text(body, "@odata.id") or "").rstrip("/").rpartition("/")[2]
    if not GUID.fullmatch(member):
        raise GraphError("'@odata.id' must be the address of a directory object.", target="@odata.id")
    return member


def encode_credential(credential: CredentialRecord, name: str = "", secret: str | None = None) -> dict[str, Any]:
    """`secretText` is there once, in the reply to who made it."""
    return {
        "keyId": credential.id,
        "displayName": name or None,
        "hint": credential.hint,
        "startDateTime": _time(credential.created_at),
        "endDateTime": None if credential.expires_at is None else _time(credential.expires_at),
        "secretText": secret,
    }


def _time(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _text(body: Mapping[str, Any], name: str) -> str | None:
    try:
        value = fields.text(body, name)
        if value is not None:
            fields.utf8_size(value, name)
        return value
    except RequestInvalid as error:
        raise GraphError(error.message, target=error.target) from error


def _name(body: Mapping[str, Any], name: str) -> str | None:
    value = _text(body, name)
    if value is not None and not (len(value.strip()) > 0 and len(value) <= _MAX_NAME and value.isprintable()):
        raise GraphError(f"'{name}' has 1 to {_MAX_NAME} printable characters.", target=name)
    return value


def _user_name(body: Mapping[str, Any]) -> str | None:
    value = _text(body, "userPrincipalName")
    if value is not None and not (_USER_NAME.fullmatch(value) and value.isprintable()):
        raise GraphError(
            "'userPrincipalName' is a name such as alice or alice@example.com, without spaces or slashes.",
            target="userPrincipalName",
        )
    return value


def _guid(body: Mapping[str, Any], name: str) -> str | None:
    value = _text(body, name)
    if value is not None and not GUID.fullmatch(value):
        raise GraphError(f"'{name}' must be a GUID.", target=name)
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool | None:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise GraphError(f"'{name}' must be true or false.", target=name)
    return value
