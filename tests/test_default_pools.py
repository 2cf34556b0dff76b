"""What is served where no file says so: a pool for each container type, none waiting for another."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from carrel.cli import launch
from carrel.client import ApiError, Client
from conftest import SlimServer
from processes import eventually

HELLO = {"python": "print(6 * 7)", "node": "console.log(6 * 7)", "shell": "echo $((6 * 7))"}


@pytest.mark.slow
def test_every_container_type_has_a_pool_without_a_word_of_configuration(tmp_path: Path) -> None:
    with launch.server(tmp_path, ["--log-level", "warning"]):
        for pool, code in HELLO.items():
            with Client.from_connection(tmp_path, pool=pool, identifier="the-first") as client:
                assert eventually(partial(_is_said, client, code), 600), pool


def _is_said(client: Client, code: str) -> bool:
    """Not as long as the image is being built."""
    with contextlib.suppress(ApiError):
        return client.execute(code).stdout == "42\n"
    return False


@pytest.mark.thorough
def test_a_pool_without_an_image_says_so_and_the_others_serve(slim_server: SlimServer) -> None:
    """Whichever comes first in the file."""
    config = '[pools.broken]\ncarrel.image = "nothing"\n[pools.python]\ncarrel.image = "python-slim"\n'
    with slim_server(config=config) as server:
        with server.client() as client:
            assert client.execute("6 * 7").result == 42
        with (
            Client.from_connection(server.state, pool="broken", identifier="the-first") as client,
            pytest.raises(ApiError, match="nothing") as caught,
        ):
            client.execute("6 * 7")
        assert caught.value.status >= 500


@pytest.mark.thorough
@pytest.mark.slow
def test_exec_has_a_server_of_its_own_for_any_of_them(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "carrel.cli", "exec", "--pool", "shell", "--state", str(tmp_path), "--shell"]
    done = subprocess.run([*command, "echo on; exit 3"], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (3, "on\n"), done.stderr
