"""docs/compatibility.md says of every route that it is there or not, and so it is."""

from __future__ import annotations

import re
from pathlib import Path

from carrel.server import files, routes
from carrel.server.arm import routes as arm_routes

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/compatibility.md").read_text()
OURS = ".carrel/"  # is beyond Azure by its name
VERDICTS = {"same", "better", "different", "beyond", "not there", "not tried"}


def told(plane: str) -> dict[tuple[str, str], str]:
    """The verdict on each method and route of a plane's table."""
    rows = TEXT.split(f"<!-- routes: {plane} -->\n")[1].split("<!-- end")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {(method, cell[1].strip("`")): cell[2] for cell in cells for method in cell[0].split(", ")}


def test_every_route_of_the_data_plane_is_judged() -> None:
    """But for the names that a file may have as well as a verb: those are `files/{name}`."""
    below = [each for each in (*routes.FIXED.values(), *routes.NAMED.values()) if not each.pattern.startswith(OURS)]
    served = {(method, route.pattern) for route in below for method in route.methods}
    named = {
        (method, route.pattern)
        for route in below
        for method, handler in route.methods.items()
        if handler in (files.metadata, files.delete) and route.pattern != "files/{name}"
    }
    served |= {(method, routes.MCP.pattern) for method in routes.MCP_METHODS}

    assert {
        key for key, verdict in told("data plane").items() if verdict != "not there" and key[1] != f"{OURS}…"
    } == served - named


def test_every_route_of_the_control_plane_is_judged() -> None:
    served = {(method, route.pattern.text) for route in arm_routes.ROUTES for method in route.methods}

    assert {key for key, verdict in told("control plane").items() if verdict != "not there"} == served


def test_every_verdict_is_one() -> None:
    """And what is not simply the same says how."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines() if line.startswith("| ")
    ]
    judged = [row for row in rows if VERDICTS & set(row)]
    assert len(judged) > 100
    for row in judged:
        if {"different", "not tried"} & set(row):
            assert row[-1] and row[-1] not in VERDICTS, row


def test_every_client_names_what_runs_it() -> None:
    clients = TEXT.split("\n## Clients\n")[1]
    same = [line for line in clients.splitlines() if "| same |" in line]
    assert len(same) >= 10
    for line in same:
        names = re.findall(r"`(tests/[\w/.]+)`", line)
        assert names, line
        assert all((ROOT / name).exists() for name in names), line


def test_every_claim_about_another_product_has_a_source() -> None:
    """In docs/compare.md: a row about somebody else leads to a key of the list of sources, or says that nothing was found."""
    text = (ROOT / "docs/compare.md").read_text()
    body, _, sources = text.partition("\n## Sources\n")
    listed = set(re.findall(r"^\| ([A-Z]\d+) \| <https://", sources, re.MULTILINE))
    named = set(re.findall(r"\[([A-Z]\d+)\]", body))
    assert named == listed
    rows = [
        line
        for line in body.splitlines()
        if line.startswith("| ") and not line.startswith(("| | ", "| **", "| Carrel"))
    ]
    for row in rows:
        assert re.search(r"\[[A-Z]\d+\]", row) or "not stated" in row or "not looked for" in row, row
