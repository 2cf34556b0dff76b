"""`/metrics`: what it tells is what the reference says it tells, it counts what happens, and nobody's names are in it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from carrel.client import Client
from carrel.server.metrics.table import METRICS
from carrel.storage import APPLICATION, State
from conftest import Server, SlimServer

pytestmark = pytest.mark.one_level

PAGE = Path(__file__).parents[1] / "docs/reference/metrics.md"
ARM = "https://management.azure.com"
OPEN = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.fixture
def scraper(server: Server) -> Iterator[httpx.Client]:
    token = State(server.state).issue_token(ARM, claims={"roles": ["Reader"], "carrel_pools": ["*"]})
    with httpx.Client(
        base_url=server.connection["http"],
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        timeout=30,
    ) as http:
        yield http


def samples(http: httpx.Client) -> list[Sample]:
    reply = http.get("/metrics")
    assert reply.status_code == 200, reply.text
    return [sample for family in parse_text(reply.text) for sample in family.samples]


def total(found: list[Sample], name: str, **labels: str) -> float:
    return sum(each.value for each in found if each.name == name and labels.items() <= each.labels.items())


def test_a_busy_server_tells_every_metric_of_the_table_and_no_other(
    server: Server, client: Client, scraper: httpx.Client
) -> None:
    """Names, types and labels, in both formats: what is listed is there, what is there is listed."""
    client.execute("1 / 0")
    client.end()
    httpx.get(f"{server.connection['http']}/tenants", trust_env=False)
    samples(scraper)
    wanted = {each.name: (each.type, set(each.labels), each.help) for each in METRICS}

    for accept, parse in (("text/plain", parse_text), (OPEN, parse_open)):
        reply = scraper.get("/metrics", headers={"Accept": accept})
        assert reply.headers["content-type"].startswith(accept.partition(";")[0])
        found = {}
        for family in parse(reply.text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = {frozenset(sample.labels) - {"le"} for sample in family.samples}
            assert len(labels) == 1, f"{name} has no samples, or of several kinds: {labels}"
            found[name] = (family.type, set(labels.pop()), family.documentation)
        assert found == wanted


def test_the_reference_lists_every_metric() -> None:
    rows = re.findall(r"^\| `(carrel_\w+)` \| (\w+) \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.M)
    listed = [(name, kind, tuple(re.findall(r"`(\w+)`", labels)), meaning) for name, kind, labels, meaning in rows]

    assert listed == [(each.name, each.type, each.labels, each.help) for each in METRICS]


def test_what_happens_is_counted(client: Client, scraper: httpx.Client) -> None:
    before = samples(scraper)
    client.execute("1 + 1")
    client.execute("1 / 0")
    client.upload("x.bin", bytes(10_000))
    client.end()
    after = samples(scraper)

    def grown(name: str, **labels: str) -> float:
        return total(after, name, **labels) - total(before, name, **labels)

    pool = {"pool": "python"}
    assert grown("carrel_executions_total", outcome="ok", **pool) == 1
    assert grown("carrel_executions_total", outcome="error", **pool) == 1
    assert grown("carrel_execution_seconds_count", **pool) == 2
    assert grown("carrel_execution_seconds_bucket", le="+Inf", **pool) == 2
    assert grown("carrel_execution_seconds_sum", **pool) > 0
    assert grown("carrel_first_call_seconds_count", **pool) == 1
    assert grown("carrel_sessions_started_total", **pool) == 1
    assert grown("carrel_sessions_ended_total", reason="deleted", **pool) == 1
    assert grown("carrel_session_received_bytes_total", **pool) >= 10_000
    posts = {"route": "executions", "method": "POST", "status": "2xx", "api_version": "2025-10-02-preview"}
    assert grown("carrel_http_requests_total", plane="data", **posts) == 2
    assert grown("carrel_http_request_duration_seconds_count", plane="data", route="executions") == 2
    assert grown("carrel_http_received_bytes_total", plane="data") > 10_000
    assert total(after, "carrel_host_up") == 1
    assert total(after, "carrel_host_sandboxes") >= total(after, "carrel_pool_sandboxes", state="live")


def test_nobodys_names_are_in_it(server: Server, scraper: httpx.Client) -> None:
    """An identifier, a file's name, a path, a method, a version and a host that somebody made up."""
    word = f"secret-{uuid.uuid4().hex}"
    with server.client(word) as client:
        client.execute("1")
        client.upload(word, b"1")
        client.end()
    endpoint = httpx.URL(server.endpoint).path
    for method, path in (
        ("GET", f"/{word}"),
        ("GET", f"{endpoint}/{word}?api-version={word}"),
        ("GET", f"{endpoint.replace('/python', f'/{word}')}/session"),
        ("PROPFIND", f"{endpoint}/session?identifier={word}"),
        ("GET", f"/.carrel/{word}"),
    ):
        scraper.request(method, path, headers={"x-ms-client-request-id": word})
    body = scraper.get("/metrics").text.lower()

    assert word not in body
    assert word.partition("-")[2][:8] not in body
    assert "propfind" not in body
    assert 'method="other"' in body


def test_who_scrapes_may_read_every_pool(server: Server, scraper: httpx.Client) -> None:
    state, connection = State(server.state), server.connection
    reader = {"roles": ["Reader"], "carrel_pools": ["*"]}
    one_pool = {"roles": ["Reader"], "carrel_pools": ["python"]}
    one_session = {**reader, "carrel_identifier": "alice"}

    def status(token: str) -> int:
        return scraper.get("/metrics", headers={"Authorization": f"Bearer {token}"}).status_code

    assert httpx.get(f"{connection['http']}/metrics", trust_env=False).status_code == 401
    assert status(connection["token"]) == 401
    assert status(state.issue_token(ARM, claims=one_session)) == 401
    assert status(state.issue_token(ARM, claims=one_pool)) == 403
    assert status(state.issue_token(ARM, subject=str(uuid.uuid4()), claims=APPLICATION)) == 403
    assert status(connection["arm_token"]) == 200
    assert scraper.post("/metrics").status_code == 405
    assert scraper.head("/metrics").content == b""


@pytest.mark.parametrize(
    "accept", ["", "*/*", "application/openmetrics-text; version=zzz", ",;,", "x" * 5000, "\xff;v=1"]
)
def test_any_accept_is_answered(scraper: httpx.Client, accept: str) -> None:
    reply = scraper.get("/metrics", headers=[(b"Accept", accept.encode("latin-1"))])

    assert reply.status_code == 200
    assert "carrel_build_info" in reply.text


def test_refusals_are_counted_by_reason(server: Server, scraper: httpx.Client) -> None:
    before = samples(scraper)
    expired = State(server.state).issue_token(ARM, ttl_s=-3600)
    for value in ("Bearer nonsense", "Basic nonsense", f"Bearer {expired}", f"Bearer {server.connection['token']}"):
        scraper.get("/tenants", headers={"Authorization": value})
    after = samples(scraper)

    for reason in ("invalid", "malformed", "expired", "audience"):
        name = "carrel_tokens_refused_total"
        assert total(after, name, reason=reason) - total(before, name, reason=reason) == 1, reason


@pytest.mark.thorough
def test_an_open_server_asks_for_no_token(slim_server: SlimServer) -> None:
    with slim_server("--metrics", "open") as running:
        assert "carrel_host_up 1.0" in httpx.get(f"{running.connection['http']}/metrics", trust_env=False).text


@pytest.mark.thorough
def test_a_server_may_give_none(slim_server: SlimServer) -> None:
    with slim_server("--metrics", "off") as running:
        headers = {"Authorization": f"Bearer {running.connection['arm_token']}"}
        reply = httpx.get(f"{running.connection['http']}/metrics", headers=headers, trust_env=False)
        assert reply.status_code == 404
