"""Pages of lists: where one goes on is a token that holds the key of its last item, so that what comes and goes between shifts nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from carrel.arm_errors import ParameterInvalid
from carrel.wire import jsons

T = TypeVar("T")

_MAX_TOKEN = 4096


def page_of(items: Iterable[T], key: Callable[[T], str], after: str | None, size: int) -> tuple[list[T], str | None]:
    """`items` in the order of their keys: those after a token, and the token of the next page. Raises ParameterInvalid."""
    last = "" if after is None else _decoded(after)
    rest = [each for each in items if key(each) > last]
    page = rest[:size]
    return page, _encoded(key(page[-1])) if len(rest) > size else None


def encode_list(values: list[dict[str, Any]], next_link: str | None) -> bytes:
    """Without `nextLink` where there is none: some clients ask for what is there, even null."""
    return jsons.encode({"value": values} | ({"nextLink": next_link} if next_link else {}))


def _encoded(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def _decoded(token: str) -> str:
    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError("too long")
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode("utf-8")
    except (ValueError, binascii.Error) as error:
        raise ParameterInvalid("$skipToken is none that this server gave.", target="$skipToken") from error
