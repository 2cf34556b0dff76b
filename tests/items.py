"""What pytest's items say of themselves."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from carrel.models import Level


@dataclass(frozen=True, slots=True)
class Stronghold:
    """A parameter of `fortress`: sandboxes of another runtime than Python's at a level. A level alone is Python's."""

    level: Level
    runtime: str

    def __str__(self) -> str:
        return f"{self.level}-{self.runtime}"


def level_of(fortress: object) -> Level | None:
    """Of a parameter of `fortress`; None of anything else."""
    if isinstance(fortress, Stronghold):
        return fortress.level
    return fortress if isinstance(fortress, Level) else None


def parameter(item: pytest.Item, name: str) -> object:
    """With what a test is run for `name`; None where it has no such parameter."""
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(name) if callspec else None
