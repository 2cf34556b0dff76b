"""A server whose control plane is what matters: no sessions ready, and a folder of extensions. One for all tests that share it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from conftest import Server, SlimServer
from wheels import make_wheel

NO_SESSIONS = '[pools.python]\nscaleConfiguration = {readySessionInstances = 0}\ncarrel = {image = "python-slim"}\n'


@pytest.fixture(scope="session")
def extension_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions of one extension, one of them a preview, and what is none."""
    folder = tmp_path_factory.mktemp("extensions")
    make_wheel(folder, "1.0.0")
    make_wheel(folder, "1.1.0b1", more={"azext.isPreview": True})
    (folder / "broken-1.0.0-py3-none-any.whl").write_bytes(b"no wheel")
    (folder / "README.txt").write_text("none of its business")
    folder.chmod(0o755)
    return folder


@pytest.fixture(scope="session")
def managed_server(slim_server: SlimServer, extension_folder: Path) -> Iterator[Server]:
    with slim_server("--extensions", str(extension_folder), config=NO_SESSIONS) as running:
        yield running


@pytest.fixture(scope="session")
def arm_pools(managed_server: Server) -> Iterator[httpx.Client]:
    """The session pools of the control plane, in the group that is there from the beginning."""
    connection = managed_server.connection
    group = f"/subscriptions/{connection['subscription']}/resourceGroups/{connection['resource_group']}"
    with httpx.Client(
        base_url=f"{connection['http']}{group}/providers/Microsoft.App/sessionPools/",
        headers={"Authorization": f"Bearer {connection['arm_token']}"},
        trust_env=False,
        timeout=30,
    ) as http:
        yield http
