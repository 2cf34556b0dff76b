"""MCP in a pool of each runtime: its own tool for code, kept state where there is any, and shell commands in all of them."""

from __future__ import annotations

from typing import Any

import httpx

from conftest import Server, fresh_identifier
from dialects import Dialect

SHELL = "runShellCommandInRemoteEnvironment"
# Runtime → its tool for code, and what that calls the code.
RUNS = {
    "python": ("runPythonCodeInRemoteEnvironment", "pythonCode"),
    "node": ("runJavaScriptCodeInRemoteEnvironment", "javaScriptCode"),
    "shell": ("runPythonCodeInRemoteEnvironment", "pythonCode"),
}
OTHER = ("runCodeInRemoteEnvironment", "code")  # of a runtime that Carrel knows nothing of


def test_a_pool_of_each_runtime_has_its_tools(runtimes: Server, dialect: Dialect) -> None:
    """A model is offered the one tool that speaks its environment's language; another is refused with that one's name."""
    pool, environment = runtimes.connection["pools"][dialect.name], fresh_identifier()
    run, argument = RUNS.get(dialect.name, OTHER)
    others = {tool for tool, _ in RUNS.values()} - {run}

    with httpx.Client(headers={"x-ms-apikey": pool["mcp_key"]}, timeout=60, trust_env=False) as http:

        def ask(method: str, **params: Any) -> Any:
            reply = http.post(pool["mcp"], json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
            return reply.raise_for_status().json()["result"]

        def call(name: str, **arguments: str) -> Any:
            return ask("tools/call", name=name, arguments={"environmentId": environment, **arguments})

        names = {tool["name"] for tool in ask("tools/list")["tools"]}
        assert {run, "launchShell", SHELL} <= names
        assert not names & others
        keep, recall = dialect.filled(dialect.keep, number=42), dialect.recall
        if dialect.name == "shell":  # where Python programs keep nothing but files
            keep, recall = "open('kept', 'w').write('42')", "print(open('kept').read())"
        call(run, **{argument: keep})
        assert "42" in call(run, **{argument: recall})["structuredContent"]["stdout"]
        for other in others:
            refused = call(other, pythonCode="1", javaScriptCode="1")
            assert refused["isError"]
            assert run in refused["content"][0]["text"]
        if dialect.name in RUNS:
            command = call(SHELL, shellCommand="echo $((6 * 7)); exit 5")["structuredContent"]
            assert (command["stdout"], command["exitCode"]) == ("42\n", 5)
        call("stopEnvironment")
