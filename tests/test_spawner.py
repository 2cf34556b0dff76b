"""The spawner as the host talks to it: what it refuses, and that it goes on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.backends.spawning import Setup
from interpreter_fixture import IMAGES
from processes import alive


class Asker:
    """The host's end of a spawner."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.settimeout(20)
        self.hello = json.loads(end.recv(65_536))

    def ask(self, op: str, *descriptors: int, **fields: Any) -> dict[str, Any]:
        socket.send_fds(self._end, [json.dumps({"op": op, "id": 7, **fields}).encode()], list(descriptors))
        answer: dict[str, Any] = json.loads(self._end.recv(65_536))
        assert answer.pop("id") == 7
        return answer


@pytest.fixture
def spawner(tmp_path: Path) -> Iterator[Asker]:
    with started(tmp_path, tmp_path / "images") as asker:
        yield asker


@contextlib.contextmanager
def started(state: Path, images: Path, *prefix: str) -> Iterator[Asker]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        words = [*prefix, sys.executable, "-P", "-m", "carrel.host.spawner", str(theirs.fileno())]
        words.append(Setup(state, images).to_json())
        process = subprocess.Popen(words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    with ours:
        yield Asker(ours)
    assert process.wait(10) == 0, "it ends with its host, in order"


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's spawner has no more rights than its host")
def test_it_kills_nothing_but_what_runs_in_sandboxes(spawner: Asker) -> None:
    """A descriptor can be had of any process: that one was sent is no right to have it killed."""
    with subprocess.Popen(["sleep", "600"]) as bystander:
        pidfd = os.pidfd_open(bystander.pid)
        try:
            assert "not a process of a sandbox" in spawner.ask("kill", pidfd)["error"]
            assert alive(bystander.pid)
            bystander.kill()
            bystander.wait()
            assert "error" not in spawner.ask("kill", pidfd), "one that has ended is as good as killed"
        finally:
            os.close(pidfd)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="takes capabilities away from root")
def test_a_cell_block_without_the_right_to_map_ids_says_so(tmp_path: Path) -> None:
    """As root of a container with CAP_SYS_ADMIN and without CAP_SETUID. Nothing is left of it: asked again, it is tried again."""
    with started(tmp_path, IMAGES, "setpriv", "--bounding-set=-setuid,-setgid", "--") as asker:
        init, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with init, other:
            errors = [asker.ask("block", other.fileno())["error"] for _ in range(2)]
    assert "CAP_SETUID" in errors[0]
    assert errors[1] == errors[0]


@pytest.mark.parametrize("name", ["../escaped", "{folder}/escaped", "a/b", "..", ""])
def test_a_control_group_has_a_name_and_no_path(spawner: Asker, tmp_path: Path, name: str) -> None:
    """As root the spawner would make folders wherever the host likes, and groups outside of the server's own limits."""
    if spawner.hello["cgroups"] is None:
        pytest.skip("no control groups here")
    limits = {"memory_bytes": 1 << 30, "pids": 10, "cpu": 1}

    assert "not understood" in spawner.ask("group", name=name.format(folder=tmp_path), limits=limits)["error"]
    assert not (tmp_path / "escaped").exists()


def test_of_a_control_group_that_cannot_be_made_nothing_is_left(spawner: Asker) -> None:
    if spawner.hello["cgroups"] is None:
        pytest.skip("no control groups here")

    name = f"half-{os.getpid()}"
    answer = spawner.ask("group", name=name, limits={"memory_bytes": 1 << 30, "pids": 1 << 40, "cpu": 1})

    assert "Invalid argument" in answer["error"]
    assert [folder for folder, _names, _files in os.walk("/sys/fs/cgroup") if folder.endswith(f"/{name}")] == []


def test_a_request_that_it_does_not_understand_is_answered(spawner: Asker) -> None:
    assert "not understood" in spawner.ask("nonsense")["error"]
    assert "not understood" in spawner.ask("group", limits={})["error"] or spawner.hello["cgroups"] is None
    assert "error" not in spawner.ask("ungroup", name="nothing")
