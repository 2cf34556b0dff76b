"""The part of OData's filters that clients of role assignments and of Graph send: equality and a few functions, joined by `and` and `or`.

A filter is alternatives of conjunctions; no parentheses, nothing nested. Names compare in any case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Operator = Literal["eq", "startswith", "any", "call"]
Filter = tuple[tuple["Term", ...], ...]

MAX_FILTER = 8192
_MAX_TERMS = 40


class FilterError(ValueError):
    """The filter cannot be read. The message is fit for the caller."""


@dataclass(frozen=True, slots=True)
class Term:
    """`roleName eq 'x'`, `startswith(displayName,'x')`, `servicePrincipalNames/any(c:c eq 'x')`, `assignedTo('x')`, `atScope()`."""

    name: str  # lower case
    operator: Operator
    value: str = ""


_TEXT = r"'((?:[^']|'')*)'"
_TERM = re.compile(
    rf"""\s*(?:
        startswith\(\s*(?P<starts>[\w/]+)\s*,\s*{_TEXT}\s*\)
      | (?P<any>\w+)/any\(\s*(\w+)\s*:\s*\4\s+eq\s+{_TEXT}\s*\)
      | (?P<call>\w+)\(\s*(?:{_TEXT})?\s*\)
      | (?P<eq>[\w/]+)\s+eq\s+(?:{_TEXT}|(?P<bare>[\w.@+-]+))
    )\s*""",
    re.IGNORECASE | re.VERBOSE,
)
_JOIN = re.compile(r"(and|or)\b", re.IGNORECASE)


def decode_filter(text: str | None) -> Filter:
    """The filter; () where there is none. Raises FilterError."""
    if text is None or not text.strip():
        return ()
    if len(text) > MAX_FILTER:
        raise FilterError(f"$filter may have {MAX_FILTER} characters.")
    alternatives: list[list[Term]] = [[]]
    at = 0
    while True:
        match = _TERM.match(text, at)
        if match is None:
            raise FilterError(
                "$filter cannot be read: known are NAME eq 'value' and a few functions, joined by and, or."
            )
        alternatives[-1].append(_term(match))
        at = match.end()
        if at == len(text):
            return tuple(tuple(each) for each in alternatives)
        join = _JOIN.match(text, at)
        if join is None or sum(map(len, alternatives)) >= _MAX_TERMS:
            raise FilterError("$filter cannot be read: terms are joined by and, or; there may be 40 of them.")
        if join[1].lower() == "or":
            alternatives.append([])
        at = join.end()


def _term(match: re.Match[str]) -> Term:
    if name := match["starts"]:
        return Term(name.lower(), "startswith", _unquoted(match[2]))
    if name := match["any"]:
        return Term(name.lower(), "any", _unquoted(match[5]))
    if name := match["call"]:
        return Term(name.lower(), "call", _unquoted(match[7] or ""))
    return Term(match["eq"].lower(), "eq", match["bare"] if match[9] is None else _unquoted(match[9]))


def _unquoted(text: str) -> str:
    return text.replace("''", "'")
