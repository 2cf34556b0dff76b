"""`carrel mcp`: the same MCP over stdio, with a server that ends when it does."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import SLIM, Server, SlimServer, fresh_identifier
from processes import alive, descendants

GUIDE = Path(__file__).parent.parent / "docs/guides/mcp.md"
PROGRAM = [sys.executable, "-P", "-m", "carrel.cli", "mcp"]
PYTHON = "runPythonCodeInRemoteEnvironment"
HELLO = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Desktop:
    """A desktop agent: it starts the program, writes lines and reads lines."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._number = 0

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.endswith(b"\n"), f"it ended: {line!r}"
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    def send(self, method: str, params: Any = None) -> int:
        self._number += 1
        message = {"jsonrpc": "2.0", "id": self._number, "method": method} | ({"params": params} if params else {})
        self.write(json.dumps(message).encode())
        return self._number

    def ask(self, method: str, params: Any = None) -> dict[str, Any]:
        """The answer; what was notified before it is under "told"."""
        number, told = self.send(method, params), []
        while (message := self.read()).get("id") != number:
            told.append(message)
        return message | {"told": told}

    def begin(self) -> dict[str, Any]:
        answer = self.ask("initialize", HELLO)
        self.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
        result: dict[str, Any] = answer["result"]
        return result

    def run(self, environment: str, code: str, meta: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = self.ask("tools/call", running(environment, code, meta))["result"]["structuredContent"]
        return result

    def close(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(20)


def running(environment: str, code: str, meta: dict[str, Any] | None = None) -> dict[str, Any]:
    params: dict[str, Any] = {"name": PYTHON, "arguments": {"environmentId": environment, "pythonCode": code}}
    return params | ({"_meta": meta} if meta else {})


@contextmanager
def desktop(*arguments: str, **environment: str) -> Iterator[Desktop]:
    process = subprocess.Popen(
        [*PROGRAM, *arguments], env={**os.environ, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Desktop(process)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def agent(server: Server) -> Iterator[Desktop]:
    """Connected to the server that runs."""
    with desktop("--state", str(server.state)) as started:
        yield started
        assert started.close() == 0


@pytest.fixture
def slim(tmp_path: Path) -> Path:
    file = tmp_path / "slim.toml"
    file.write_text(SLIM)
    return file


def private_folders() -> list[Path]:
    return list(Path(tempfile.gettempdir()).glob("carrel-private-*"))


def eventually_gone(pids: list[int], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(alive(pid) for pid in pids)


# ---- in front of a server that runs -------------------------------------------------------------------------------------------------


@pytest.mark.one_level
def test_lines_of_the_protocol_and_nothing_else(agent: Desktop) -> None:
    """What is no message is answered as JSON-RPC has it, and the next one as if nothing had been."""
    hello = agent.begin()
    assert hello["protocolVersion"] == "2025-06-18"
    for line, code in ((b"nonsense", -32700), (b"\xff\xfe", -32700), (b"[]", -32600), (b"5", -32600)):
        agent.write(line)
        assert agent.read()["error"]["code"] == code
    agent.write(b"")
    agent.write(b'{"jsonrpc":"2.0","method":"notifications/made-up"}')

    assert agent.ask("ping")["result"] == {}
    assert agent.ask("made/up")["error"]["code"] == -32601
    assert PYTHON in [tool["name"] for tool in agent.ask("tools/list")["result"]["tools"]]


@pytest.mark.one_level
@pytest.mark.parametrize("meta", [{}, MODERN], ids=["handshake", "2026-07-28"])
def test_code_runs_and_tells_how_it_goes(agent: Desktop, meta: dict[str, Any]) -> None:
    """In both generations of the protocol, line separators and large results included."""
    if not meta:
        agent.begin()
    environment = fresh_identifier()
    code = "import time; print('at work'); time.sleep(1.3); print('\\u2028' * 3); 'x' * 300_000"
    answer = agent.ask("tools/call", running(environment, code, {**meta, "progressToken": 7}))
    agent.ask("tools/call", {"name": "stopEnvironment", "arguments": {"environmentId": environment}, "_meta": meta})
    assert "result" in answer, answer
    ran = answer["result"]["structuredContent"]

    assert (ran["stdout"], len(ran["executionResult"])) == ("at work\n\u2028\u2028\u2028\n", 300_000)
    assert [each["params"]["message"] for each in answer["told"]] == ["at work"]


@pytest.mark.one_level
@pytest.mark.parametrize("meta", [{}, MODERN], ids=["handshake", "2026-07-28"])
def test_a_request_can_be_cancelled(agent: Desktop, meta: dict[str, Any]) -> None:
    if not meta:
        agent.begin()
    environment = fresh_identifier()
    agent.run(environment, "1", meta)
    number = agent.send("tools/call", running(environment, "import time; time.sleep(60)", meta))
    time.sleep(0.5)
    cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
    agent.write(json.dumps(cancelled).encode())
    began = time.monotonic()

    assert agent.run(environment, "6 * 7", meta)["executionResult"] == 42
    assert time.monotonic() - began < 20


@pytest.mark.one_level
def test_a_wrong_key_is_told_in_words(server: Server) -> None:
    with desktop("--endpoint", server.endpoint, CARREL_MCP_KEY="wrong") as agent:
        answer = agent.ask("initialize", HELLO)

        assert "Unauthorized" in answer["error"]["message"]
        assert agent.close() == 0


def test_a_key_is_needed_with_an_address() -> None:
    done = subprocess.run([*PROGRAM, "--endpoint", "http://127.0.0.1:9"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert "--key" in done.stderr


def test_a_server_that_is_not_there_is_told_of() -> None:
    with desktop("--endpoint", "http://127.0.0.1:9", "--key", "k" * 16) as agent:
        assert "does not answer" in agent.ask("initialize", HELLO)["error"]["message"]
        assert agent.close() == 0


def test_an_unknown_pool_is_refused_in_words() -> None:
    done = subprocess.run([*PROGRAM, "--pool", "cobol"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert "python, node, shell" in done.stderr


# ---- with a server of its own ----------------------------------------------------------------------------------------------------------


def test_the_line_in_the_guide_is_all_it_takes() -> None:
    """What a desktop's configuration says: a server of its own that ends with stdin and leaves nothing behind."""
    block = re.search(r"```json\n(\{\s*\"mcpServers\".*?)```", GUIDE.read_text(), re.DOTALL)
    assert block
    entry = json.loads(block[1])["mcpServers"]["carrel"]
    assert entry["command"].endswith("/.venv/bin/carrel")
    assert entry["args"][0] == "mcp"

    with desktop(*entry["args"][1:]) as agent:
        agent.begin()
        started = descendants(agent.process.pid)
        assert agent.run("my-first-environment", "6 * 7")["executionResult"] == 42
        assert len(private_folders()) == 1
        assert agent.close() == 0

    assert started
    assert eventually_gone(started, 1)
    assert private_folders() == []


@pytest.mark.thorough
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_of_its_own_ends_however_its_agent_does(slim: Path, number: signal.Signals) -> None:
    """Killed, it leaves an empty-handed folder, which the next one removes."""
    with desktop("--config", str(slim)) as agent:
        agent.begin()
        agent.run("environment", "open('a', 'w').write('b')")
        has_numpy = "import importlib.util; importlib.util.find_spec('numpy') is not None"
        assert agent.run("environment", has_numpy)["executionResult"] is False, "another pool than the configured one"
        started = descendants(agent.process.pid)
        agent.process.send_signal(number)
        agent.process.wait(20)

        assert started
        assert eventually_gone(started)
    left = private_folders()
    assert len(left) == (1 if number == signal.SIGKILL else 0)
    for folder in left:
        assert not (folder / "connection.json").exists()
        os.utime(folder, (0, 0))
        with desktop("--config", str(slim), "--pool", "nothere") as agent:
            assert agent.process.wait(60) == 1
    assert private_folders() == []


@pytest.mark.thorough
def test_a_gateway_may_be_replaced_meanwhile(slim_server: SlimServer) -> None:
    """The desktop's session of MCP is begun anew behind its back, and its environment is as it was."""
    with slim_server() as server, desktop("--state", str(server.state)) as agent:
        agent.begin()
        agent.run("environment", "kept = 'yes'")
        gateway = server.pids["gateway"]
        os.kill(gateway, signal.SIGKILL)
        assert eventually_gone([gateway])

        assert agent.run("environment", "kept")["executionResult"] == "yes"
        assert agent.ask("ping")["result"] == {}
        assert agent.close() == 0
