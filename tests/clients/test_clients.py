"""The unmodified client packages against a running server: LangChain, deepagents, LlamaIndex, Semantic Kernel, AutoGen, MCP's,
and Azure's own for tokens and for managing pools; and agent frameworks with the adapters of examples/.

Each package lives in an environment of its own (environments.py) and runs its `scenario.py` there once; every `check_…` function of a
scenario becomes a test here. The packages are told nothing about Carrel but the address, the token and the certificate that
`connection.json` holds.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pytest

from clients import environments
from clients.environments import Client
from conftest import SlimServer

pytestmark = pytest.mark.clients

ROOT = environments.HERE.parents[1]
SHELL = """
[pools.python]
scaleConfiguration = {readySessionInstances = 0}
carrel = {image = "python-slim"}
[pools.shell]
containerType = "Shell"
"""

# Seconds. A scenario takes about ten; the packages themselves mostly wait for ever.
SCENARIO_TIMEOUT = 180


class Server(Protocol):
    """A running server, as conftest's fixture gives it."""

    @property
    def connection(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Report:
    """How a scenario went: each check's outcome by name, and all that it said, for where a check is missing from it."""

    checks: dict[str, dict[str, Any]]
    exit_status: int
    errors: str


def checks_of(client: Client) -> list[str]:
    """The checks of a scenario, in its order; read from its text, since it imports what only its own environment has."""
    tree = ast.parse(client.scenario.read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [name for name in functions if name.startswith("check_")]


def client_environment(connection: dict[str, Any], home: Path) -> dict[str, str]:
    """All that a scenario knows of the world: nothing of ours, of the caller's Azure settings or proxies is handed down."""
    pools = connection["pools"]
    pool = pools["python"]
    endpoint = pool["endpoint"]
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(environments.HERE / "kit"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "CARREL_ENDPOINT": endpoint,
        "CARREL_SHELL_ENDPOINT": (pools.get("shell") or pools["python"])["endpoint"],
        "CARREL_HTTPS_ENDPOINT": connection["https"] + urlsplit(endpoint).path,
        "CARREL_TOKEN": connection["token"],
        "CARREL_STATE": str(Path(connection["ca"]).parent),
        "CARREL_PROGRAM": str(Path(sys.executable).with_name("carrel")),
        "CARREL_MCP": pool["mcp"],
        "CARREL_MCP_KEY": pool["mcp_key"],
        "IDENTITY_ENDPOINT": connection["identity_endpoint"],
        "IDENTITY_HEADER": connection["identity_header"],
        "SSL_CERT_FILE": connection["ca_bundle"],
        "REQUESTS_CA_BUNDLE": connection["ca_bundle"],
        "CARREL_ARM": connection["arm"] or "",
        "CARREL_ARM_TOKEN": connection["arm_token"] or "",
        "CARREL_SUBSCRIPTION": connection["subscription"],
        "CARREL_GROUP": connection["resource_group"],
        "CARREL_LOCATION": connection["location"],
        "CARREL_AUTHORITY": connection["authority"] or "",
        "CARREL_TENANT": connection["tenant"],
        "CARREL_CLIENT_ID": connection["client_id"],
        "CARREL_CLIENT_SECRET": connection["client_secret"] or "",
        "CARREL_OBJECT_ID": connection["object_id"],
    }


def run_scenario(client: Client, connection: dict[str, Any], home: Path) -> Report:
    python = environments.python_of(client)
    done = subprocess.run(
        [str(python), str(client.scenario)],
        env=client_environment(connection, home),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=SCENARIO_TIMEOUT,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"check"')]
    return Report({line["check"]: line for line in lines}, done.returncode, done.stderr)


def live_sessions(pools: list[httpx.Client]) -> set[tuple[int, str]]:
    """Every live session, by the place of its pool and its identifier; `nextLink` is followed."""
    identifiers: set[tuple[int, str]] = set()
    for place, pool in enumerate(pools):
        url: str | None = "listSessions?api-version=2025-10-02-preview"
        while url:
            reply = pool.get(url).raise_for_status().json()
            identifiers |= {(place, session["identifier"]) for session in reply["sessions"]}
            url = reply.get("nextLink")
    return identifiers


@pytest.fixture
def pools(server: Server) -> Iterator[list[httpx.Client]]:
    headers = {"Authorization": f"Bearer {server.connection['token']}"}
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(httpx.Client(base_url=pool["endpoint"], headers=headers, timeout=30))
            for pool in server.connection["pools"].values()
            if pool is not None
        ]


@pytest.fixture(scope="session")
def reports() -> dict[str, Report]:
    """Of the scenarios run so far."""
    return {}


@pytest.fixture
def report_of(
    server: Server, slim_server: SlimServer, pools: list[httpx.Client], reports: dict[str, Report], tmp_path: Path
) -> Callable[[Client], Report]:
    """Runs a client's scenario when first asked for it, then ends the sessions it left, which other tests want the room of."""

    def report(client: Client) -> Report:
        if client.name not in reports:
            if client.needs_shell and server.connection["pools"].get("shell") is None:
                with slim_server(config=SHELL) as other:
                    reports[client.name] = run_scenario(client, other.connection, tmp_path)
                return reports[client.name]
            before = live_sessions(pools)
            reports[client.name] = run_scenario(client, server.connection, tmp_path)
            for place, identifier in live_sessions(pools) - before:
                query = {"identifier": identifier, "api-version": "2025-10-02-preview"}
                pools[place].delete("session", params=query)
        return reports[client.name]

    return report


def marks_of(client: Client) -> list[pytest.MarkDecorator]:
    """What CI has no time for: environments more, whose adapters change less often than the client below them, which it does try."""
    return [pytest.mark.thorough] if client.is_example else []


def each_client() -> list[Any]:
    return [pytest.param(each, id=each.name, marks=marks_of(each)) for each in environments.CLIENTS]


def each_check() -> list[Any]:
    return [
        pytest.param(client, check, id=f"{client.name}-{check.removeprefix('check_')}", marks=marks_of(client))
        for client in environments.CLIENTS
        for check in checks_of(client)
    ]


@pytest.mark.parametrize(("client", "check"), each_check())
def test_client(client: Client, check: str, report_of: Callable[[Client], Report]) -> None:
    """What a client package does for its users works unmodified; the check's own docstring in scenario.py says what it proves."""
    report = report_of(client)

    assert check in report.checks, f"the scenario ended before this check:\n{report.errors}"
    assert report.checks[check]["ok"], report.checks[check]["detail"]


@pytest.mark.parametrize("client", each_client())
def test_scenario_ends_well(client: Client, report_of: Callable[[Client], Report]) -> None:
    """A scenario ran every one of its checks and ended with status 0, so that none was lost on the way."""
    report = report_of(client)

    assert list(report.checks) == checks_of(client)
    assert report.exit_status == 0, report.errors


@pytest.mark.parametrize("client", environments.CLIENTS, ids=lambda client: client.name)
def test_lock_names_no_place(client: Client) -> None:
    """The locks pin every package by hash and hold no registry, URL or path: they install from whatever index a machine has."""
    for lock in (client.lock, client.build_lock):
        text = lock.read_text() if lock.exists() else ""
        requirements = text.replace("\\\n", " ").splitlines()
        pinned = [line for line in requirements if line and not line.lstrip().startswith("#")]
        assert all("==" in line and "--hash=sha256:" in line for line in pinned)
        assert not any(mark in text for mark in ("://", "--index", "--find-links", " @ ", "file:"))


EXAMPLES = [each for each in environments.CLIENTS if each.is_example]


@pytest.mark.thorough
@pytest.mark.parametrize("client", EXAMPLES, ids=lambda client: client.name)
def test_adapters_are_typed(client: Client, tmp_path: Path) -> None:
    """They and their README's program, by the types of the framework itself, in its own environment; smolagents has none."""
    folder = ROOT / "examples" / client.name
    blocks = re.findall(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "program.py").write_text("\n".join(blocks))
    files = [str(each) for each in (*folder.glob("*.py"), tmp_path / "program.py")]
    options = ["--strict", "--follow-imports=silent", "--allow-subclassing-any", "--disable-error-code=import-untyped"]
    options += ["--cache-dir", str(environments.CACHE / "mypy" / client.name)]
    options += ["--python-executable", str(environments.python_of(client))]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        env={**os.environ, "MYPYPATH": f"{ROOT / 'src'}:{folder}"},
        cwd=tmp_path,  # where no configuration is
        capture_output=True,
        text=True,
        check=False,
    )

    assert blocks
    assert done.returncode == 0, done.stdout + done.stderr
