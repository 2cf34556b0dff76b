"""What goes wrong with a database, said so that the operator can act on it."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot be used as it is, and was left as it is. The message says what to do; for the operator, not for callers."""
