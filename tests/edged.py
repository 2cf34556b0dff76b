"""A server with everything at its edge that an operator can bring along: certificates of another CA, an issuer of tokens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.certificates import Authority, make_authority, server_names
from conftest import SLIM, Server, SlimServer
from oidc import AUDIENCE, LocalIssuer, serving

MAPPED = "5a5a5a5a-0000-4000-8000-00000000aaaa"  # the principal that the issuer's role Sessions.Execute stands for
ISSUER = """
[issuers.local]
issuer = "{issuer}"
audiences = {{"{audience}" = "data", "api://carrel-arm" = "arm"}}
refetch = 1
roles = {{"Sessions.Execute" = "{mapped}"}}
"""


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
def edge_issuer() -> Iterator[LocalIssuer]:
    with serving() as made:
        yield made


@pytest.fixture(scope="session")
def edge_server(slim_server: SlimServer, operators_file: Path, edge_issuer: LocalIssuer) -> Iterator[Server]:
    table = ISSUER.format(issuer=edge_issuer.issuer, audience=AUDIENCE, mapped=MAPPED)
    with slim_server("--tls-cert", str(operators_file), config=SLIM + table) as server:
        yield server
