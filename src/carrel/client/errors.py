"""What the server refuses, as exceptions that mirror the API's error codes; all are ApiError.

A code that is known becomes its class, so that callers catch what they can mend and need not compare texts. A code that is not, of a
newer server or of Azure, becomes the class of its HTTP status, or ApiError itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request. `target` is the property that it is about."""

    code: str
    message: str
    target: str | None = None
    details: tuple[Fault, ...] = ()

    @classmethod
    def parse(cls, body: Any) -> Fault:
        fields = body if isinstance(body, dict) else {}
        inner = fields.get("details")
        code, message, target = (fields.get(name) for name in ("code", "message", "target"))
        details = tuple(cls.parse(each) for each in inner) if isinstance(inner, list) else ()
        return cls(str(code or ""), str(message or ""), target if isinstance(target, str) else None, details)


class ApiError(Exception):
    """The server refused or failed. `code` is the API's error code, `trace` the id to look for in the server's log.

    The control plane names everything that is wrong at once: `details` has one Fault for each.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        target: str | None = None,
        trace: str | None = None,
        details: tuple[Fault, ...] = (),
        *,
        retry_after: float | None = None,
    ) -> None:
        """`retry_after` is how many seconds the server asks to wait before another try."""
        super().__init__(f"{code}: {message}" if message else code)
        self.status = status
        self.code = code
        self.message = message
        self.target = target
        self.trace = trace
        self.details = details
        self.retry_after = retry_after


class InvalidRequest(ApiError):
    """400: the request is not one that the server takes; `target` says what of it."""


class AuthenticationFailed(ApiError):
    """401: no token, or one that is not good here."""


class PermissionDenied(ApiError):
    """403: the token is good, but not for this."""


class NotFound(ApiError):
    """404."""


class PoolNotFound(NotFound):
    """There is no such pool, or none that the caller may see."""


class SessionNotFound(NotFound):
    """No session with this identifier lives."""


class ExecutionNotFound(NotFound):
    """The session does not know an execution of this id."""


class FileMissing(NotFound):
    """There is no such file."""


class NotSupported(ApiError):
    """This server does not have this: it is beyond Azure's API and the server has that alone, or the pool's runtime has no such thing."""


class Conflict(ApiError):
    """409: what is there already stands in the way."""


class SessionLost(ApiError):
    """The session ended during the call: its variables and files are gone. A further call begins a new one."""


class SessionEnded(SessionLost):
    """Somebody ended the session during the call."""


class ConditionNotMet(ApiError):
    """412: what `if_match` or `if_none_match` asks for does not hold; nothing was changed."""


class TooLarge(ApiError):
    """413: a file, code or answer over the limit."""


class TooManyRequests(ApiError):
    """429: too much at once; `retry_after` says when to try again."""


class TooManySessions(TooManyRequests):
    """The pool has as many sessions as it may."""


class StorageFull(ApiError):
    """507: the session's files have no more room."""


class Unavailable(ApiError):
    """503 and its kind: the server cannot at the moment; `retry_after` says when to try again."""


_BY_CODE: dict[str, type[ApiError]] = {
    "ConditionNotMet": ConditionNotMet,
    "DeleteFileError": FileMissing,
    "ExecutionNotFound": ExecutionNotFound,
    "FileNotFound": FileMissing,
    "MethodNotAllowed": NotSupported,
    "NoSessionFoundError": SessionNotFound,
    "ResourceNotFound": PoolNotFound,  # of the control plane
    "RouteNotFound": NotSupported,
    "SessionEnded": SessionEnded,
    "SessionLost": SessionLost,
    "SessionPoolNotFound": PoolNotFound,
    "SessionRequestNotSupported": NotSupported,
    "SessionStorageExceeded": StorageFull,
    "SessionWithIdentifierNotFound": SessionNotFound,  # a 400 of Azure's
    "SessionsCountExceedsLimit": TooManySessions,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: AuthenticationFailed,
    403: PermissionDenied,
    404: NotFound,
    409: Conflict,
    412: ConditionNotMet,
    413: TooLarge,
    429: TooManyRequests,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
    507: StorageFull,
}


def error_of(status: int, fault: Fault, trace: str | None = None, retry_after: float | None = None) -> ApiError:
    """The exception for an answer."""
    code = fault.code or f"HTTP {status}"
    kind = _BY_CODE.get(code) or _BY_STATUS.get(status, ApiError)
    return kind(status, code, fault.message, fault.target, trace, fault.details, retry_after=retry_after)


def is_about_what_is_asked(error: ApiError) -> bool:
    """Whether a 404 is about a session, an execution, a file, and not about a route that there is not."""
    return error.code in _BY_CODE and not isinstance(error, NotSupported)
