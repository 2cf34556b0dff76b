"""Images that users make, through the front door: built by `carrel image`, named by a pool, served at every level, moved to while it runs.

The two examples are what is built: a shell without anything of its own, and a language that Carrel knows nothing of.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from carrel.backends import debian
from carrel.client import ApiError, Client
from carrel.models import Level
from conftest import LEVELS, Server, SlimServer, fresh_identifier

pytestmark = pytest.mark.thorough  # two images are built first, and test_any_image has a guest of nobody's in check

EXAMPLES = Path(__file__).parent.parent / "examples" / "images"
_SIZES = 'memory = "256MiB", disk = "64MiB", tmp = "16MiB"'
_ONE = "scaleConfiguration = {maxConcurrentSessions = 10, readySessionInstances = 1}"
POOLS = f"""
[pools.ruby]
{_ONE}
carrel = {{image = "ruby", {_SIZES}}}

[pools.bash]
containerType = "Shell"
{_ONE}
carrel = {{image = "bash-only", {_SIZES}}}

[pools.moving]
{_ONE}
carrel = {{image = "bash-only", {_SIZES}}}
"""


def carrel(*arguments: str | Path, images: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | ({"CARREL_IMAGES": str(images)} if images else {})
    command = [sys.executable, "-P", "-m", "carrel.cli", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=check)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not debian.STATUS.is_file():
        pytest.skip("Debian's packages need Debian")
    folder = tmp_path_factory.mktemp("images")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    for name in ("ruby", "bash-only"):
        carrel("image", "build", EXAMPLES / name, images=folder)
    return folder


def _marked(level: Level) -> object:
    """Once in `make check`; the same again at every other level."""
    return pytest.param(level, marks=[] if level is Level.NAMESPACE else [pytest.mark.thorough], id=str(level))


@pytest.fixture(scope="module", params=[_marked(level) for level in LEVELS])
def serving(request: pytest.FixtureRequest, slim_server: SlimServer, images: Path) -> Iterator[Server]:
    with slim_server("--images", str(images), level=request.param, config=POOLS) as server:
        yield server


@dataclass
class Pools:
    server: Server

    def client(self, pool: str, identifier: str | None = None) -> Client:
        return Client.from_connection(self.server.state, pool=pool, identifier=identifier or fresh_identifier())


@pytest.fixture
def pools(serving: Server) -> Pools:
    return Pools(serving)


@pytest.fixture
def ruby(pools: Pools) -> Iterator[Client]:
    with pools.client("ruby") as client:
        yield client
        client.end()


# ---- a language of one's own -------------------------------------------------------------------------------------------------------


def test_a_new_runtime_keeps_its_state(ruby: Client) -> None:
    """A guest file and a folder are all it takes: variables, methods and files live from call to call."""
    ruby.execute("x = 40; def twice(n) = n * 2")

    assert ruby.execute("twice(x) / 2 + 2").result == 42
    assert ruby.execute("File.write('f', 'kept'); File.read('f')").result == "kept"


def test_its_values_go_by_the_same_rules(ruby: Client) -> None:
    """Scalars and containers as JSON, anything else as the language's own text, nothing as nothing."""
    assert ruby.execute("[1, 'zwei', {a: nil}]").result == [1, "zwei", {"a": None}]
    assert ruby.execute("nil").result == ""
    assert ruby.execute("1..3").result == "1..3"
    assert ruby.execute("0.0/0").result == "NaN"


def test_its_streams_are_whole_and_in_order(ruby: Client) -> None:
    result = ruby.execute("5.times { |n| puts n }; warn 'ä'; print 'end'")

    assert (result.stdout, result.stderr) == ("0\n1\n2\n3\n4\nend", "ä\n")


def test_its_errors_are_results(ruby: Client) -> None:
    """With the language's own trace, and the state kept."""
    ruby.execute("kept = 1")
    result = ruby.execute("def f = raise(ArgumentError, 'no')\nf")

    assert (result.status, result.outcome) == ("Failed", "error")
    assert result.stderr.startswith("ArgumentError: no\n\tfrom cell:1")
    assert ruby.execute("(").status == "Failed"
    assert ruby.execute("kept").result == 1


def test_its_endless_loops_are_interrupted_with_the_state_kept(ruby: Client) -> None:
    ruby.execute("kept = 1")
    result = ruby.execute("loop {}", timeout=1)

    assert result.outcome == "timeout"
    assert ruby.execute("kept").result == 1


def test_its_exit_ends_the_interpreter_and_not_the_session(ruby: Client) -> None:
    ruby.execute("x = 1; File.write('f', 'kept')")
    result = ruby.execute("exit 3")

    assert result.outcome == "exited"
    assert ruby.execute("[defined?(x), File.read('f')]").result == [None, "kept"]


def test_its_sessions_take_commands_too(ruby: Client) -> None:
    result = ruby.shell("cat; exit 3", stdin="in")

    assert (result.stdout, result.exit_code) == ("in", 3)


def test_its_variables_go_in_and_out(ruby: Client) -> None:
    result = ruby.execute("b = a.map { |n| n + 1 }", variables={"a": [1, 2]}, return_variables=["b", "nothing"])

    assert result.variables == {"b": [2, 3]}


# ---- metadata ----------------------------------------------------------------------------------------------------------------------


def test_metadata_is_what_a_session_finds(pools: Pools, ruby: Client) -> None:
    """Names and versions of the image in use, whatever the container type says; and no kernel that is not there."""
    found = ruby.metadata()
    with pools.client("bash") as client:
        shell = client.metadata()

    assert found.runtimes[0] == ("ruby", ruby.execute("RUBY_VERSION").result)
    assert "libruby3.1" in dict(found.packages)
    assert found.image is not None
    assert found.image.startswith("ruby@")
    assert shell.runtimes[0][0] == "bash"
    assert shell.packages == []


def test_a_shell_without_anything_of_its_own_works(pools: Pools) -> None:
    with pools.client("bash") as client:
        assert client.shell("echo $((40 + 2)) | tee f && cat f").stdout == "42\n42\n"
        client.end()


# ---- moving a running pool ---------------------------------------------------------------------------------------------------------


def _move(server: Server, image: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return carrel("sessionpool", "update", "moving", "--image", image, "--state", server.state, check=check)


def test_a_pool_moves_and_live_sessions_stay(pools: Pools) -> None:
    """New sessions get the new image when the command has returned; a live one keeps its own, through a restart of its interpreter too."""
    _move(pools.server, "bash-only")
    with pools.client("moving") as old, pools.client("moving") as new:
        old.execute("export KEPT=1")
        _move(pools.server, "ruby")

        assert new.execute("RUBY_VERSION[0]").result == "3"
        assert old.execute("echo $KEPT").stdout == "1\n"
        old.execute("kill -9 $PPID")  # the commander: another one is made
        assert old.execute("echo ${BASH_VERSION:0:1}").stdout == "5\n"
        assert (
            new.metadata().image
            == json.loads(carrel("image", "show", "ruby", "-o", "json", images=_images(pools)).stdout)["reference"]
        )
        old.end()
        new.end()


def _images(pools: Pools) -> Path:
    options = Path(f"/proc/{pools.server.process.pid}/cmdline").read_text().split("\0")
    return Path(options[options.index("--images") + 1])


@pytest.mark.parametrize("image", ["no-such-image", "../../etc", "ruby@000000000000", "broken", "dying"])
def test_an_image_that_cannot_be_used_leaves_the_pool_as_it_was(pools: Pools, image: str) -> None:
    """Unknown, hostile, gone, or with a guest that does not start: told so, and nothing has changed."""
    _move(pools.server, "ruby")
    if image in ("broken", "dying"):
        folder = _images(pools) / "definitions" / image
        (folder / "guest").mkdir(parents=True, exist_ok=True)
        (folder / "image.toml").write_text(f'runtime = "x"\nguest = ["guest/{image}"]\n')
        (folder / "guest" / "dying").write_text("#!/bin/sh\necho last words of dying >&2; exit 1\n")
        (folder / "guest" / "dying").chmod(0o755)
    done = _move(pools.server, image, check=False)

    assert done.returncode == 1
    assert "The pool keeps its image" in done.stderr
    assert image in done.stderr
    with pools.client("moving") as client:
        assert client.execute("RUBY_VERSION[0]").result == "3"
        client.end()


def test_pools_are_moved_by_operators_alone(pools: Pools) -> None:
    with pools.client("moving") as client, pytest.raises(ApiError) as caught:
        client.set_image("ruby")

    assert caught.value.status == 403


@pytest.mark.thorough
def test_moves_at_the_same_time_leave_one_whole_image(pools: Pools) -> None:
    """Whichever comes last; sessions that are asked for meanwhile work."""
    images = ["ruby", "bash-only"] * 3
    results: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda name=name: results.append(_move(pools.server, name, check=False)))
        for name in images
    ]
    for thread in threads:
        thread.start()
    with pools.client("moving") as client:
        assert client.shell("echo works").stdout == "works\n"
        client.end()
    for thread in threads:
        thread.join()

    assert [done.returncode for done in results] == [0] * len(images)
    with pools.client("moving") as client:
        runtime = (client.metadata().image or "").partition("@")[0]
        assert client.execute("echo 1" if runtime == "bash-only" else "puts 1").stdout == "1\n"
        client.end()


# ---- the images' folder ------------------------------------------------------------------------------------------------------------


def test_what_a_running_server_uses_is_not_removed(pools: Pools) -> None:
    images = _images(pools)
    done = carrel("image", "remove", "ruby", images=images, check=False)

    assert (done.returncode, "a running server uses ruby@" in done.stderr) == (1, True)
    listed = json.loads(carrel("image", "list", "-o", "json", "--state", pools.server.state, images=images).stdout)
    assert {"ruby"} <= {pool for each in listed if each["name"] == "ruby" for pool in each["pools"]}
    assert {each["status"] for each in listed if each["name"] == "ruby"} == {"in use"}
    carrel("image", "prune", images=images)
    with pools.client("ruby") as client:
        assert client.execute("1 + 1").result == 2
        client.end()
