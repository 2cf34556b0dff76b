"""If-Match and If-None-Match of a request about a resource."""

from __future__ import annotations

from carrel.arm_errors import ParameterInvalid, PreconditionFailed
from carrel.errors import RequestInvalid
from carrel.models import Condition
from carrel.server.arm.call import ArmCall
from carrel.wire.conditions import decode_condition


def condition_of(call: ArmCall) -> Condition:
    """Raises ParameterInvalid."""
    try:
        return decode_condition(call.exchange.header(b"if-match"), call.exchange.header(b"if-none-match"))
    except RequestInvalid as error:
        raise ParameterInvalid(error.message, target=error.target) from error


def check(condition: Condition, etag: str | None) -> None:
    """`etag` is of what is there, None where there is nothing. Raises PreconditionFailed."""
    if condition.if_match is not None and not _names(condition.if_match, etag):
        raise PreconditionFailed("The resource is not the one that If-Match names.", target="If-Match")
    if condition.if_none_match is not None and _names(condition.if_none_match, etag):
        raise PreconditionFailed("The resource is one that If-None-Match names.", target="If-None-Match")


def _names(tags: tuple[str, ...], etag: str | None) -> bool:
    return etag is not None and ("*" in tags or etag in tags)
