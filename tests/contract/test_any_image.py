"""The contract of all runtimes, kept by an image that Carrel knows nothing of: what test_runtimes.py asks, of the Ruby in examples/images.

An image of yours is held to it in the same way: a dialect (tests/dialects.py), the folder, and this file's fixture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from test_runtimes import *  # type: ignore[import-not-found]  # noqa: F403 - the suite itself, collected here once more

from carrel.backends import debian, imagestore
from conftest import LEVELS, Server, SlimServer, fresh_identifier
from dialects import Dialect
from endpoint import Endpoint
from runtimes import MEMORY_MIB, PIDS, Session

pytestmark = pytest.mark.thorough

EXAMPLE = Path(__file__).parents[2] / "examples" / "images" / "ruby"

RUBY = Dialect(
    name="ruby",
    table='carrel.image = "ruby"',
    quote=lambda text: json.dumps(text, ensure_ascii=False),
    say="puts <text>",
    warn="warn <text>",
    keep="kept = <number>",
    recall="puts kept",
    fail="raise <text>",
    broken="if (",
    sleep="sleep <seconds>",
    spin="loop {}",
    stubborn='trap("INT", "IGNORE"); loop {}',
    leave="exit <status>",
    die="Process.kill(9, Process.pid); loop {}",
    write="File.write(<path>, <text>)",
    read="puts File.read(<path>)",
    flood='$stdout.write("x" * <count>); nil',
    hoard='hoard = []; loop { hoard << "x" * (1 << 20) }',
    breed='held = []; loop { held << Process.spawn("sleep", "60") }',
    linger='held = Process.spawn("sleep", "30"); nil',
    folder="puts Dir.pwd",
    variable="puts ENV[<name>].to_s",
    stdin="puts $stdin.read.bytesize",
    scribble=r'IO.for_fd(3, "w", autoclose: false).write("\xff" * 4096); nil',
    values=(
        ("6 * 7", 42),
        ("'grüße'", "grüße"),
        ("[1, {a: nil}, true]", [1, {"a": None}, True]),
        ("0.1 + 0.2", 0.1 + 0.2),
        ("0.0 / 0", "NaN"),
    ),
)
POOL = f"""
[pools.ruby]
scaleConfiguration = {{maxConcurrentSessions = 8, readySessionInstances = 1}}
carrel = {{image = "ruby", memory = "{MEMORY_MIB}MiB", disk = "32MiB", tmp = "16MiB", pids = {PIDS}}}
"""


@pytest.fixture(scope="module", params=LEVELS, ids=str)
def serving(
    request: pytest.FixtureRequest, slim_server: SlimServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if not debian.STATUS.is_file():
        pytest.skip("Debian's packages need Debian")
    images = tmp_path_factory.mktemp("images")
    for parent in (images, *images.parents[:2]):
        parent.chmod(0o755)
    imagestore.register(EXAMPLE, "ruby", images, print)
    with slim_server("--images", str(images), level=request.param, config=POOL) as server:
        yield server


@pytest.fixture
def session(serving: Server) -> Iterator[Session]:
    with httpx.Client(timeout=60.0, trust_env=False) as http:
        endpoint = Endpoint(serving, fresh_identifier(), http, "ruby")
        yield Session(endpoint, RUBY)
        endpoint.end()
