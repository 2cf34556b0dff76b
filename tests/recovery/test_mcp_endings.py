"""MCP while parts die: what callers notice of a gateway that is replaced, what a stop waits for, and what the logs tell of all of it."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from conftest import Server, SlimServer

BOTH = "application/json, text/event-stream"
PYTHON = "runPythonCodeInRemoteEnvironment"
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
SECRETS = ("my-own-environment", "secret-in-code", "secret-in-nonsense", "secret-tool", "secret-session")


def connect(server: Server) -> httpx.Client:
    pool = server.connection["pools"]["python"]
    return httpx.Client(base_url=pool["mcp"], headers={"x-ms-apikey": pool["mcp_key"]}, timeout=30, trust_env=False)


def message(method: str, params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def running(code: str) -> dict[str, Any]:
    arguments = {"environmentId": "my-own-environment", "pythonCode": code}
    return message("tools/call", {"name": PYTHON, "arguments": arguments, "_meta": {"progressToken": 1}})


def begun(mcp: httpx.Client) -> dict[str, str]:
    reply = mcp.post("", json=message("initialize", HELLO), headers={"accept": BOTH})
    return {"mcp-session-id": reply.headers["mcp-session-id"], "accept": BOTH}


@pytest.mark.thorough
def test_a_gateway_that_dies_takes_sessions_of_mcp_with_it_and_nothing_else(
    slim_server: SlimServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """Plain calls wait and go on, environments are as they were, and an MCP session is 404, which has clients begin anew. At the most
    talkative level no log has a key, an identifier, a name of the caller's or code."""
    with slim_server("--log-level", "debug") as server, connect(server) as mcp:
        headers = begun(mcp)
        mcp.post("", json=running("kept = 'yes' # secret-in-code"), headers=headers)
        for nonsense in (b'{"secret-in-nonsense', b'{"jsonrpc":"2.0","id":1,"method":5,"secret-in-nonsense":1}'):
            mcp.post("", content=nonsense, headers=headers)
        mcp.post("", json=message("tools/call", {"name": "secret-tool", "arguments": 5}), headers=headers)
        mcp.post("", json=message("tools/call", {"name": "secret-tool"}))
        mcp.post("", json=running("1"), headers={"mcp-session-id": "secret-session"})
        mcp.post("", json=running("1"), headers={"x-ms-apikey": "secret-session"})

        os.kill(server.pids["gateway"], signal.SIGKILL)
        with ThreadPoolExecutor(8) as threads:  # all of them come while what MCP needs is being imported
            after = list(threads.map(lambda _: eventually(mcp, "kept"), range(8)))
        lost = mcp.post("", json=running("kept"), headers=headers)
        again = mcp.post("", json=running("kept"), headers=begun(mcp))
        key = server.connection["pools"]["python"]["mcp_key"]

    assert [each["executionResult"] for each in after] == ["yes"] * 8
    assert lost.status_code == 404
    assert '"executionResult":"yes"' in again.text
    logs = "".join(capfd.readouterr())
    assert f"mcp {PYTHON}" in logs, "logs are seen at all"
    for text in (*SECRETS, key):
        assert text not in logs, text


def eventually(mcp: httpx.Client, code: str) -> dict[str, Any]:
    """A call that came while the gateway died is lost with it; the next one is answered by its successor."""
    deadline = time.monotonic() + 20
    while True:
        try:
            result: dict[str, Any] = mcp.post("", json=running(code)).json()["result"]["structuredContent"]
            return result
        except httpx.TransportError:
            assert time.monotonic() < deadline


@pytest.mark.thorough
def test_a_stop_waits_for_no_stream_and_cancels_nothing(slim_server: SlimServer) -> None:
    """A stream without news would hold a stop up; code that runs for an MCP session is not canceled by it, as if its caller had asked."""
    with slim_server() as server, connect(server) as mcp, ThreadPoolExecutor(2) as threads:
        headers = begun(mcp)
        stream = threads.submit(lambda: mcp.get("", headers=headers).text)
        running_call = threads.submit(
            lambda: mcp.post("", json=running("import time; time.sleep(1); 'done'"), headers=headers).text
        )
        time.sleep(0.5)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0
        took = time.monotonic() - began

        assert '"executionResult":"done"' in running_call.result(5)
        assert "data: {" not in stream.result(5)
    assert took < 8
