"""One server per isolation level with a small pool of every runtime, and sessions in them.

Whatever uses `session` runs once for each dialect (dialects.py) at each level. At the default level that is part of `make check`; the
others are the same suite once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from carrel.models import Level
from conftest import LEVELS, Server, SlimServer, fresh_identifier
from dialects import DIALECTS, Dialect
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
    if "runtimes" in metafunc.fixturenames:
        metafunc.parametrize("runtimes", LEVELS, indirect=True, scope="session", ids=str)
    if "dialect" in metafunc.fixturenames:
        metafunc.parametrize("dialect", DIALECTS, scope="session", ids=lambda dialect: dialect.name)


@pytest.fixture(scope="session")
def runtimes(request: pytest.FixtureRequest, slim_server: SlimServer) -> Iterator[Server]:
    pools = [_POOL.format(name=each.name, table=each.table, memory=MEMORY_MIB, pids=PIDS) for each in DIALECTS]
    with slim_server(config="".join(pools), level=Level(request.param)) as server:
        yield server


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
