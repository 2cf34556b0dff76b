"""Every error of ours, in one tree: raised in the depth, answered at the edge.

Each class knows its wire code and its HTTP status (docs/reference/errors.md). User code that fails is a
result and never appears here. A message must be fit for the caller to read: no paths, no secrets, no stack traces.
"""

from __future__ import annotations

from typing import Any, TypeVar

E = TypeVar("E", bound="CarrelError")


class CarrelError(Exception):
    """Base of all. `target` names the property or parameter at fault; `headers` go onto the reply as they are."""

    code = "InternalServerError"
    status = 500
    details: tuple[CarrelError, ...] = ()  # of a request with several faults, each of them

    def __init__(self, message: str, *, target: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.target = target
        self.headers = headers or {}


class RequestInvalid(CarrelError):
    """A parameter, header or body is not what the route takes."""

    code, status = "SessionRequestValidationFailed", 400


class RequestNotSupported(CarrelError):
    """The route exists, but not with this method or on this kind of pool."""

    code, status = "SessionRequestNotSupported", 400


class PropertiesMissing(CarrelError):
    """The body is JSON but holds nothing to run."""

    code, status = "SessionPropertiesMissing", 400


class IdentifierLengthInvalid(CarrelError):
    code, status = "InvalidLengthOfSessionIdentifier", 400


class ApiVersionInvalid(CarrelError):
    code, status = "InvalidApiVersion", 400


class FilePathInvalid(CarrelError):
    """A path or file name that escapes /mnt/data or uses reserved characters."""

    code, status = "FilePathInvalid", 400


class Unauthorized(CarrelError):
    """`why` is one of a few words, for those who count."""

    code, status = "Unauthorized", 401
    why = "missing"


class Forbidden(CarrelError):
    code, status = "Forbidden", 403


class AuthorizationFailed(Forbidden):
    """The same of a management action, under ARM's code."""

    code, status = "AuthorizationFailed", 403


class PoolNotFound(CarrelError):
    code, status = "SessionPoolNotFound", 404


class RouteNotFound(CarrelError):
    code, status = "RouteNotFound", 404


class SessionNotFound(CarrelError):
    code, status = "NoSessionFoundError", 404


class SessionUnknown(CarrelError):
    """The same on the `.management` routes, whose clients look for this code."""

    code, status = "SessionWithIdentifierNotFound", 400


class FileMissing(CarrelError):
    code, status = "FileNotFound", 404


class DeleteMissing(CarrelError):
    """DELETE of a file that is not there (its own code on the wire)."""

    code, status = "DeleteFileError", 404


class ExecutionMissing(CarrelError):
    code, status = "ExecutionNotFound", 404


class SessionExists(CarrelError):
    """The identifier's session lives already, and not as it was asked for."""

    code, status = "SessionExists", 409


class ExecutionConflict(CarrelError):
    """An operation-id seen before, with another request."""

    code, status = "ExecutionConflict", 409


class MethodNotAllowed(CarrelError):
    """The route exists, but not with this method; the reply names the ones it takes in `Allow`."""

    code, status = "MethodNotAllowed", 405


class RequestTimedOut(CarrelError):
    """The caller stopped sending its body."""

    code, status = "RequestTimeout", 408


class FileConflict(CarrelError):
    """What is at the path is not a regular file (or directory) where one is needed."""

    code, status = "FileConflict", 409


class QuotaExceeded(CarrelError):
    """This server keeps as many pools as it may."""

    code, status = "QuotaExceeded", 409


class ConditionNotMet(CarrelError):
    """If-Match or If-None-Match does not hold for what is at the path now."""

    code, status = "ConditionNotMet", 412


class ContentTooLarge(CarrelError):
    code, status = "ContentTooLarge", 413


class RangeInvalid(CarrelError):
    code, status = "RangeNotSatisfiable", 416


class PoolFull(CarrelError):
    code, status = "SessionsCountExceedsLimit", 429


class SessionBusy(CarrelError):
    """More calls are waiting for this session than it may hold."""

    code, status = "TooManyRequests", 429


class SessionLost(CarrelError):
    """The session ended while the call was under way."""

    code, status = "SessionLost", 500


class SessionEnded(SessionLost):
    """Somebody deleted the session while the call was under way. Not a 5xx: a client that repeats those would run the code again."""

    code, status = "SessionEnded", 409


class SandboxStartFailed(CarrelError):
    code, status = "SessionAllocationFailed", 503


class IssuerUnavailable(CarrelError):
    """A token is of an external issuer whose keys could not be fetched yet, or not for a day."""

    code, status = "IssuerUnavailable", 503


class HostUnavailable(CarrelError):
    code, status = "HostUnavailable", 503


class StoreUnavailable(CarrelError):
    """The database of pools, roles and principals does not answer."""

    code, status = "StoreUnavailable", 503


class AuditUnavailable(CarrelError):
    """What was asked for has to be recorded first, and the audit log cannot be written (or read) now."""

    code, status = "AuditUnavailable", 503


class DiskFull(CarrelError):
    """The session's /mnt/data has no bytes or inodes left."""

    code, status = "SessionStorageExceeded", 507


def tree(base: type[E]) -> list[type[E]]:
    """A class of errors with all that are kinds of it."""
    return [base, *(leaf for child in base.__subclasses__() for leaf in tree(child))]


BY_CODE: dict[str, type[CarrelError]] = {cls.code: cls for cls in tree(CarrelError)}


def to_dict(error: CarrelError) -> dict[str, Any]:
    """As it crosses hostlink."""
    return {"code": error.code, "message": error.message, "target": error.target, "headers": error.headers}


def from_dict(fields: dict[str, Any]) -> CarrelError:
    """The other end of to_dict; an unknown code becomes the base class, never a class of the sender's choice."""
    cls = BY_CODE.get(str(fields.get("code")), CarrelError)
    return cls(str(fields.get("message")), target=fields.get("target"), headers=fields.get("headers"))
