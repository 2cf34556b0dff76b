"""Webhooks of a real server: told in time, signed, told again until taken, and by the next gateway where one is killed; secrets unseen."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import http.server
import json
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from conftest import Server, SlimServer
from endpoint import V25_10
from managing import body_of, managing, put

CONFIG = """
[pools.python]
scaleConfiguration = {{maxConcurrentSessions = 10, readySessionInstances = 1}}
dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds = {cooldown}
[pools.python.carrel]
image = "python-slim"
memory = "256MiB"
disk = "64MiB"
tmp = "16MiB"
webhook = {{url = "{url}", secret = {{file = "{folder}/key"}}}}
secrets.value = {{file = "{folder}/value"}}
"""
SECRET = "wh-s3cr3t-ü"
VALUE = "env-s3cr3t-value"


@dataclass
class Receiver:
    """Takes what is sent to it. `answers` are the statuses of the next requests; 200 for all that follow."""

    url: str
    answers: list[int] = field(default_factory=list)
    requests: queue.Queue[tuple[dict[str, str], bytes]] = field(default_factory=queue.Queue)

    def next(self, seconds: float = 20) -> dict[str, Any]:
        """The next notice, once its signature is found to be right."""
        headers, body = self.requests.get(timeout=seconds)
        moment = headers["carrel-webhook-timestamp"]
        assert abs(int(moment) - time.time()) < 30
        wanted = hmac.new(SECRET.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["carrel-webhook-signature"] == f"v1={wanted}"
        notice = dict(json.loads(body))
        assert headers["carrel-webhook-id"] == notice["id"]
        return notice


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            found.requests.put(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(found.answers.pop(0) if found.answers else 200)
            self.send_header("location", f"{found.url}/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        found = Receiver(f"http://127.0.0.1:{listening.server_port}/hook?key=in-the-url")
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield found
        listening.shutdown()


@contextlib.contextmanager
def told_server(slim_server: SlimServer, tmp_path: Path, url: str, cooldown: int = 4, *more: str) -> Iterator[Server]:
    (tmp_path / "key").write_text(SECRET + "\n")
    (tmp_path / "value").write_text(VALUE)
    config = CONFIG.format(cooldown=cooldown, url=url, folder=tmp_path)
    tmp_path.chmod(0o755)
    with slim_server(*more, config=config) as server:
        yield server


def call(server: Server, method: str, path: str, identifier: str, **options: Any) -> httpx.Response:
    headers = {"Authorization": f"Bearer {server.connection['token']}", **options.pop("headers", {})}
    params = {"api-version": V25_10, "identifier": identifier}
    return httpx.request(method, f"{server.endpoint}/{path}", params=params, headers=headers, **options)


@pytest.mark.thorough
def test_a_webhook_is_told_before_the_end_and_at_it(
    slim_server: SlimServer, receiver: Receiver, tmp_path: Path
) -> None:
    """Expiring at half of a short cooldown, anew after each use; then its end, by whichever cause; a refusal is tried again."""
    with told_server(slim_server, tmp_path, receiver.url) as server:
        receiver.answers = [500]
        began = time.time()
        created = call(server, "PUT", "session", "user-one").json()

        notices = [receiver.next() for _ in range(2)]
        assert {each["id"] for each in notices} == {notices[0]["id"]}, "the same until it is taken"
        assert (notices[0]["type"], notices[0]["pool"]) == ("session.expiring", "python")
        assert (notices[0]["session"]["identifier"], notices[0]["session"]["etag"]) == ("user-one", created["etag"])
        assert time.time() - began > 1.5
        ended = receiver.next()
        assert (ended["type"], ended["reason"]) == ("session.ended", "it was idle for too long")
        assert ended["session"]["etag"] == created["etag"]

        call(server, "PUT", "session", "user-two")
        receiver.answers = [302]
        call(server, "DELETE", "session", "user-two")
        notice = receiver.next()
        assert receiver.next() == notice, "a redirect is no answer"
        assert (notice["type"], notice["reason"]) == ("session.ended", "it was deleted")


@pytest.mark.thorough
def test_the_ends_of_a_deleted_pools_sessions_are_told_and_nothing_of_the_next_pools(
    slim_server: SlimServer, receiver: Receiver, tmp_path: Path
) -> None:
    """A pool that somebody makes under the same name over ARM has no webhook, and cannot have one: that is the operator's to name."""
    with told_server(slim_server, tmp_path, receiver.url, 600) as server, managing(server) as managed:
        call(server, "PUT", "session", "user-one")
        managed.gone(managed.ask("DELETE", managed.pool("python"), 202))
        notice = receiver.next()
        assert (notice["type"], notice["reason"]) == ("session.ended", "its session pool was deleted")

        managed.wait(put(managed, "python"))
        call(server, "PUT", "session", "user-two")
        call(server, "DELETE", "session", "user-two")
        with pytest.raises(queue.Empty):
            receiver.next(4)
        for webhook in (
            {"url": receiver.url, "secret": {"file": str(tmp_path / "key")}},
            {"url": "http://127.0.0.1:1"},
        ):
            managed.ask("PUT", managed.pool("python"), 400, json=body_of(webhook=webhook))


@pytest.mark.thorough
def test_a_webhook_goes_with_the_trace_of_the_call_that_caused_it(
    slim_server: SlimServer, receiver: Receiver, tmp_path: Path
) -> None:
    """As the caller told it, where nothing is recorded here; a call that tells none causes none."""
    parent = {"traceparent": f"00-{'a1' * 16}-{'b2' * 8}-01", "tracestate": "vendor=value"}
    with told_server(slim_server, tmp_path, receiver.url, 600) as server:
        for name, headers in (("with-trace", parent), ("without", {})):
            call(server, "PUT", "session", name, headers=parent)
            call(server, "DELETE", "session", name, headers=headers)
            sent, _ = receiver.requests.get(timeout=20)

            assert {name: sent[name] for name in parent if name in sent} == headers


@pytest.mark.thorough
def test_no_end_is_told_twice_or_not_at_all_where_a_gateway_is_killed(
    slim_server: SlimServer, receiver: Receiver, tmp_path: Path
) -> None:
    """What happens while there is no gateway the next one tells; what was taken it does not tell again."""
    with told_server(slim_server, tmp_path, receiver.url, 600) as server:
        for name in ("one-a", "one-b"):
            call(server, "PUT", "session", name)
        call(server, "DELETE", "session", "one-a")
        assert receiver.next()["session"]["identifier"] == "one-a"
        time.sleep(0.3)  # for the host to hear of it
        receiver.answers = [503]
        call(server, "DELETE", "session", "one-b")
        assert receiver.next()["session"]["identifier"] == "one-b"
        gateway = server.pids["gateway"]
        os.kill(gateway, signal.SIGKILL)

        told = receiver.next()
        assert told["session"]["identifier"] == "one-b"
        assert server.pids["gateway"] != gateway or told
        with pytest.raises(queue.Empty):
            receiver.next(1.5)


@pytest.mark.thorough
def test_a_receiver_that_is_not_there_hurts_nobody(slim_server: SlimServer, tmp_path: Path) -> None:
    """Neither one that refuses connections nor one that never answers; sessions come and go as ever."""
    with contextlib.ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        server = stack.enter_context(told_server(slim_server, tmp_path, url, 600))
        began = time.monotonic()
        for number in range(20):
            assert call(server, "PUT", "session", f"user-{number}").status_code == 201
            assert call(server, "DELETE", "session", f"user-{number}").status_code == 204
        assert time.monotonic() - began < 20
        assert httpx.get(f"{server.connection['http']}/health").status_code == 200


@pytest.mark.thorough
def test_no_log_and_no_listing_has_a_secret_or_an_identifier(
    slim_server: SlimServer, receiver: Receiver, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """At the most talkative level, with failures of every kind: of the receiver's, of the environment's, of the code's, of a gateway."""
    body = {"environment": {"TOKEN": {"secretRef": "value"}, "OTHER": f"{VALUE}-2"}}
    with told_server(slim_server, tmp_path, receiver.url, 600, "--log-level", "debug") as server:
        receiver.answers = [400, 500]
        assert call(server, "PUT", "session", "user-secret", json=body).status_code == 201
        shown = call(server, "POST", "executions", "user-secret", json={"code": "import os; os.environ['TOKEN']"})
        assert shown.json()["result"]["executionResult"] == VALUE
        call(server, "PUT", "session", "user-secret", json={"environment": {"TOKEN": f"{VALUE}\0"}})
        call(server, "PUT", "session", "user-secret", json={"environment": {"TOKEN": f"{VALUE}-3"}})
        call(server, "POST", "executions", "user-secret", json={"code": "import os; os._exit(1)"})
        call(server, "POST", "executions", "user-secret", json={"code": "1"})
        os.kill(server.pids["gateway"], signal.SIGKILL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.HTTPError):
                if call(server, "DELETE", "session", "user-secret").status_code in (204, 404):
                    break
        receiver.next()
        listings = [call(server, "GET", path, "user-other").text for path in ("metadata", "listSessions")]
        listings.append(json.dumps(server.connection))
        listings += [Path(f"/proc/{pid}/cmdline").read_text() for pid in server.pids.values()]

    logs = "".join(capfd.readouterr())
    assert "gateway: request" in logs, "logs are seen at all"
    for text in (VALUE, SECRET, "user-secret", "in-the-url"):
        assert text not in logs, text
        assert not any(text in listing for listing in listings), text
