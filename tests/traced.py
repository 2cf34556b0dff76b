"""A server whose log is kept, one for all tests that read it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import SLIM, Server, SlimServer


@dataclass(frozen=True, slots=True)
class Traced:
    server: Server
    log: Path

    def lines(self, trace: str = "") -> list[dict[str, Any]]:
        """Of the log, in the order in which they came; those of a trace."""
        found = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if not trace or line.get("trace") == trace]


@pytest.fixture(scope="session")
def traced(slim_server: SlimServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traced]:
    file = tmp_path_factory.mktemp("traced") / "log"
    options = ["--log-level", "info", "--log-format", "json", "--access-log"]
    with file.open("wb") as log, slim_server(*options, config=SLIM, log=log.fileno()) as running:
        yield Traced(running, file)
