"""Paths of the control plane: patterns such as `/subscriptions/{subscription}/resourceGroups/{group}` and what they match.

Fixed words match in any case, as Azure's do; doubled slashes and one at the end are slips of the caller's. A pattern that begins with
`{scope}` matches below any scope, the empty one included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote_to_bytes

from carrel.arm_errors import ParameterInvalid

_SCOPE = "{scope}"
_NAME = re.compile(r"\{(\w+)\}")


class Pattern:
    """`match` gives the names in a path, or None."""

    __slots__ = ("_names", "_words", "has_scope", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        words = text.strip("/").split("/")
        self.has_scope = words[0] == _SCOPE
        if self.has_scope:
            del words[0]
        self._words = [None if _NAME.fullmatch(word) else word.lower() for word in words]
        self._names = [(index, found[1]) for index, word in enumerate(words) if (found := _NAME.fullmatch(word))]

    def match(self, segments: list[str], lower: list[str]) -> Mapping[str, str] | None:
        """`lower` are the segments in lower case: made once for all patterns."""
        skipped = len(segments) - len(self._words)
        if skipped < 0 or (skipped and not self.has_scope):
            return None
        for word, segment in zip(self._words, lower[skipped:], strict=True):
            if word is not None and word != segment:
                return None
        names = {name: segments[skipped + index] for index, name in self._names}
        return {**names, "scope": "/" + "/".join(segments[:skipped])} if self.has_scope else names


def split(raw_path: bytes) -> list[str]:
    """The segments of a raw path, each decoded once. Raises ParameterInvalid on what no name has: it would go to the store and to logs."""
    try:
        segments = [unquote_to_bytes(each).decode("utf-8") for each in raw_path.split(b"/") if each]
    except UnicodeDecodeError as error:
        raise ParameterInvalid("A name in the path is not UTF-8.", target="path") from error
    if not all(each.isprintable() for each in segments):
        raise ParameterInvalid("A name in the path has control characters.", target="path")
    return segments
