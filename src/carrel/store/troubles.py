"""What goes wrong with a database: said to the operator when it is opened, to the caller as a 503 when it is used."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import sqlalchemy as sql

from carrel.errors import RequestInvalid, StoreUnavailable

_RETRY_AFTER_S = 1
_UNSTORABLE = "The request has a value that cannot be stored: text with NUL or half a character, or no number."
_CONFLICTS = ("40001", "40P01")  # serialization_failure, deadlock_detected

log = logging.getLogger(__name__)


class StoreError(Exception):
    """The store cannot be used as it is, and was left as it is. The message says what to do; for the operator, not for callers."""


class Troubles:
    """Of one store: translates what its database says, and logs when it goes away and when it is back, not at each call in between."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_away = False

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raises StoreUnavailable for what is the database's fault, RequestInvalid for values that no database takes."""
        try:
            yield
        except sql.exc.IntegrityError:
            raise  # a fault of ours
        except sql.exc.DataError:
            raise RequestInvalid(_UNSTORABLE) from None
        except sql.exc.DBAPIError as error:
            raise self.unavailable(error) from error
        except sql.exc.StatementError as error:
            if isinstance(error.orig, ValueError):
                raise RequestInvalid(
                    "The request has a value that cannot be stored: text with NUL or half of a character."
                ) from None
            raise
        else:
            self._back()

    def unavailable(self, error: Exception, *, is_uncertain: bool = False) -> StoreUnavailable:
        """The error to raise. `is_uncertain`: the answer to the commit was lost."""
        if not self._is_away:
            self._is_away = True
            log.error("the store does not answer", extra={"store": self._name, "why": reason(error)})
        message = "The server's database does not answer at the moment."
        if is_uncertain:
            message += " The change may have been made: look before you repeat it."
        return StoreUnavailable(message, headers={"Retry-After": str(_RETRY_AFTER_S)})

    def _back(self) -> None:
        if self._is_away:
            self._is_away = False
            log.warning("the store answers again", extra={"store": self._name})


def can_be_repeated(error: sql.exc.DBAPIError) -> bool:
    """Whether the transaction was surely not committed, and may well be if it is tried again."""
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _CONFLICTS


def reason(error: Exception) -> str:
    """In one line."""
    cause = error.orig if isinstance(error, sql.exc.DBAPIError) and error.orig else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
