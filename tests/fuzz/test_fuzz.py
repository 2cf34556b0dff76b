"""schemathesis against a running server: what `/openapi.json` says is true, whatever is sent.

It lives in an environment of its own (clients/environments.py) and is told the server by variables that schemathesis.toml names.
A failure prints the call as a curl line and the seed to try again with. `make fuzz ARGS="--minutes 10"` goes on for longer.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from clients import environments
from conftest import Server, SlimServer

HERE = Path(__file__).parent
SEED = "20261122"

pytestmark = pytest.mark.thorough

POOLS = """
[pools.python]
scaleConfiguration = {maxConcurrentSessions = 10, readySessionInstances = 1}
carrel = {image = "python-slim", memory = "256MiB", disk = "64MiB", tmp = "16MiB"}
"""


def graph_token(connection: dict[str, Any]) -> str:
    form = {
        "grant_type": "client_credentials",
        "client_id": connection["client_id"],
        "client_secret": connection["client_secret"],
        "scope": "https://graph.microsoft.com/.default",
    }
    url = f"{connection['http']}/{connection['tenant']}/oauth2/v2.0/token"
    return str(httpx.post(url, data=form, trust_env=False).raise_for_status().json()["access_token"])


def run(server: Server, folder: Path, seconds: int) -> subprocess.CompletedProcess[str]:
    connection = server.connection
    program = environments.python_of(environments.FUZZ).with_name("st")
    told = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "FUZZ_TOKEN": connection["token"],
        "FUZZ_ARM_TOKEN": connection["arm_token"],
        "FUZZ_GRAPH_TOKEN": graph_token(connection),
        "FUZZ_SUBSCRIPTION": connection["subscription"],
        "FUZZ_GROUP": connection["resource_group"],
        "FUZZ_TENANT": connection["tenant"],
    }
    command = [str(program), "--config-file", str(HERE / "schemathesis.toml"), "--no-color", "run"]
    command += [f"{connection['http']}/openapi.json", "--seed", SEED, "--max-time", str(seconds)]
    return subprocess.run(
        command, env=told, cwd=folder, capture_output=True, text=True, timeout=seconds + 300, check=False
    )


def test_what_the_document_says_is_true(
    slim_server: SlimServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Valid and invalid calls of every operation: no 5xx, no status, type or body that is not documented, none without its token."""
    seconds = round(float(request.config.getoption("--minutes")) * 60)
    with slim_server(config=POOLS) as server:
        before = server.pids
        done = run(server, tmp_path, seconds)

        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
        assert "No issues found" in done.stdout
        assert server.pids == before, "something had to be restarted"
