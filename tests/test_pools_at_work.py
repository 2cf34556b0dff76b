"""Pools that are made, changed and deleted over ARM while a real server is used."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from carrel.client import ApiError
from conftest import Server
from management import SMALL
from managing import managing, put, session, state_of
from processes import eventually


def test_a_pool_made_while_the_server_runs_is_used_and_deleted(managed_server: Server) -> None:
    """Its sessions end with it, its name is free at once, and connection.json follows."""
    with managing(managed_server) as managed, session(managed_server, "new-pool") as client:
        managed.wait(put(managed, "new-pool"))
        client.execute("kept = 42")
        assert client.execute("kept").result == 42
        assert eventually(lambda: "new-pool" in managed_server.connection["pools"])

        deleted = managed.ask("DELETE", managed.pool("new-pool"), 202)
        with pytest.raises(ApiError) as caught:
            client.execute("kept")
        assert caught.value.status == 404
        managed.gone(deleted)
        assert eventually(lambda: "new-pool" not in managed_server.connection["pools"])

        managed.wait(put(managed, "new-pool"))
        assert client.execute("'kept' in globals()").result is False
        managed.gone(managed.ask("DELETE", managed.pool("new-pool"), 202))


def test_a_call_under_way_is_told_that_its_pool_was_deleted(managed_server: Server) -> None:
    """By an answer that no client repeats by itself: the code would run twice."""
    with (
        managing(managed_server) as managed,
        session(managed_server, "doomed-pool") as client,
        ThreadPoolExecutor(1) as beside,
    ):
        managed.wait(put(managed, "doomed-pool"))
        client.execute("1")
        running = beside.submit(client.execute, "import time; time.sleep(30)")
        time.sleep(0.5)

        managed.gone(managed.ask("DELETE", managed.pool("doomed-pool"), 202))

        with pytest.raises(ApiError) as caught:
            running.result(timeout=10)
        assert (caught.value.status, caught.value.code) == (409, "SessionEnded")


def test_a_changed_pool_is_another_for_new_sessions_only(managed_server: Server) -> None:
    """More memory, another level and back, another disk, and the first session goes on through all of it."""
    with managing(managed_server) as managed, session(managed_server, "moved-pool", "first") as first:
        managed.wait(put(managed, "moved-pool"))
        first.execute("kept = 'yes'")
        for number, more in enumerate(
            ({"memory": "256MiB"}, {"isolation": "restricted"}, {"isolation": "namespace"}, {"disk": "48MiB"})
        ):
            managed.wait(put(managed, "moved-pool", **more))
            shown = managed.ask("GET", managed.pool("moved-pool")).json()["properties"]
            assert shown["provisioningState"] == "Succeeded", shown
            with session(managed_server, "moved-pool", f"other-{number}") as other:
                assert other.execute("6 * 7").result == 42
                other.end()
            assert first.execute("kept").result == "yes"
        managed.gone(managed.ask("DELETE", managed.pool("moved-pool"), 202))


def test_another_network_is_for_new_sessions_and_what_a_proxy_lets_out_is_as_of_now(managed_server: Server) -> None:
    """No network, a list, another list, none again: the first session goes on, and one with a proxy follows the lists."""
    proxy = "import os; os.environ.get('HTTPS_PROXY', '')"
    reach = (
        "import os, socket, urllib.parse as p\nto = p.urlsplit(os.environ['HTTPS_PROXY'])\n"
        "s = socket.create_connection((to.hostname, to.port), 5); s.sendall(b'CONNECT 10.9.8.7:443 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "s.recv(4096).decode()"
    )
    with (
        managing(managed_server) as managed,
        session(managed_server, "netted", "first") as first,
        session(managed_server, "netted", "second") as second,
    ):
        managed.wait(put(managed, "netted"))
        assert first.execute(proxy).result == ""

        managed.wait(put(managed, "netted", network="EgressEnabled", egress={"allow": ["10.9.8.7:443"]}))
        assert second.execute(proxy).result
        assert "private" in second.execute(reach).result, "on the list, and refused for what it is"

        for network, more in (("EgressEnabled", {"egress": {"allow": ["example.org"]}}), ("EgressDisabled", {})):
            managed.wait(put(managed, "netted", network=network, **more))
            assert "not on the pool's egress list" in second.execute(reach).result
        assert first.execute(proxy).result == ""
        managed.gone(managed.ask("DELETE", managed.pool("netted"), 202))


def test_a_level_nobody_asked_for_before_is_tried_then(managed_server: Server) -> None:
    """`restricted` is started at run time and said of its replies; `process` is below the server's minimum."""
    with managing(managed_server) as managed:
        making = put(managed, "weaker-pool", isolation="restricted")
        address = f"{managed_server.endpoint.rpartition('/')[0]}/weaker-pool/listSessions"
        headers = {"Authorization": f"Bearer {managed_server.connection['token']}"}
        query = {"api-version": "2025-10-02-preview"}
        early = httpx.get(address, params=query, headers=headers, trust_env=False)
        assert early.status_code in (200, 503), "it is there from the beginning"
        managed.wait(making)
        with session(managed_server, "weaker-pool") as client:
            assert client.execute("6 * 7").result == 42
        reply = httpx.get(address, params=query, headers=headers, trust_env=False)
        assert reply.headers["carrel-isolation"] == "restricted"

        body = {"location": "local", "properties": {"carrel": {**SMALL, "isolation": "process"}}}
        refused = managed.ask("PUT", managed.pool("weakest-pool"), 400, json=body).json()["error"]
        assert refused["target"] == "properties.carrel.isolation"
        assert state_of(managed, "weakest-pool") is None
        managed.gone(managed.ask("DELETE", managed.pool("weaker-pool"), 202))


def test_a_pool_whose_image_is_not_there_has_failed_and_says_why(managed_server: Server) -> None:
    with managing(managed_server) as managed, session(managed_server, "imageless-pool") as client:
        managed.wait(put(managed, "imageless-pool", image="no-such-image"), "Failed")
        with pytest.raises(ApiError, match="no-such-image"):
            client.execute("1")

        managed.wait(put(managed, "imageless-pool"))
        assert client.execute("6 * 7").result == 42
        managed.gone(managed.ask("DELETE", managed.pool("imageless-pool"), 202))
