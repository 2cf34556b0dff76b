"""What watching and ending code needs of a sandbox, at every level: output on its way at once, an interrupt that keeps state."""

from __future__ import annotations

import time

import httpx

from carrel.client import Client
from endpoint import Endpoint


def test_output_arrives_while_the_code_runs(client: Client) -> None:
    """Both streams, each write within a fraction of the pause after it."""
    code = (
        "import sys, time\nfor n in range(3): print(n, flush=True); time.sleep(0.5)\nprint('e', file=sys.stderr); 6 * 7"
    )
    client.execute("0")
    seen = [(event.kind, event.text, time.monotonic()) for event in client.stream(code)]

    assert [kind for kind, _, _ in seen] == ["started", "stdout", "stdout", "stdout", "stderr", "result"]
    assert "".join(text for _, text, _ in seen) == "0\n1\n2\ne\n"
    end = seen[-1][2]
    before_end = [end - at for kind, _, at in seen if kind == "stdout"]
    assert all(left > least for left, least in zip(before_end, [1.2, 0.7, 0.2], strict=True)), before_end


def test_a_command_is_streamed_and_canceled(client: Client) -> None:
    """With all that it has begun; what the session had is still there."""
    client.execute("kept = 1")
    seen = []
    execution = ""
    for event in client.follow(_start(client, "echo on; sleep 60 & sleep 61; echo never")):
        seen.append(event.text)
        execution = event.id or execution
        if event.kind == "stdout":
            assert client.cancel(execution).status == "Canceled"

    assert "".join(seen).startswith("on\n")
    assert "never" not in "".join(seen)
    assert client.execute("kept").result == 1


def _start(client: Client, command: str) -> str:
    body = {"shellCommand": command, "executionType": "Asynchronous"}
    query = {"api-version": "2025-10-02-preview", "identifier": client.identifier}
    reply = client._http.post(f"{client.endpoint}/executions", params=query, json=body)
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def test_code_is_canceled_and_its_variables_stay(client: Client) -> None:
    client.execute("import time; kept = 1")
    started = client.start("while True: time.sleep(0.05)")
    time.sleep(0.3)

    assert client.cancel(started.id).status == "Canceled"
    assert client.execute("kept").result == 1


def test_a_restart_is_a_fresh_interpreter(client: Client) -> None:
    client.execute("x = 1; open('/mnt/data/kept' if __import__('os').path.isdir('/mnt/data') else 'kept', 'w').close()")
    client.restart()

    assert client.execute("'x' in globals()").result is False
    assert [file.path for file in client.list_files()] == ["kept"]
    client.set_variables({"y": [1, None, "☕"]})
    assert client.variables("y") == {"y": [1, None, "☕"]}


def test_events_over_tls(endpoint: Endpoint) -> None:
    """The same events, whole and on time, through the other listener."""
    connection = endpoint.server.connection
    address = connection["https"] + httpx.URL(endpoint.url).path
    with Client(address, endpoint.token, identifier=endpoint.identifier, ca_bundle=connection["ca_bundle"]) as client:
        seen = [
            (event.kind, time.monotonic())
            for event in client.stream("print(1, flush=True); import time; time.sleep(1)")
        ]

    assert [kind for kind, _ in seen] == ["started", "stdout", "result"]
    assert seen[2][1] - seen[1][1] > 0.7
