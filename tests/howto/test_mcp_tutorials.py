"""The public MCP tutorials, by curl as they do it: separate calls without `Accept`, without a session and with ids that are strings."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Protocol
from uuid import UUID, uuid4

import pytest

pytestmark = pytest.mark.one_level
INITIALIZE = '{ "jsonrpc": "2.0", "id": "1", "method": "initialize" }'
INITIALIZED = '{ "jsonrpc": "2.0", "method": "notifications/initialized" }'
LIST = '{ "jsonrpc": "2.0", "id": "2", "method": "tools/list" }'
LAUNCH = '{ "jsonrpc": "2.0", "id": "3", "method": "tools/call", "params": { "name": "NAME", "arguments": {} } }'
SHELL = """{ "jsonrpc": "2.0", "id": "4", "method": "tools/call",
  "params": { "name": "runShellCommandInRemoteEnvironment",
    "arguments": { "environmentId": "ENVIRONMENT", "shellCommand": "echo Hello from Shell Session" } } }"""
PYTHON = """{ "jsonrpc": "2.0", "id": "5", "method": "tools/call",
  "params": { "name": "runPythonCodeInRemoteEnvironment",
    "arguments": { "environmentId": "ENVIRONMENT", "pythonCode": "import datetime; print(f'{datetime.date(2026, 1, 2)}')" } } }"""


class Server(Protocol):
    """A running server, as conftest's fixture gives it."""

    @property
    def connection(self) -> dict[str, Any]: ...


def curl(server: Server, body: str) -> tuple[int, str]:
    """Status and body of a call as the tutorials print it."""
    pool = server.connection["pools"]["python"]
    command = ["curl", "-sS", "-X", "POST", pool["mcp"], "-H", "Content-Type: application/json"]
    command += ["-H", f"x-ms-apikey: {pool['mcp_key']}", "-d", body, "-w", "\n%{http_code}"]
    text, _, status = subprocess.run(command, capture_output=True, text=True, check=True).stdout.rpartition("\n")
    return int(status), text


def answer(server: Server, body: str) -> Any:
    status, text = curl(server, body)
    assert status == 200
    reply = json.loads(text)
    assert reply["id"] == json.loads(body)["id"]
    return reply["result"]


@pytest.mark.parametrize("launch", ["launchShell", "launchPythonEnvironment"])
def test_the_tutorials_can_be_followed(server: Server, launch: str) -> None:
    """Initialize, look at the tools, launch, run a command and code."""
    hello = answer(server, INITIALIZE)
    assert (hello["protocolVersion"], "tools" in hello["capabilities"]) == ("2025-03-26", True)
    assert curl(server, INITIALIZED) == (202, "")
    listed = {tool["name"] for tool in answer(server, LIST)["tools"]}
    assert {launch, "runPythonCodeInRemoteEnvironment", "runShellCommandInRemoteEnvironment"} <= listed

    environment = answer(server, LAUNCH.replace("NAME", launch))["structuredContent"]["environmentId"]
    assert UUID(environment)
    ran = answer(server, SHELL.replace("ENVIRONMENT", environment))["structuredContent"]
    assert (ran["stdout"], ran["stderr"]) == ("Hello from Shell Session\n", "")
    ran = answer(server, PYTHON.replace("ENVIRONMENT", environment))["structuredContent"]
    assert (ran["stdout"], ran["stderr"]) == ("2026-01-02\n", "")
    answer(server, stop(environment))


def test_an_agent_may_choose_its_own_environments(server: Server) -> None:
    environment = f"agent-{uuid4().hex}"
    assert (
        answer(server, PYTHON.replace("ENVIRONMENT", environment))["structuredContent"]["environmentId"] == environment
    )
    answer(server, stop(environment))


def stop(environment: str) -> str:
    arguments = {"environmentId": environment}
    params = {"name": "stopEnvironment", "arguments": arguments}
    return json.dumps({"jsonrpc": "2.0", "id": "9", "method": "tools/call", "params": params})
