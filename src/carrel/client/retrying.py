"""When a call to a pool is sent again, and after how long: decided here, performed by the clients.

Only what may be repeated is (`Call.is_repeatable`): reading, and what ends in the same state however often it is asked for. Not what took
too long, as it would once more. Code is sent again only where the session says that it does not know it (`Executing`).
"""

from __future__ import annotations

from typing import Generic, TypeVar

import httpx

from carrel.client.call import Call, failure_of
from carrel.client.connection import is_local, is_untrusted
from carrel.client.errors import ExecutionNotFound
from carrel.client.operations import wait_of
from carrel.client.results import Result

RETRIES = 3
LONGEST_WAIT_S = 10.0  # a server that asks for more is one to tell the caller of

_AGAIN = frozenset({429, 502, 503, 504})
_FIRST_S = 0.25  # before the second try where the server asks for no time; then twice as long each time
_LOOK_S = 0.5  # between two looks at code that runs
_NEVER_BEGUN = frozenset({"SessionsCountExceedsLimit", "TooManyRequests", "SessionAllocationFailed"})

# Further tries come to the same: they take as long, or never were a request that can be sent.
_FINAL = (httpx.ReadTimeout, httpx.WriteTimeout, httpx.LocalProtocolError, httpx.UnsupportedProtocol)

T = TypeVar("T")


class Attempts(Generic[T]):
    """The tries of one call. Send `call`, tell how that went: it says how long to wait for the next, or that there is none."""

    def __init__(self, call: Call[T], endpoint: str, retries: int) -> None:
        self.call = call
        self._is_local = is_local(endpoint)
        self._left = retries if call.is_repeatable else 0
        self._pause_s = _FIRST_S
        self._was_lost = False  # a try of which nobody knows how it went

    def lost(self, error: httpx.TransportError) -> float:
        """No answer came. Raises `error` where that stands."""
        is_refused = isinstance(error, httpx.ConnectError) and (self._is_local or is_untrusted(error))
        if not self._left or is_refused or isinstance(error, _FINAL):
            raise error
        self._was_lost = True
        return self._next(self._pause_s)

    def answered(self, reply: httpx.Response) -> float | None:
        """None where the answer stands."""
        if reply.status_code not in _AGAIN or not self._left:
            return None
        wait_s = wait_of(reply, self._pause_s)
        return self._next(wait_s) if wait_s <= LONGEST_WAIT_S else None

    def read(self, reply: httpx.Response) -> T:
        """What the answer says. Raises ApiError. What is gone already was deleted by the try whose answer was lost."""
        if self._was_lost and self.call.method == "DELETE" and reply.status_code == 404:
            return self.call.read(reply)
        return self.call.read(self.call.check(reply))

    def _next(self, wait_s: float) -> float:
        self._left -= 1
        self._pause_s *= 2
        return wait_s


class Executing(Attempts[Result]):
    """The tries of code that is to run once.

    After a failure that leaves open whether it runs, the session is asked for the execution: one that is there is waited for, and only a
    session that lives and does not know it is sent it again. Where the session is gone the failure stands: in another one the code
    would miss what it builds on.
    """

    def __init__(self, call: Call[Result], look: Call[Result], endpoint: str, retries: int, limit_s: float) -> None:
        """`look` asks for the execution; `limit_s` is how long it may run, 0 where nobody waits for its end."""
        super().__init__(call, endpoint, retries)
        self._run, self._look = call, look
        self._looks = int(limit_s / _LOOK_S)
        self._is_waited_for = limit_s > 0
        self._failure: Exception | None = None  # since which nobody knows

    def lost(self, error: httpx.TransportError) -> float:
        wait_s = super().lost(error)
        if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            self._doubt(error)
        return wait_s

    def answered(self, reply: httpx.Response) -> float | None:
        if self._failure is not None and reply.status_code not in _AGAIN:
            return self._looked(reply, self._failure)
        wait_s = super().answered(reply)
        if wait_s is not None:
            error = failure_of(reply)
            if error.code not in _NEVER_BEGUN:
                self._doubt(error)
        return wait_s

    def _doubt(self, failure: Exception) -> None:
        self._failure = self._failure or failure
        self.call = self._look

    def _looked(self, reply: httpx.Response, failure: Exception) -> float | None:
        """Raises the failure where nothing can be known any more."""
        if reply.is_success:
            if not self._is_waited_for or self._look.read(reply).is_finished:
                return None
            self._looks -= 1
            if self._looks < 0:
                raise failure
            return _LOOK_S
        error = failure_of(reply)
        if not isinstance(error, ExecutionNotFound) or not self._left:
            raise failure from error
        self._failure, self.call = None, self._run
        return self._next(0.0)
