"""A server with everything at its edge that an operator can bring along: certificates of another CA."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.certificates import Authority, make_authority, server_names
from conftest import Server, SlimServer


def issued(authority: Authority, name: str = "localhost", now: float | None = None) -> bytes:
    """A server's key and certificate, and the root's."""
    return authority.issue(server_names([name]), time.time() if now is None else now)


@pytest.fixture(scope="session")
def operators_root() -> Authority:
    return Authority.load(make_authority())


@pytest.fixture(scope="session")
def operators_file(tmp_path_factory: pytest.TempPathFactory, operators_root: Authority) -> Path:
    file = tmp_path_factory.mktemp("operator") / "server.pem"
    file.write_bytes(issued(operators_root))
    return file


@pytest.fixture(scope="session")
def edge_server(slim_server: SlimServer, operators_file: Path) -> Iterator[Server]:
    with slim_server("--tls-cert", str(operators_file)) as server:
        yield server
