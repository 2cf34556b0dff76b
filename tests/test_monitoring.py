"""What deploy/ ships for Prometheus and Grafana asks only for what there is: every query, by metric and by label."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from carrel.server.metrics.table import BY_NAME

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "deploy/prometheus/carrel-alerts.yml"
DASHBOARD = ROOT / "deploy/grafana/carrel.json"
GUIDE = ROOT / "docs/guides/monitoring.md"
SCRAPED = {"instance", "job"}  # what Prometheus itself puts on every series
OWN = {"up": SCRAPED}


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load(ALERTS.read_text())
    return [rule for group in found["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """Where it stands, and what it asks."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


def labels_of(name: str) -> set[str] | None:
    """Of a series, by its name in a query; None where there is none."""
    if name in OWN:
        return OWN[name]
    base = re.sub(r"_(bucket|sum|count)$", "", name)
    if name in BY_NAME and BY_NAME[name].type != "histogram":
        return {*BY_NAME[name].labels, *SCRAPED}
    if base != name and base in BY_NAME and BY_NAME[base].type == "histogram":
        return {*BY_NAME[base].labels, *SCRAPED, *(["le"] if name.endswith("_bucket") else [])}
    return None


def test_the_check_sees_what_is_wrong() -> None:
    assert labels_of("carrel_execution_seconds") is None
    assert labels_of("carrel_nothing_total") is None
    assert labels_of("carrel_execution_seconds_bucket") == {"pool", "le", *SCRAPED}


@pytest.mark.parametrize(("where", "query"), list(queries()), ids=lambda each: str(each)[:40])
def test_a_query_asks_for_what_there_is(where: str, query: str) -> None:
    series = re.findall(r"\b(carrel_\w+|up)\b(?:\{([^}]*)\})?", query)
    assert series, "it asks for nothing of ours"
    known: set[str] = set()
    for name, matchers in series:
        labels = labels_of(name)
        assert labels is not None, f"{where}: there is no {name}"
        known |= labels
        used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))
        assert used <= labels, f"{where}: {name} has no {used - labels}"
    for grouping in re.findall(r"\b(?:by|on|without|ignoring) \(([^)]*)\)", query):
        assert {each.strip() for each in grouping.split(",")} <= known, f"{where}: {grouping}"
    assert query.count("(") == query.count(")")
    assert query.count("{") == query.count("}")


def test_every_value_that_a_query_names_is_one() -> None:
    """States, outcomes and planes in matchers are those of the reference."""
    page = (ROOT / "docs/reference/metrics.md").read_text() + (ROOT / "docs/reference/routes.md").read_text()
    words = {
        word
        for _, query in queries()
        for label, value in re.findall(r'(state|outcome|plane|status|reason)=~?"([^"]*)"', query)
        for word in value.split("|")
        if label
    }

    assert words
    for word in words:
        assert f"`{word}`" in page, word


def test_every_metric_is_somewhere_on_the_dashboard() -> None:
    """But for what is told otherwise: the build, and what other panels' figures come from."""
    board = DASHBOARD.read_text()
    missing = {name for name in BY_NAME if not re.search(rf"\b{name}(_bucket|_sum|_count)?\b", board)}

    assert missing == {"carrel_store_up", "carrel_pool_ready_sandboxes"}


def test_the_dashboard_can_be_provisioned() -> None:
    """An uid, a data source that is chosen, and panels that do not overlap."""
    board = json.loads(DASHBOARD.read_text())
    names = [each["name"] for each in board["templating"]["list"]]
    assert (board["uid"], board["title"], names) == ("carrel", "Carrel", ["datasource", "instance", "pool"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels())


def test_each_alert_says_what_to_do() -> None:
    """A summary for whoever is woken, and a row of the guide."""
    guide = GUIDE.read_text()
    names = [rule["alert"] for rule in rules()]
    assert re.findall(r"^\| `(Carrel\w+)` \|", guide, re.M) == names
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"]["summary"].endswith(".")
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]):
            assert f"{label}" in rule["expr"] or label == "instance" or "by (" not in rule["expr"]


def test_the_guides_prometheus_yml_is_one() -> None:
    block = re.search(r"```yaml[^\n]*\n(.*?)```", GUIDE.read_text(), re.S)
    assert block is not None
    found = yaml.safe_load(block[1])
    job = found["scrape_configs"][0]

    assert job["job_name"] == "carrel", "the alert about a server that is away asks for this name"
    assert job["authorization"] == {"credentials_file": "/etc/prometheus/carrel.token"}
    assert job["scheme"] == "https"
    assert found["rule_files"] == [ALERTS.name]
