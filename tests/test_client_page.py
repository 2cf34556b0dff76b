"""docs/reference/client.md has every name of the client."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import carrel.client
from carrel.client import Client, Identities, Management, SessionClient

PAGE = (Path(__file__).parent.parent / "docs/reference/client.md").read_text()


def methods() -> set[str]:
    kinds = (Client, SessionClient, Management, Identities)
    return {name for kind in kinds for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")}


@pytest.mark.parametrize("name", sorted({*carrel.client.__all__, *methods()}))
def test_every_name_of_the_client_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", PAGE)
