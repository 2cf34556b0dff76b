"""The PUT bodies of Terraform (azurerm, azapi), Bicep and Azure's command line are taken as they are: templates/ holds them.

Each pool is put, read back, put back as it was read (Terraform's update) and deleted again; nobody waits for its sandboxes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import fresh_identifier

HERE = Path(__file__).parent / "templates"
NOT_TOLD = (".location", ".identity.type")  # told in one spelling; "None", which is nothing
TEMPLATES = [each for file in sorted(HERE.glob("*.json")) for each in json.loads(file.read_text())]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """What was really given, in any casing of names: nulls, empty objects and lists say nothing."""
    if isinstance(value, dict):
        for name, each in value.items():
            yield from leaves(each, f"{path}.{name.lower()}")
    elif value not in (None, []):
        yield path, value


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda each: each["name"])
def test_the_body_of_a_public_template(template: dict[str, Any], arm_pools: httpx.Client) -> None:
    """Accepted: what it gave is there when it is read back. Or refused, with the property that is why."""
    name = fresh_identifier()
    query = {"api-version": template["version"]}
    put = arm_pools.put(name, params=query, json=template["body"])
    if not template.get("accepted", True):
        assert put.status_code == 400
        error = put.json()["error"]
        targets = [error["target"], *(each["target"] for each in error.get("details", ()))]
        assert any(template["target"] in target for target in targets)
        return
    assert put.status_code == 201, put.text
    try:
        shown = arm_pools.get(name, params=query).json()
        told = dict(leaves(shown))
        for path, value in leaves({**template["body"], "location": ""}):
            assert told.get(path) == value or path in NOT_TOLD, f"{path}: {told.get(path)!r}, not {value!r}"
        given = template["body"]["properties"]["scaleConfiguration"]
        if "readySessionInstances" not in given:  # Terraform would want to remove, each time, what nobody had asked for
            assert "readySessionInstances" not in shown["properties"]["scaleConfiguration"]
        again = arm_pools.put(name, params=query, json=shown)
        assert again.status_code in (200, 201), again.text
    finally:
        assert arm_pools.delete(name, params=query).status_code in (202, 204)


def test_templates_have_names_of_their_own_and_say_where_they_are_from() -> None:
    assert len({each["name"] for each in TEMPLATES}) == len(TEMPLATES) > 15
    assert all(each["from"] and each["version"] for each in TEMPLATES)
