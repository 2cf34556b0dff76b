"""If-Match and If-None-Match (RFC 9110 §13.1): what a caller demands of the file that it is about to change, or to read again."""

from __future__ import annotations

import re

from carrel.errors import ConditionNotMet, RequestInvalid
from carrel.models import Condition

_MAX_TAGS = 32
_TAG = re.compile(r'[ \t]*(W/)?"([\x21\x23-\x7e]{0,100})"[ \t]*(?:,|\Z)')


def etag_header(etag: str) -> tuple[bytes, bytes]:
    return b"etag", f'"{etag}"'.encode()


def decode_condition(if_match: str | None, if_none_match: str | None) -> Condition:
    """Raises RequestInvalid. A weak tag is never the same in If-Match, and as good as a strong one in If-None-Match."""
    wanted = None if if_match is None else _tags("If-Match", if_match, is_strong=True)
    return Condition(wanted, None if if_none_match is None else _tags("If-None-Match", if_none_match, is_strong=False))


def is_known(condition: Condition, etag: str) -> bool:
    """Whether a reader has what it asks for already (304). Raises ConditionNotMet where it wants another one than there is."""
    if condition.if_match is not None and not _names(condition.if_match, etag):
        raise ConditionNotMet("The file is not the one that If-Match names.", target="If-Match")
    return condition.if_none_match is not None and _names(condition.if_none_match, etag)


def _names(tags: tuple[str, ...], etag: str) -> bool:
    return "*" in tags or etag in tags


def _tags(name: str, text: str, *, is_strong: bool) -> tuple[str, ...]:
    if text.strip() == "*":
        return ("*",)
    found: list[re.Match[str]] = []
    at = 0
    while at < len(text) and len(found) <= _MAX_TAGS:
        match = _TAG.match(text, at)
        if match is None:
            raise RequestInvalid(f'The header {name} must be * or a list of tags in quotes: "…", "…".', target=name)
        found.append(match)
        at = match.end()
    if not 0 < len(found) <= _MAX_TAGS:
        raise RequestInvalid(f"The header {name} must have 1 to {_MAX_TAGS} tags.", target=name)
    # "*" in quotes is a tag that no file has, not the wildcard.
    return tuple(match[2] for match in found if match[2] != "*" and not (is_strong and match[1]))
