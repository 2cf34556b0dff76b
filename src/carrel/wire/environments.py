"""The environment that a session is opened with. Its values are secrets, or may be: no error repeats one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from carrel.errors import RequestInvalid
from carrel.wire import jsons

MAX_BODY = 512 * 1024
MAX_ENTRIES = 64
MAX_BYTES = 64 * 1024  # of all names and values: what a program is started with is bounded by the kernel too

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def decode_environment(body: bytes, secret: Callable[[str], str | None]) -> Mapping[str, str]:
    """The variables; a `secretRef` is looked up in the pool's secrets. An empty body has none. Raises RequestInvalid."""
    fields = jsons.decode_object(body) if body else {}
    if unknown := [name for name in fields if name != "environment"]:
        raise RequestInvalid("Known is 'environment'.", target=unknown[0][:100])
    entries = fields.get("environment", {})
    if not isinstance(entries, dict) or len(entries) > MAX_ENTRIES:
        raise _invalid("environment", f"must be an object with {MAX_ENTRIES} entries at most")
    found = {name: _value(name, given, secret) for name, given in entries.items()}
    if sum(len(name) + len(value.encode()) + 2 for name, value in found.items()) > MAX_BYTES:
        raise _invalid("environment", f"may have {MAX_BYTES} bytes at most")
    return found


def _value(name: str, given: Any, secret: Callable[[str], str | None]) -> str:
    if not _NAME.fullmatch(name):
        raise _invalid("environment", "has a name that is not 1 to 128 letters, digits and underscores")
    where = f"environment.{name}"
    if isinstance(given, dict) and list(given) == ["secretRef"]:
        value = secret(given["secretRef"]) if isinstance(given["secretRef"], str) else None
        if value is None:
            raise _invalid(where, "names a secret that this session pool does not have")
        return value
    if not isinstance(given, str) or "\0" in given:
        raise _invalid(where, 'must be a text without NUL, or {"secretRef": NAME}')
    try:
        given.encode()
    except UnicodeEncodeError:
        raise _invalid(where, "is not valid Unicode") from None
    return given


def _invalid(target: str, fault: str) -> RequestInvalid:
    return RequestInvalid(f"'{target}' {fault}.", target=target)
