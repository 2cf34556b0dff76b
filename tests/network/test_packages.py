"""Packages that sessions install: from the pool's index through its list, from its wheels without a network, within a quota."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.client import ApiError, Client
from carrel.models import Level
from conftest import Server, SlimServer

pytestmark = [pytest.mark.one_level, pytest.mark.slow]  # pip is in the large image only

POOLS = """
    egress-allow-private = ["127.0.0.1"]
    [pools.python]
    scaleConfiguration = {{maxConcurrentSessions = 5, readySessionInstances = 1}}
    [pools.python.carrel]
    memory = "640MiB"
    disk = "64MiB"
    packages = {{size = "32MiB", wheels = "{wheels}"}}
    [pools.indexed]
    scaleConfiguration = {{maxConcurrentSessions = 5, readySessionInstances = 0}}
    sessionNetworkConfiguration.status = "EgressEnabled"
    [pools.indexed.carrel]
    memory = "640MiB"
    disk = "64MiB"
    egress.allow = ["127.0.0.1:{port}"]
    packages.index = "http://127.0.0.1:{port}/simple"
"""


def wheel(folder: Path, name: str, files: dict[str, bytes], version: str = "1.0", says: str = "") -> Path:
    """A wheel as a build tool makes it, with a record."""
    info = f"{name}-{version}.dist-info"
    whole = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {says or name}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=") for path, data in whole.items()
    }
    lines = [f"{path},sha256={digests[path].decode()},{len(data)}" for path, data in whole.items()]
    whole[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in whole.items():
            archive.writestr(path, data)
    return target


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    entry = b"[console_scripts]\noffline-tool = offline:main\n"
    code = b"answer = 41\ndef main():\n    print('the tool ran')\n"
    wheel(folder, "offline", {"offline.py": code, "offline-1.0.dist-info/entry_points.txt": entry})
    wheel(folder, "enormous", {"enormous.bin": bytes(64 * 1024 * 1024)})
    for path in (folder, *folder.parents):
        if path.name.startswith(("pytest", "wheels")):
            path.chmod(0o755)  # an ordinary user's server reads it too
    return folder


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A package index of one package on the host's loopback; its port. A second package's files lie on another host."""
    folder = tmp_path_factory.mktemp("index")
    for name in ("indexed", "elsewhere"):
        (folder / "simple" / name).mkdir(parents=True)
    made = wheel(folder / "simple" / "indexed", "indexed", {"indexed.py": b"answer = 42\n"})
    (folder / "simple/indexed/index.html").write_text(f'<a href="{made.name}">{made.name}</a>')
    link = '<a href="http://files.example/elsewhere-1.0-py3-none-any.whl">elsewhere-1.0-py3-none-any.whl</a>'
    (folder / "simple/elsewhere/index.html").write_text(link)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_parts: Any) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture(scope="module")
def packaged(slim_server: SlimServer, wheels: Path, index: int) -> Iterator[Server]:
    with slim_server(config=POOLS.format(wheels=wheels, port=index)) as server:
        yield server


def value(client: Client, code: str) -> Any:
    answer = client.execute(code, timeout=120)
    assert answer.is_ok, answer.stdout + answer.stderr
    return answer.result


@pytest.mark.thorough
def test_a_wheel_of_the_pools_is_installed_without_a_network(packaged: Server) -> None:
    """Importable in the next line, its script found by the shell, and still there after a restart of the interpreter."""
    with packaged.client() as client:
        assert value(client, "import importlib.util\n%pip install -q offline\nimport offline\noffline.answer") == 41
        assert client.execute("!offline-tool").stdout == "the tool ran\n"
        assert value(client, "offline.__file__").startswith("/opt/carrel/packages/")
        assert not client.execute("import os, signal; os.kill(os.getpid(), signal.SIGKILL)").is_ok
        assert value(client, "import offline; offline.answer") == 41
        client.end()


def test_a_package_that_is_not_there_is_said_at_once(packaged: Server) -> None:
    """Without a network nothing looks for one: no search for a name server, no repeated tries."""
    with packaged.client() as client:
        answer = client.execute("!pip install nothing-of-this-name; echo status $?", timeout=60)
        assert "No matching distribution found for nothing-of-this-name" in answer.stdout + answer.stderr
        assert answer.duration_ms < 15_000
        client.end()


def test_packages_have_a_quota_of_their_own(packaged: Server) -> None:
    """What does not fit fails as a full disk does, and takes nothing from the session's files."""
    with packaged.client() as client:
        answer = client.execute("!pip install -q enormous; echo status $?", timeout=120)
        assert "No space left on device" in answer.stdout + answer.stderr
        assert value(client, "open('/mnt/data/file', 'wb').write(bytes(32 * 1024 * 1024))") == 32 * 1024 * 1024
        client.end()


def test_the_pools_wheels_cannot_be_changed(packaged: Server, wheels: Path) -> None:
    """Read-only, and a copy: what happens to the operator's folder afterwards is no matter."""
    with packaged.client() as client:
        names = sorted(path.name for path in wheels.iterdir())
        assert value(client, "import os; sorted(os.listdir('/opt/carrel/wheels'))") == names
        tried = (
            "try:\n    open('/opt/carrel/wheels/x', 'w')\nexcept OSError as error:\n    found = error.strerror\nfound"
        )
        assert value(client, tried) in ("Read-only file system", "Permission denied")
        assert value(client, "os.listdir('/opt/carrel/images')") == [], "other pools' are not to be seen"
        client.end()


def test_installs_from_the_pools_index_and_from_nowhere_else(packaged: Server) -> None:
    """pip goes through the proxy to the index that the list names; a file that the index says lies elsewhere is refused in words."""
    with Client.from_connection(packaged.state, pool="indexed", identifier="installing") as client:
        client.execute(
            "import os; del os.environ['NO_PROXY'], os.environ['no_proxy']"
        )  # the index is on the host's loopback
        assert value(client, "%pip install -q indexed\nimport indexed\nindexed.answer") == 42
        answer = client.execute("!pip install elsewhere; echo", timeout=120)
        assert "files.example:80 is refused: it is not on the pool's egress list" in answer.stdout + answer.stderr
        client.end()


@pytest.mark.thorough
def test_a_broken_wheel_is_the_operators_error(slim_server: SlimServer, tmp_path: Path, index: int) -> None:
    """Before anybody is served: the pool is not ready, and the reason names the file."""
    tmp_path.chmod(0o755)
    tmp_path.parent.chmod(0o755)
    whole = wheel(tmp_path, "liar", {"liar.py": b"x = 1"}, says="somebody-else")
    with (
        slim_server(config=POOLS.format(wheels=tmp_path, port=index)) as server,
        server.client() as client,
        pytest.raises(ApiError, match=r"liar-1.0.* says of itself that it is somebody-else 1.0"),
    ):
        client.execute("1")
    assert whole.exists()


@pytest.mark.thorough
def test_packages_install_at_level_process_too(slim_server: SlimServer, wheels: Path, index: int) -> None:
    """Into the session's own folder: the interpreter's copy that all servers share stays as it was."""
    config = POOLS.format(wheels=wheels, port=index).partition("[pools.indexed]")[0]
    with slim_server(level=Level.PROCESS, config=config) as server, server.client() as client:
        assert value(client, "%pip install -q offline\nimport offline\noffline.answer") == 41
        assert value(client, "offline.__file__").startswith(str(server.state))
        client.end()
