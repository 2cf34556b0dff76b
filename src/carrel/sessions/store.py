"""A session's executions by id: those that wait or run, and of the finished ones as many as fit.

What nobody waited for is kept until somebody has read it, whatever else is finished meanwhile. So that this has a bound, no further
asynchronous execution is taken while too much of it is unread.
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from carrel.errors import CarrelError, ExecutionConflict
from carrel.models import MIB
from carrel.sessions.budget import Budget
from carrel.sessions.executions import Record

KEPT = 100  # finished executions of a session
KEPT_BYTES = 64 * MIB
UNREAD_BYTES = 2 * KEPT_BYTES  # what was taken before it was too much may still come to more; past this the oldest go

log = logging.getLogger(__name__)


class _Shelf:
    """Finished executions, oldest first, and their bytes."""

    def __init__(self) -> None:
        self.records: OrderedDict[str, Record] = OrderedDict()
        self.size = 0

    def put(self, record: Record) -> None:
        self.records[record.id] = record
        self.size += record.size

    def take(self, identifier: str | None = None) -> Record | None:
        """The one with that id, the oldest for None; None where it is not here."""
        record = self.records.pop(next(iter(self.records)) if identifier is None else identifier, None)
        if record is not None:
            self.size -= record.size
        return record


class Store:
    def __init__(self, budget: Budget) -> None:
        budget.join(self)
        self._budget = budget
        self._records: dict[str, Record] = {}  # in the order in which they were asked for
        self._finished = _Shelf()
        self._unread = _Shelf()  # of those that nobody waited for

    def get(self, identifier: str) -> Record | None:
        return self._records.get(identifier)

    def repeated(self, record: Record) -> Record | None:
        """The stored execution of which `record` is a repeat. Raises ExecutionConflict where only the id is the same."""
        known = self._records.get(record.id)
        if known is not None and known.likeness != record.likeness:
            raise ExecutionConflict("This operation-id was used in this session before, with another request.")
        return known

    @property
    def size(self) -> int:
        """Bytes of the finished ones."""
        return self._finished.size + self._unread.size

    @property
    def is_full_of_unread(self) -> bool:
        return len(self._unread.records) >= KEPT or self._unread.size >= KEPT_BYTES

    def add(self, record: Record) -> None:
        self._records[record.id] = record

    def finished(self, record: Record) -> None:
        """Count it in, and let the oldest ones go where they are too many or too large together."""
        if record.spec.is_fleeting:
            del self._records[record.id]
            return
        if not record.spec.is_asynchronous:
            self._keep(record)
            return
        self._unread.put(record)
        self._budget.changed(self, record.size)
        while self._unread.size > UNREAD_BYTES and len(self._unread.records) > 1:
            log.warning("a session's unread results are too large together; the oldest is forgotten")
            self._forget(self._unread)

    def read(self, record: Record) -> None:
        """Somebody has its result now."""
        if self._unread.take(record.id) is not None:
            self._budget.changed(self, -record.size)
            self._keep(record)

    def page(self, skip: int, limit: int) -> tuple[list[Record], int]:
        """Some of them, in the order in which they were asked for, and how many there are."""
        records = [record for record in self._records.values() if not record.spec.is_fleeting]
        return records[skip : skip + limit], len(records)

    def give_up(self) -> None:
        """All sessions together hold too much, and this one most: forget its oldest result, one that nobody has read only where it must."""
        if not self._finished.records:
            log.warning("the sessions' results are too large together; one that nobody has read is forgotten")
        self._forget(self._finished if self._finished.records else self._unread)

    def lose(self, error: CarrelError) -> int:
        """The session has ended. The bytes of results that go with it."""
        for record in self._records.values():
            record.lose(error)
        freed = self._budget.leave(self)
        # Let go here: whatever refers to an ended session in a circle is collected rarely, and results may be large.
        self._records, self._finished, self._unread = {}, _Shelf(), _Shelf()
        return freed

    def _keep(self, record: Record) -> None:
        shelf = self._finished
        shelf.put(record)
        self._budget.changed(self, record.size)
        while len(shelf.records) > KEPT or (shelf.size > KEPT_BYTES and len(shelf.records) > 1):
            self._forget(shelf)

    def _forget(self, shelf: _Shelf) -> None:
        oldest = shelf.take()
        if oldest is not None:
            del self._records[oldest.id]
            self._budget.changed(self, -oldest.size)
