"""Debian's programs in a Shell session, at every level: from the image, with their own libraries, in confinement."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from carrel.backends import debian
from carrel.client import Client
from carrel.models import Level
from conftest import LEVELS, Server, SlimServer, fresh_identifier

POOL = """
[pools.shell]
containerType = "Shell"
scaleConfiguration = {maxConcurrentSessions = 5, readySessionInstances = 1}
carrel = {memory = "512MiB", disk = "64MiB", tmp = "16MiB"}
"""

# Each prints `ok`, and nothing on stderr.
COMMANDS = {
    "git": "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m ok && git log --format=%s",
    "git clone": "git init -q a && cd a && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m ok && "
    "git clone -q . ../c && git -C ../c log --format=%s",
    "curl": "echo ok > f && curl -s file://$PWD/f",
    "jq": """echo '{"a": ["ok"]}' | jq -r '.a[0]'""",
    "awk": "echo no ok | awk '{print $2}'",
    "zip": "echo ok > g && zip -q z g && rm g && unzip -q z && cat g",
    "tar": "echo ok > h && tar czf t.tgz h && rm h && tar xzf t.tgz && cat h && tar cJf t.txz h && tar cjf t.tbz h",
    "find": "mkdir -p d && touch d/ok && find d -name 'o*' -printf '%f\\n'",
    "file": "echo ok > k && file -b k | grep -q ASCII && cat k",
    "sed": "echo no | sed 's/no/ok/'",
    "python3": """python3 -c 'import json, ssl; print("ok")'""",
    "node": """node -e 'console.log("ok")'""",
    "npm": "npm --version | grep -qE '^[0-9]+' && echo ok",
    "perl": "perl -e 'print qq(ok\\n)'",  # the host's
    "bash": "[[ $(command -v bash) == */image*/* || $(command -v bash) == */shell-*/* ]] && echo ok",
}


def _marked(level: Level) -> object:
    """Once in `make check`; the same again at every other level."""
    return pytest.param(level, marks=[] if level is Level.NAMESPACE else [pytest.mark.thorough], id=str(level))


@pytest.fixture(scope="module", params=[_marked(level) for level in LEVELS])
def serving(request: pytest.FixtureRequest, slim_server: SlimServer) -> Iterator[Server]:
    if not debian.STATUS.is_file():
        pytest.skip("Debian's packages need Debian")
    with slim_server(level=request.param, config=POOL) as server:
        yield server


@pytest.fixture(scope="module")
def shell(serving: Server) -> Iterator[Client]:
    with Client.from_connection(serving.state, pool="shell", identifier=fresh_identifier()) as client:
        yield client
        client.end()


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_program_of_the_image_works(shell: Client, command: str) -> None:
    result = shell.shell(command)

    assert (result.stdout, result.stderr, result.exit_code) == ("ok\n", "", 0)


def test_metadata_of_a_shell_is_true(shell: Client) -> None:
    """What the reply says is what the programs say of themselves in the session."""
    found = shell.metadata()
    packages = dict(found.packages)
    said = shell.shell("echo ${BASH_VERSION%%(*}; node --version; git --version; jq --version").stdout.split()

    assert found.runtimes[0] == ("bash", said[0])
    assert dict(found.runtimes)["node"] == said[1].removeprefix("v")
    assert said[4] in packages["git"]
    assert said[5].removeprefix("jq-") in packages["jq"]
