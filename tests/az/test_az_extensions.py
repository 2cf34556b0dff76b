"""An extension of the operator's own comes to the real az from Carrel."""

from __future__ import annotations

from pathlib import Path

import pytest

from az.cli import Az
from conftest import Server

pytestmark = [pytest.mark.thorough, pytest.mark.clients]


def test_an_extension_is_installed_from_carrel(managed_server: Server, tmp_path: Path) -> None:
    """`az extension add` by name: the newest stable version, checked by its digest; its command works; then the preview."""
    az = Az(managed_server, tmp_path)
    index = {"AZURE_EXTENSION_INDEX_URL": f"{managed_server.connection['https']}/extensions/index.json"}

    (listed,) = az.json("extension", "list-available", **index)
    assert (listed["name"], listed["version"], listed["installed"]) == ("carrel-greeting", "1.1.0b1", False)
    az.text("extension", "add", "--name", "carrel-greeting", **index)
    assert az.json("carrel-greeting", "show") == {"greeting": "hello from 1.0.0"}
    az.text("extension", "add", "--name", "carrel-greeting", "--allow-preview", "true", "--upgrade", **index)
    assert az.json("carrel-greeting", "show") == {"greeting": "hello from 1.1.0b1"}
    assert "No extension found" in az.fails("extension", "add", "--name", "containerapp", **index)
