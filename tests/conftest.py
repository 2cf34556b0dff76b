"""Fixtures that start real servers, and the check that a run leaves nothing behind.

`server` is one `carrel serve` for the whole run at each isolation level; `client` and `async_client` are connected to it with a fresh
identifier per test. `slim_server` starts further ones, of the small image, for tests that break them.
"""

from __future__ import annotations

import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from carrel.backends.examination import Finding, examine
from carrel.cli import launch
from carrel.client import ApiError, AsyncClient, Client, Connection
from carrel.config import load
from carrel.models import Level
from coprocess import Coprocess
from dialects import DIALECTS, PYTHON
from items import Stronghold, parameter
from leftovers import Before, become_subreaper
from processes import eventually

pytest_plugins = (
    "azures",
    "browser",
    "oidc",
    "edged",
    "endpoint",
    "evidence",
    "fortress",
    "listed",
    "managed",
    "management",
    "postgresql",
    "runtimes",
    "scripted",
    "small_pool",
    "traced",
    "world",
)  # further fixtures

AT_PROCESS = (
    "test_executing.py",
    "test_files.py",
    "test_lifecycle.py",
)  # what `make check` tries at the level without a boundary
LEVELS = [Level.GVISOR, Level.NAMESPACE, Level.RESTRICTED, Level.PROCESS]  # strongest first
WITH_PACKAGES = f"{Level.GVISOR}+packages"
ONE = "[pools.python]\nscaleConfiguration = {maxConcurrentSessions = 100}\n"  # what one test leaves idle is in no other's way
SMALL = f'{ONE}carrel = {{image = "python-slim"}}\n'
BEFORE = pytest.StashKey[Before]()
TEMPORARY = pytest.StashKey[tempfile.TemporaryDirectory[str]]()

SLIM = """
[pools.python]
scaleConfiguration = {maxConcurrentSessions = 100, readySessionInstances = 1}
carrel = {image = "python-slim", memory = "256MiB", disk = "64MiB", tmp = "16MiB"}
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. Its connection file is read anew each time, as it changes when a gateway is replaced.

    `pool` is what tests call; in one of another runtime than Python, clients run their Python all the same (coprocess.py).
    """

    state: Path
    level: Level
    process: subprocess.Popen[bytes]
    pool: str = "python"

    @property
    def connection(self) -> dict[str, Any]:
        return Connection.read(self.state).fields

    @property
    def pids(self) -> dict[str, int]:
        """Of `supervisor`, `gateway` and `host`."""
        return dict(self.connection["pids"])

    @property
    def endpoint(self) -> str:
        return self.endpoint_of(self.pool)

    def endpoint_of(self, pool: str) -> str:
        return str(self.connection["pools"][pool]["endpoint"])

    def client(self, identifier: str | None = None) -> Client:
        kind = Client if self.pool == "python" else Coprocess
        return kind.from_connection(self.state, pool=self.pool, identifier=identifier or fresh_identifier())


SlimServer = Callable[..., AbstractContextManager[Server]]


def fresh_identifier() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


# ---- the run -----------------------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--user", metavar="NAME", help="as root: run the servers under test as this user")
    parser.addoption("--minutes", metavar="N", type=float, default=1.5, help="how long tests/fuzz goes on")


def pytest_configure(config: pytest.Config) -> None:
    """Give the run a temporary folder of its own, so that what is left in it is this run's."""
    become_subreaper()
    folder = tempfile.TemporaryDirectory(prefix="carrel-run-")
    Path(folder.name).chmod(0o1777)  # as /tmp is: servers under test may run as another user
    config.stash[TEMPORARY] = folder
    os.environ["TMPDIR"] = tempfile.tempdir = folder.name
    config.stash[BEFORE] = Before()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Whatever uses `server` runs at every level; `clients`, which are slow and about the API, and `one_level` at the default one only."""
    if "server" in metafunc.fixturenames:
        marks = {mark.name for mark in metafunc.definition.iter_markers()}
        levels: list[str] = [Level.NAMESPACE] if marks & {"clients", "one_level"} else [*LEVELS]
        if Level.GVISOR in levels and "packages" in marks:
            levels[levels.index(Level.GVISOR)] = WITH_PACKAGES
        if "every_pool" in marks:
            levels += [f"{level}+{dialect.name}" for dialect in DIALECTS[1:] for level in levels]
        metafunc.parametrize("server", levels, indirect=True, scope="session", ids=str)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if {"server", "slim_server"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("server")
        if (
            parameter(item, "runtimes") not in (None, Level.NAMESPACE)
            or parameter(item, "dialect") is PYTHON  # whose own suites ask more
            or "+" in str(parameter(item, "server"))
            or (parameter(item, "server") == Level.PROCESS and item.path.name not in AT_PROCESS)
            or "landlock" in str(parameter(item, "situation"))
        ):
            item.add_marker("thorough")
        if {parameter(item, "server"), parameter(item, "fortress")} & {Level.GVISOR, WITH_PACKAGES, Level.RESTRICTED}:
            item.add_marker("thorough")  # the same suite once more
        if isinstance(place := parameter(item, "fortress"), Stronghold) and not (
            place.level is Level.NAMESPACE and item.path.name == "test_escape_classics.py"
        ):
            item.add_marker("thorough")


def pytest_unconfigure(config: pytest.Config) -> None:
    if TEMPORARY in config.stash:
        config.stash[TEMPORARY].cleanup()


@pytest.fixture(scope="session", autouse=True)
def leaves_nothing_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the run where it left something behind. First of the session's fixtures, so its end comes after the servers'."""
    yield
    if left := request.config.stash[BEFORE].left():
        pytest.fail("\n".join(["left behind:", *left]), pytrace=False)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


# ---- servers -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """One server of the `python` image per isolation level, for the whole run. Its built image is kept between runs.

    At level gvisor, where each session imports its image anew, it is the small one, but for tests marked `packages`. For those marked
    `every_pool` there are servers of the other runtimes' pools too.
    """
    word, _, what = str(request.param).partition("+")
    level, user = Level(word), request.config.getoption("--user")
    dialect = next((each for each in DIALECTS if each.name == what), None)
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        small = SMALL if request.param == Level.GVISOR else ONE
        file.write(f"[pools.{dialect.name}]\n{dialect.table}\n" if dialect else small)
        file.flush()
        Path(file.name).chmod(0o644)
        with _start(level, user, ["--config", file.name]) as running:
            yield replace(running, pool=dialect.name) if dialect else running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """Connected to `server`, with an identifier no other test has; the session is ended afterwards."""
    with server.client() as connected:
        yield connected
        with contextlib.suppress(ApiError, httpx.HTTPError):
            connected.end()


@pytest.fixture
async def async_client(server: Server) -> AsyncIterator[AsyncClient]:
    """The same for asyncio."""
    async with AsyncClient.from_connection(server.state, identifier=fresh_identifier()) as connected:
        yield connected
        with contextlib.suppress(ApiError, httpx.HTTPError):
            await connected.end()


@pytest.fixture(scope="session")
def slim_server(request: pytest.FixtureRequest) -> SlimServer:
    """Start a server of the small image, for tests that kill or fill it: `with slim_server(level=…, config="…TOML…", state=…) as server`.

    Positional arguments go to `carrel serve`. `log` is a descriptor that its log goes to.
    """

    @contextlib.contextmanager
    def start(
        *arguments: str,
        level: Level = Level.NAMESPACE,
        config: str = SLIM,
        state: Path | None = None,
        pool: str = "python",
        log: int | None = None,
    ) -> Iterator[Server]:
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(config)
            file.flush()
            Path(file.name).chmod(0o644)
            options = ["--config", file.name, *arguments]
            with _start(level, request.config.getoption("--user"), options, state, log) as running:
                yield replace(running, pool=pool)

    return start


@contextlib.contextmanager
def _start(
    level: Level, user: str | None, arguments: Sequence[str] = (), state: Path | None = None, log: int | None = None
) -> Iterator[Server]:
    skip_unless_offered(level)
    with tempfile.TemporaryDirectory(prefix="carrel-state-") as own:
        folder = state or Path(own)
        account = _account(user, folder) if user else None
        options = ["--isolation", level, "--log-level", "warning", *arguments]
        with launch.server(folder, options, account=account, stderr=log) as process:
            server = Server(folder, level, process)
            _wait_for_images(server)
            yield server


def _wait_for_images(server: Server) -> None:
    """Until every pool has its image, or a reason why it has none: a server serves when the first one has, and a first run builds them."""
    for pool in (name for name, fields in server.connection["pools"].items() if fields):

        def is_settled(pool: str = pool) -> bool:
            headers = {"Authorization": f"Bearer {server.connection['token']}"}
            query = {"api-version": "2025-10-02-preview"}
            reply = httpx.get(f"{server.endpoint_of(pool)}/metadata", params=query, headers=headers, trust_env=False)
            if (
                reply.status_code == 404
            ):  # a pool whose deletion the end of an earlier server interrupted is gone meanwhile
                return True
            told = reply.json()["carrel"]
            return bool(told["image"] or told["error"])

        assert eventually(is_settled, 600), f"pool {pool} has no image after ten minutes"


@functools.cache
def _findings() -> list[Finding]:
    """What this machine offers; found out once, as it takes a while."""
    return examine(load({}, {}))


def skip_unless_offered(level: Level) -> None:
    for finding in _findings():
        if finding.level == level and not finding.works:
            pytest.skip(f"this machine does not offer isolation level {level}: {finding.reason}")


def _account(user: str, folder: Path) -> launch.Account:
    """The ordinary user that servers run as. Skips where it could not even start our interpreter."""
    entry = pwd.getpwnam(user)
    shutil.chown(folder, entry.pw_uid, entry.pw_gid)
    account = launch.Account(entry.pw_uid, entry.pw_gid, entry.pw_dir)
    command = [sys.executable, "-P", "-m", "carrel.cli", "--version"]
    try:
        subprocess.run(
            command, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], check=True, stdout=subprocess.DEVNULL
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"user {user} cannot run {sys.executable}: {error}")
    return account
