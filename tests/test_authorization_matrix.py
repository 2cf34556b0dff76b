"""The page of who may call what is true: every route, role, scope and kind of token is called and compared with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from authorization import KINDS, NOBODY, Matrix, page
from carrel import roles
from carrel.server import routes
from conftest import Server
from processes import eventually

pytestmark = pytest.mark.one_level

WATCHED = (".carrel/status", ".carrel/sessions", ".carrel/logs")  # what takes no more than to see the pool
PAGE = Path(__file__).parent.parent / "docs/security/authorization.md"


@pytest.fixture(scope="module")
def matrix(server: Server) -> Iterator[Matrix]:
    matrix = Matrix(server)
    matrix.install()
    owner = matrix._token("https://management.azure.com", matrix.holders["Owner", "S"])
    lists = next(
        row for row in matrix.rows() if row.name == "GET {scope}/providers/Microsoft.Authorization/roleAssignments"
    )
    assert eventually(lambda: matrix._call(lists, owner) not in (401, 403)), "what is in the store now is not seen"
    yield matrix
    matrix.remove()


def test_the_page_is_what_the_server_does(matrix: Matrix) -> None:
    found = page(matrix.by_roles(is_thorough=False), matrix.by_kinds(), matrix.rows())

    if os.environ.get("CARREL_AUTHORIZATION") == "write":
        PAGE.write_text(found)
    assert PAGE.read_text() == found, "run `make authorization` and look at what has changed"


def test_nothing_is_open_by_accident(matrix: Matrix) -> None:
    """What the page may never say, whoever writes it."""
    by_roles, by_kinds = matrix.by_roles(is_thorough=False), matrix.by_kinds()
    executor = "Azure ContainerApps Session Executor"
    for row in matrix.rows():
        kinds, cells = by_kinds[row.plane + row.name], by_roles[row.plane + row.name]
        is_mcp = row.pattern == "mcp"
        assert (kinds["no token"], kinds["another plane's"]) == ("401", "401"), row.name
        assert (kinds["MCP key"] == "401") is not is_mcp, row.name
        if row.plane != "https://dynamicsessions.io":
            assert [kinds[kind] for kind in KINDS if kind.startswith("bound")] == ["401", "401"], row.name
            continue
        action = row.pattern.startswith(".carrel/") and routes.FIXED[row.pattern].action
        assert kinds["operator's, other pool"] == "403", row.name
        assert is_mcp or kinds["bound, another session"] == "403", row.name
        assert cells[NOBODY] == "-", row.name
        opening = {name for name, cell in cells.items() if cell != "-"}
        if action and action != roles.EXECUTE:
            assert action == (roles.POOL_READ if row.pattern in WATCHED else roles.POOL_WRITE), row.name
            assert opening == {role.name for role in roles.ROLES.values() if role.allows(action)}, row.name
        else:
            assert opening == {executor}, row.name


@pytest.mark.thorough
def test_rights_are_inherited_everywhere(matrix: Matrix) -> None:
    """Every role at every scope: what opens a route at one opens it at all above."""
    assert matrix.by_roles(is_thorough=True) == matrix.by_roles(is_thorough=False)
