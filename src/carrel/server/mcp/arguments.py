"""What a model sent as a tool's arguments, made into values of the right type, or an error that it can act on."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from typing import Any

from carrel.errors import RequestInvalid
from carrel.wire import names


class Arguments:
    """All of it raises RequestInvalid and its kin with messages that name the argument. Unknown arguments are ignored, nulls are absent."""

    def __init__(self, given: Mapping[str, Any] | None) -> None:
        self._given = {name: value for name, value in (given or {}).items() if value is not None}

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def environment(self) -> str:
        return names.decode_identifier(self.required_text("environmentId"))

    def text(self, *spellings: str) -> str | None:
        """The first of the spellings that is given: models mix up `code` and `pythonCode`."""
        for name in spellings:
            if name in self._given:
                value = self._given[name]
                if not isinstance(value, str):
                    raise RequestInvalid(f"'{name}' must be a string.", target=name)
                return _encodable(value, name)
        return None

    def required_text(self, *spellings: str) -> str:
        value = self.text(*spellings)
        if value is None:
            raise RequestInvalid(f"The argument '{spellings[0]}' is required.", target=spellings[0])
        return value

    def texts(self, name: str) -> tuple[str, ...] | None:
        value = self._given.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise RequestInvalid(f"'{name}' must be a list of strings, the program first.", target=name)
        return tuple(_encodable(item, name) for item in value)

    def integer(self, name: str, default: int, minimum: int, maximum: int | None = None) -> int:
        value = self._given.get(name, default)
        if isinstance(value, float) and math.isfinite(value) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise RequestInvalid(f"'{name}' must be a whole number.", target=name)
        if value < minimum or (maximum is not None and value > maximum):
            upto = "" if maximum is None else f" to {maximum}"
            raise RequestInvalid(f"'{name}' must be from {minimum}{upto}.", target=name)
        return value

    def flag(self, name: str) -> bool:
        value = self._given.get(name, False)
        if not isinstance(value, bool):
            raise RequestInvalid(f"'{name}' must be true or false.", target=name)
        return value

    def content(self) -> bytes:
        """Of a file: text or base64, exactly one of them."""
        if ("content" in self) == ("contentBase64" in self):
            raise RequestInvalid("Exactly one of 'content' and 'contentBase64' is required.", target="content")
        if "content" in self:
            return self.required_text("content").encode()
        try:
            return base64.b64decode("".join(self.required_text("contentBase64").split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestInvalid("'contentBase64' is not base64.", target="contentBase64") from error


def _encodable(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestInvalid(f"'{name}' holds half of a surrogate pair.", target=name) from error
    return text
