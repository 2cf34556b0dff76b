"""`/openapi.json` is true: it has every route that is served and no other, and it is a document that tools can read."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from carrel.server import console, extensions, openapi
from carrel.server.metrics import endpoint as metrics
from carrel.wire.openapi import opened
from conftest import Server

ROOT = Path(__file__).parents[1]
DOCUMENT: dict[str, Any] = json.loads(openapi.document())
OPERATIONS = [
    (method, path, operation)
    for path, item in DOCUMENT["paths"].items()
    for method, operation in item.items()
    if method != "parameters"
]


@pytest.mark.parametrize("plane", openapi.planes(), ids=lambda plane: plane.tag)
def test_the_document_has_every_route_and_no_other(plane: openapi.Plane) -> None:
    """A route without words is one that nobody finds; words without a route are a promise that is not kept."""
    assert plane.undescribed() == []
    assert plane.unserved() == []


def test_the_open_paths_are_those_that_the_gateway_leaves_open() -> None:
    """Read from the text of app.py, where each stands as the key of a table, so that a new one cannot hide."""
    tree = ast.parse((ROOT / "src/carrel/server/app.py").read_text())
    tables = [node for node in ast.walk(tree) if isinstance(node, ast.Dict)]
    keys = {str(key.value) for table in tables for key in table.keys if isinstance(key, ast.Constant)} - {"message"}

    assert keys | {extensions.INDEX, extensions.WHEEL, console.ROOT, console.FILE, metrics.PATH} == set(opened.PATHS)


def test_every_reference_leads_somewhere() -> None:
    for kind, name in re.findall(r'"#/components/(\w+)/([^"]+)"', json.dumps(DOCUMENT)):
        assert name in DOCUMENT["components"][kind], f"{kind}/{name}"


def test_every_component_is_used() -> None:
    text = json.dumps(DOCUMENT)
    for kind in ("schemas", "parameters", "responses"):
        unused = [name for name in DOCUMENT["components"][kind] if f'"#/components/{kind}/{name}"' not in text]
        assert unused == [], kind


def test_paths_have_exactly_the_parameters_that_they_name() -> None:
    parameters = DOCUMENT["components"]["parameters"]
    for method, path, operation in OPERATIONS:
        told = operation["parameters"]
        given = [parameters[each["$ref"].rpartition("/")[2]] if "$ref" in each else each for each in told]
        named = [each["name"] for each in given if each["in"] == "path"]
        assert sorted(named) == sorted(re.findall(r"{(\w+)}", path)), f"{method} {path}"
        assert len({(each["name"], each["in"]) for each in given}) == len(given), f"{method} {path}"


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for _method, _path, operation in OPERATIONS]

    assert len(set(names)) == len(names)


@pytest.mark.one_level
def test_the_document_is_served_to_everybody(server: Server) -> None:
    """No token is needed, and no address stands in it: it is the same wherever the server is reached."""
    reply = httpx.get(f"{server.connection['http']}/openapi.json", trust_env=False)

    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/json; charset=utf-8")
    assert reply.json() == DOCUMENT
    assert server.connection["subscription"] not in reply.text


@pytest.mark.one_level
def test_only_what_the_document_says_is_answered_without_a_token(server: Server) -> None:
    """Each operation, called with nothing but its path: 401 wherever the document asks for one of its keys."""
    with httpx.Client(base_url=server.connection["http"], trust_env=False, timeout=10) as http:
        for method, path, operation in OPERATIONS:
            reply = http.request(method, re.sub(r"{\w+}", "nothing", path))
            if operation["security"]:
                assert reply.status_code == 401, f"{method} {path}: {reply.status_code}"
            else:
                assert str(reply.status_code) in operation["responses"], f"{method} {path}: {reply.status_code}"


@pytest.mark.one_level
def test_a_token_of_one_plane_is_none_on_another(server: Server) -> None:
    """Each operation, called with a token that is good elsewhere: 401, whatever the path names."""
    connection = server.connection
    data, arm = connection["token"], connection["arm_token"]
    others = {"data plane": arm, "control plane": data, "graph": data, "operator": data}
    with httpx.Client(base_url=connection["http"], trust_env=False, timeout=10) as http:
        for method, path, operation in OPERATIONS:
            if token := others.get(operation["tags"][0]):
                url = path.replace("{subscription}", connection["subscription"])
                headers = {"Authorization": f"Bearer {token}"}
                reply = http.request(method, re.sub(r"{\w+}", "nothing", url), headers=headers)
                assert reply.status_code == 401, f"{method} {path}: {reply.status_code}"
