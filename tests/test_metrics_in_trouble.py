"""Numbers while something is wrong: that is when somebody looks. Servers of their own, since they are hurt."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from carrel.client import ApiError, Client
from conftest import Server, SlimServer
from processes import eventually

pytestmark = [pytest.mark.one_level, pytest.mark.thorough]

REFUSED = """
[pools.python]
scaleConfiguration = {maxConcurrentSessions = 10, readySessionInstances = 1}
carrel = {image = "python-slim"}
[pools.below]
carrel = {image = "python-slim", isolation = "process", minimum = "namespace"}
"""


def scrape(server: Server) -> list[Sample]:
    headers = {"Authorization": f"Bearer {server.connection['arm_token']}"}
    reply = httpx.get(f"{server.connection['http']}/metrics", headers=headers, trust_env=False, timeout=30)
    assert reply.status_code == 200, reply.text
    return [sample for family in parse_text(reply.text) for sample in family.samples]


def value(found: list[Sample], name: str, **labels: str) -> float | None:
    matching = [each.value for each in found if each.name == name and labels.items() <= each.labels.items()]
    return matching[0] if matching else None


def test_a_host_that_does_not_answer_is_told(slim_server: SlimServer) -> None:
    """And the gateway's own numbers with it; the host's are left out rather than made up."""
    with slim_server() as server:
        host = server.pids["host"]
        assert value(scrape(server), "carrel_host_up") == 1
        os.kill(host, signal.SIGSTOP)
        try:
            found = scrape(server)
        finally:
            os.kill(host, signal.SIGCONT)

        assert value(found, "carrel_host_up") == 0
        assert value(found, "carrel_store_up") == 1
        assert value(found, "carrel_process_open_fds", process="gateway")
        assert value(found, "carrel_process_open_fds", process="host") is None
        assert value(found, "carrel_pool_sandboxes", pool="python") is None
        assert eventually(lambda: value(scrape(server), "carrel_host_up") == 1)


def test_a_gateway_that_was_killed_takes_its_own_numbers_alone(slim_server: SlimServer) -> None:
    with slim_server() as server:
        with server.client() as client:
            client.execute("1")
        gateway = server.pids["gateway"]
        assert value(scrape(server), "carrel_http_requests_total", route="executions") == 1
        os.kill(gateway, signal.SIGKILL)
        assert eventually(lambda: server.pids["gateway"] not in (gateway, None))
        found = scrape(server)

        assert value(found, "carrel_http_requests_total", route="executions") is None
        assert value(found, "carrel_sessions_started_total", pool="python") == 1
        assert value(found, "carrel_executions_total", outcome="ok") == 1


def test_a_pool_that_cannot_be_served_is_told(slim_server: SlimServer) -> None:
    """With a series of its own, in its status with the reason, and its neighbour none the worse."""
    with slim_server(config=REFUSED) as server:
        found = scrape(server)
        assert value(found, "carrel_pool_refused", pool="below") == 1
        assert value(found, "carrel_pool_refused", pool="python") == 0
        with Client(server.endpoint.replace("/python", "/below"), server.connection["token"]) as client:
            status = client.status()
            assert status.isolation is None
            assert status.error is not None
            assert "minimum" in status.error
            assert client.table() == []


def test_an_execution_whose_session_ends_under_it_is_counted(slim_server: SlimServer) -> None:
    with slim_server() as server, server.client() as client, ThreadPoolExecutor() as threads:
        waiting = threads.submit(client.execute, "import time; time.sleep(60)")
        assert eventually(lambda: [each.state for each in client.table()] == ["Running"])
        client.end()
        with pytest.raises(ApiError):
            waiting.result(60)
        found = scrape(server)

        assert value(found, "carrel_executions_total", outcome="lost") == 1
        assert value(found, "carrel_sessions_ended_total", reason="deleted") == 1
        assert client.status().totals.failures == 1


def test_many_scrape_at_once_while_code_runs(slim_server: SlimServer) -> None:
    with slim_server() as server, server.client() as client, ThreadPoolExecutor(12) as threads:
        scrapes = [threads.submit(scrape, server) for _ in range(40)]
        results = [client.execute(f"{number} + 1").result for number in range(20)]

        assert results == [number + 1 for number in range(20)]
        assert all(value(each.result(60), "carrel_host_up") == 1 for each in scrapes)
        assert value(scrape(server), "carrel_executions_total", outcome="ok") == 20
        assert value(scrape(server), "carrel_http_requests_in_flight") == 1
