"""A server whose log and whose traces are kept, one for all tests that read them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from carrel.client import ApiError
from collector import Collector, collecting
from conftest import SLIM, Server, SlimServer, fresh_identifier

KEY = "kollektor-schluessel"
VERSION = "2025-10-02-preview"


@dataclass(frozen=True, slots=True)
class Traced:
    server: Server
    log: Path
    collector: Collector
    used: list[str] = field(default_factory=list)  # identifiers

    def lines(self, trace: str = "") -> list[dict[str, Any]]:
        """Of the log, in the order in which they came; those of a trace."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if not trace or line.get("trace") == trace]

    def execute(self, code: str = "1 + 1", identifier: str = "", **headers: str) -> httpx.Response:
        return self.post("executions", {"code": code}, identifier, **headers)

    def post(self, route: str, body: dict[str, Any], identifier: str = "", **headers: str) -> httpx.Response:
        self.used.append(identifier or fresh_identifier())
        query = {"api-version": VERSION, "identifier": self.used[-1]}
        sent = {"Authorization": f"Bearer {self.server.connection['token']}", **headers}
        url = f"{self.server.endpoint}/{route}"
        return httpx.post(url, params=query, json=body, headers=sent, trust_env=False, timeout=60)


@pytest.fixture(scope="session")
def traced_server(slim_server: SlimServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    """Only calls whose callers ask for it are recorded."""
    folder = tmp_path_factory.mktemp("traced")
    folder.chmod(0o755)
    (folder / "headers").write_text(f"# of the collector\nAuthorization: Bearer {KEY}\n\nX-Tenant: one\n")
    (folder / "headers").chmod(0o644)
    options = ["--log-level", "info", "--log-format", "json", "--access-log", "--trace-sample", "0"]
    with (folder / "log").open("wb") as log, collecting() as collector:
        options += ["--otlp-endpoint", collector.url, "--otlp-headers", str(folder / "headers")]
        with slim_server(*options, config=SLIM, log=log.fileno()) as running:
            yield Traced(running, folder / "log", collector)


@pytest.fixture
def traced(traced_server: Traced) -> Iterator[Traced]:
    """The same; what sessions a test has begun are ended after it."""
    used: list[str] = []
    yield replace(traced_server, used=used)
    for identifier in used:
        with traced_server.server.client(identifier) as client, contextlib.suppress(ApiError):
            client.end()
