"""What pytest's items say of themselves."""

from __future__ import annotations

import pytest


def parameter(item: pytest.Item, name: str) -> object:
    """With what a test is run for `name`; None where it has no such parameter."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(name) if callspec else None
