"""`GET /.carrel/audit`: what is asked, and records as they are told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from carrel.audit.reading import COMPARED, MOST, Filter
from carrel.audit.trail import stamp
from carrel.errors import RequestInvalid
from carrel.wire import jsons

_LONGEST = 512  # characters of what is compared
_ORDERS = ("asc", "desc")
_KNOWN = (*COMPARED, "since", "until", "order", "limit", "cursor")

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    filter: Filter
    order: str
    limit: int
    cursor: int | None

    def to_json(self) -> dict[str, object]:
        """As the auditor takes it."""
        return {"filter": self.filter.to_json(), "order": self.order, "limit": self.limit, "cursor": self.cursor}


def decode_question(query: Mapping[str, str]) -> Question:
    """Raises RequestInvalid."""
    if unknown := [name for name in query if name not in _KNOWN and name != "api-version"]:
        raise RequestInvalid(f"Known are {', '.join(_KNOWN)}.", target=unknown[0][:100])
    compared = {name: query.get(name, "") for name in COMPARED}
    for name, value in compared.items():
        if len(value) > _LONGEST:
            raise RequestInvalid(f"'{name}' may have {_LONGEST} characters at most.", target=name)
    order = query.get("order", "") or "desc"
    if order not in _ORDERS:
        raise RequestInvalid("'order' is asc or desc.", target="order")
    times = {name: _moment(name, query.get(name, "")) for name in ("since", "until")}
    limit = _whole("limit", query.get("limit", ""), 1, MOST)
    cursor = _whole("cursor", query.get("cursor", ""), 0, 10**15)
    return Question(Filter(**compared, **times), order, MOST if limit is None else limit, cursor)


def encode_page(records: Iterable[Record], next_link: str | None) -> bytes:
    return jsons.encode({"value": list(records), "nextLink": next_link})


def _moment(name: str, text: str) -> str:
    """A time of ISO 8601 as the log has it; of one without an offset it is UTC's."""
    if not text:
        return ""
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))  # a plus sign that nobody encoded
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return stamp(
            moment.astimezone(UTC).timestamp()
        )  # which raises for a moment of another year than four figures have
    except (ValueError, OverflowError, OSError) as error:
        raise RequestInvalid(f"'{name}' must be a time such as 2026-11-22T17:00:00Z, or a day.", target=name) from error


def _whole(name: str, text: str, least: int, most: int) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or not least <= int(text) <= most:
        raise RequestInvalid(f"'{name}' must be a whole number from {least} to {most}.", target=name)
    return int(text)
