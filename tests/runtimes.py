"""One server per isolation level with a small pool of every runtime, and sessions in them.

Whatever uses `session` runs once for each dialect (dialects.py) at each level. At the default level that is part of `make check`; the
others are the same suite once more, and so are images that did not come with Carrel.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from carrel.models import Level
from conftest import LEVELS, Server, SlimServer, fresh_identifier
from dialects import DIALECTS, OWN, Dialect
from endpoint import Endpoint

MEMORY_MIB, PIDS = 256, 64
_POOL = """
[pools.{name}]
scaleConfiguration = {{maxConcurrentSessions = 8, readySessionInstances = 1}}
{table}
carrel.memory = "{memory}MiB"
carrel.disk = "32MiB"
carrel.tmp = "16MiB"
carrel.pids = {pids}
"""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dialect" in metafunc.fixturenames:
        places: list[tuple[str, Dialect]] = [(level, dialect) for level in LEVELS for dialect in DIALECTS]
        places += [(f"{Level.NAMESPACE}+own", dialect) for dialect in OWN]
        ids = [f"{level}-{dialect.name}" for level, dialect in places]
        metafunc.parametrize(("runtimes", "dialect"), places, indirect=["runtimes"], scope="session", ids=ids)


@pytest.fixture(scope="session")
def runtimes(request: pytest.FixtureRequest, slim_server: SlimServer) -> Iterator[Server]:
    level, _, is_own = str(request.param).partition("+")
    dialects = OWN if is_own else DIALECTS
    pools = [_POOL.format(name=each.name, table=each.table, memory=MEMORY_MIB, pids=PIDS) for each in dialects]
    options = ["--images", str(_built(request, dialects))] if is_own else []
    with slim_server(*options, config="".join(pools), level=Level(level)) as server:
        yield server


def _built(request: pytest.FixtureRequest, dialects: Sequence[Dialect]) -> Path:
    """A folder with these images, built by the command as their makers would."""
    made: Path = request.getfixturevalue("tmp_path_factory").mktemp("images")
    for parent in (made, *made.parents[:2]):
        parent.chmod(0o755)
    for dialect in dialects:
        command = [sys.executable, "-P", "-m", "carrel.cli", "image", "build", str(dialect.definition)]
        subprocess.run(command, env={**os.environ, "CARREL_IMAGES": str(made)}, check=True, capture_output=True)
    return made


@dataclass(frozen=True, slots=True)
class Session:
    """A session of one runtime's pool, spoken to in its dialect."""

    endpoint: Endpoint
    dialect: Dialect

    def do(self, what: str, /, *, timeout: int = 20, **words: object) -> dict[str, Any]:
        """Run what the dialect says for `what`, with `words` put in. The reply's `result`, with the status."""
        return self.run(self.dialect.filled(str(getattr(self.dialect, what)), **words), timeout=timeout)

    def run(self, code: str, *, timeout: int = 20, **fields: Any) -> dict[str, Any]:
        reply = self.endpoint.run(code, timeoutInSeconds=timeout, **fields)
        return {"status": reply["status"], **reply["result"]}

    def printed(self, what: str, /, **words: object) -> str:
        """What it prints, where it succeeds."""
        told = self.run(self.dialect.filled(str(getattr(self.dialect, what)), **words))
        assert told["status"] == "Succeeded", told
        return str(told["stdout"]).removesuffix("\n")

    @property
    def level(self) -> Level:
        return self.endpoint.server.level


@pytest.fixture
def session(runtimes: Server, dialect: Dialect) -> Iterator[Session]:
    with httpx.Client(timeout=60.0, trust_env=False) as http:
        endpoint = Endpoint(runtimes, fresh_identifier(), http, dialect.name)
        yield Session(endpoint, dialect)
        endpoint.end()
