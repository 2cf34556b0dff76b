"""MCP in a pool of each runtime: its own tool for code, kept state where there is any, and shell commands and files in all of them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from conftest import Server, fresh_identifier
from dialects import DIALECTS

# Runtime → its tool for code, what the tool calls the code, something to keep, and something that prints it.
RUNS = {
    "python": ("runPythonCodeInRemoteEnvironment", "pythonCode", "kept = 41", "print(kept + 1)"),
    "node": ("runJavaScriptCodeInRemoteEnvironment", "javaScriptCode", "let kept = 41", "console.log(kept + 1)"),
    "shell": (
        "runPythonCodeInRemoteEnvironment",
        "pythonCode",
        "open('kept', 'w').write('41')",
        "print(int(open('kept').read()) + 1)",
    ),
}


@pytest.mark.parametrize("runtime", [dialect.name for dialect in DIALECTS])
def test_a_pool_of_each_runtime_has_its_tools(runtimes: Server, runtime: str) -> None:
    pool, environment = runtimes.connection["pools"][runtime], fresh_identifier()
    run, argument, keep, show = RUNS[runtime]
    others = {tool for tool, *_ in RUNS.values()} - {run}

    with httpx.Client(headers={"x-ms-apikey": pool["mcp_key"]}, timeout=60, trust_env=False) as http:

        def ask(method: str, **params: Any) -> Any:
            reply = http.post(pool["mcp"], json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            return reply.raise_for_status().json()["result"]

        def call(name: str, **arguments: str) -> Any:
            return ask("tools/call", name=name, arguments={"environmentId": environment, **arguments})

        names = {tool["name"] for tool in ask("tools/list")["tools"]}
        assert {run, "launchShell", "runShellCommandInRemoteEnvironment"} <= names
        assert not names & others
        call(run, **{argument: keep})
        assert call(run, **{argument: show})["structuredContent"]["stdout"] == "42\n"
        command = call("runShellCommandInRemoteEnvironment", shellCommand="echo $((6 * 7)); exit 5")
        assert (command["structuredContent"]["stdout"], command["structuredContent"]["exitCode"]) == ("42\n", 5)
        for other in others:
            refused = call(other, pythonCode="1", javaScriptCode="1")
            assert refused["isError"]
            assert run in refused["content"][0]["text"]
        call("stopEnvironment")
