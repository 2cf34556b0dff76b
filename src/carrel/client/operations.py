"""Calls that the control plane answers before it is done, and when a call is tried again: decided here, performed by the clients.

ARM tells of its long work by headers: `Azure-AsyncOperation` leads to a status document, `Location` answers 202 until the work is over.
Where there is neither, the resource's own `provisioningState` tells.
"""

from __future__ import annotations

import email.utils
import time
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from carrel.client.errors import ApiError, Fault

_WAIT_S = 2.0  # between two looks where the server asks for no other time, as in Azure's CLI
_MOST_WAIT_S = 60.0  # whatever it asks for
_TRIES = 4
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_REPEATABLE = frozenset({"GET", "HEAD", "PUT", "DELETE", "OPTIONS"})
_ENDS = frozenset({"succeeded", "failed", "canceled"})


class OperationFailed(ApiError):
    """Work that was begun and then failed or was canceled. `status` is the HTTP status of the answer that told so."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of work under way: told to `on_progress`."""

    state: str  # InProgress, Deleting, Succeeded …: the server's word
    seconds: float  # since it was begun


@dataclass(frozen=True, slots=True)
class Operation:
    """Where to look next, in how many seconds. `kind` is the header that led here, or "resource"."""

    url: str
    kind: str
    wait_s: float
    state: str = "InProgress"


def begin(reply: httpx.Response, endpoint: str) -> Operation | None:
    """What an accepted call has begun; None where it is over already. Raises ApiError where the address is not the server's own."""
    for header in ("Azure-AsyncOperation", "Location"):
        url = reply.headers.get(header)
        if url and (header != "Location" or reply.status_code == 202):
            return Operation(same_origin(url, endpoint), header, wait_of(reply))
    if reply.status_code == 201 and _state(reply).lower() not in ("", *_ENDS):
        return Operation(str(reply.request.url), "resource", wait_of(reply))
    return None


def step(operation: Operation, reply: httpx.Response, endpoint: str) -> Operation | None:
    """What to do after a look, None where it is over. Raises OperationFailed."""
    if operation.kind == "Location":
        if reply.status_code != 202:
            return None
        url = reply.headers.get("Location") or operation.url
        return replace(operation, url=same_origin(url, endpoint), wait_s=wait_of(reply))
    state = _state(reply)
    if state.lower() not in _ENDS:
        return replace(operation, wait_s=wait_of(reply), state=state or operation.state)
    if state.lower() == "succeeded":
        return None
    raise _failure(reply, state.lower())


def retry_after(method: str, attempt: int, reply: httpx.Response | None) -> float | None:
    """Seconds until a call is tried again that got `reply`, or none at all; None where it is not to be."""
    if method not in _REPEATABLE or attempt + 1 >= _TRIES:
        return None
    if reply is None:
        return 0.5 * float(2**attempt)
    if reply.status_code not in _AGAIN:
        return None
    return wait_of(reply, 0.5 * float(2**attempt))


def wait_of(reply: httpx.Response, default: float = _WAIT_S) -> float:
    """What Retry-After asks for: seconds, or a date."""
    text = reply.headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError):
            seconds = default
    return min(max(seconds, 0.0), _MOST_WAIT_S) if seconds == seconds else default  # NaN is no number of seconds


def same_origin(url: str, endpoint: str) -> str:
    """The address where it is the endpoint's: a token goes nowhere else."""
    theirs, ours = urlsplit(url), urlsplit(endpoint)
    if (theirs.scheme, theirs.netloc.lower()) != (ours.scheme, ours.netloc.lower()):
        raise ApiError(
            502, "ForeignAddress", f"the server leads to {theirs.scheme}://{theirs.netloc}, which is not itself"
        )
    return url


def _state(reply: httpx.Response) -> str:
    try:
        body: Any = reply.json()
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    properties = body.get("properties")
    found = body.get("status") or (properties.get("provisioningState") if isinstance(properties, dict) else "")
    return str(found or "")


def _failure(reply: httpx.Response, state: str) -> OperationFailed:
    body = reply.json()
    error = body.get("error") if isinstance(body.get("error"), dict) else {}
    fault = Fault.parse(error)
    message = fault.message or f"the operation {'was canceled' if state == 'canceled' else 'failed'}"
    return OperationFailed(
        reply.status_code, fault.code or state.capitalize(), message, fault.target, None, fault.details
    )
