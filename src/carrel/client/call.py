"""One call of the API as a plain value: what to send, how to read the answer, whether it may be sent again."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from carrel.client.errors import ApiError, Fault, NotSupported, error_of, is_about_what_is_asked

API_VERSION = "2025-10-02-preview"

# What the API of Azure has; all else is Carrel's, or that of who follows us.
_AZURES = re.compile(
    r"POST (executions|files)"
    r"|GET (executions/[^/]+|files|files/[^/]+|files/[^/]+/content|session|listSessions|metadata)"
    r"|DELETE (session|files/[^/]+)"
)
_SAFE_TO_REPEAT = frozenset({"GET", "PUT", "DELETE"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, relative to a pool's endpoint, and the reader of its successful answer."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    query: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)  # further arguments of httpx's `request`
    version: str = API_VERSION  # "" for none
    is_repeatable_post: bool = False  # of a POST: sending it twice comes to the same as sending it once

    @property
    def is_repeatable(self) -> bool:
        """Whether it may be sent again without knowing what became of it. A condition that held once may hold no more."""
        is_safe = self.method in _SAFE_TO_REPEAT or self.is_repeatable_post
        return is_safe and not {"If-Match", "If-None-Match"} & self.options.get("headers", {}).keys()

    def check(self, response: httpx.Response) -> httpx.Response:
        """As `check`; of what Azure's API does not have, a server that does not have it either raises NotSupported."""
        try:
            return check(response)
        except ApiError as error:
            is_missing = error.status in (404, 405, 501) and not is_about_what_is_asked(error)
            if not is_missing or _AZURES.fullmatch(f"{self.method} {self.path}"):
                raise
            text = f"this server has no {self.method} {self.path}, which is beyond Azure's API"
            raise NotSupported(error.status, "NotSupported", text, trace=error.trace) from error

    def arguments(self, endpoint: str, version: str | None = None) -> dict[str, Any]:
        """All arguments of httpx's `request` and `stream`. A path that is a whole address, as servers give them, stands as it is.

        `version` is the client's own, in the place of the newest.
        """
        if "://" in self.path:
            return {"method": self.method, "url": self.path, **self.options}
        url = f"{endpoint.rstrip('/')}/{self.path}"
        asked = version if version and self.version == API_VERSION else self.version
        query = {"api-version": asked, **self.query} if asked else self.query
        return {"method": self.method, "url": url, "params": query, **self.options}


def check(response: httpx.Response) -> httpx.Response:
    """The response where it is a success. Raises ApiError where not; the body must have been read."""
    if response.is_success:
        return response
    raise failure_of(response)


def failure_of(response: httpx.Response) -> ApiError:
    """What an answer that is no success says."""
    try:
        body = response.json()
        error = body.get("error", body)
        fault, trace = Fault.parse(error), error.get("traceId")
    except (ValueError, AttributeError):  # not JSON, or not an object: something between us and the server answered
        fault, trace = Fault(response.headers.get("x-ms-error-code", ""), response.text[:200]), None
    return error_of(response.status_code, fault, trace, _seconds(response.headers.get("Retry-After")))


def _seconds(text: str | None) -> float | None:
    """Of a Retry-After. One with a date is Azure's control plane's, where `operations.wait_of` reads it."""
    return float(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None
