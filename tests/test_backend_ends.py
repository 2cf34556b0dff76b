"""Ends and restarts of backends where something is missing: nothing is left open, nothing is served on less isolation than was promised."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from carrel.backends import watcher
from carrel.backends.cellblock import CellBlock
from carrel.backends.restricted import RestrictedBackend
from carrel.backends.spawning import Launched, Setup, launch
from carrel.backends.templates import Rotation, Template, Templates
from carrel.errors import SandboxStartFailed
from carrel.guest import landlock
from carrel.models import PoolSpec
from interpreter_fixture import IMAGES

pytestmark = pytest.mark.slow

_POOL = PoolSpec("p", image="python-slim")
_WITHOUT_GROUPS = """
import asyncio, signal, sys
from pathlib import Path
from carrel.backends.namespace import NamespaceBackend
from carrel.backends.spawning import Setup, launch
from carrel.errors import SandboxStartFailed
from carrel.guest import linux
from carrel.models import PoolSpec

started = []
async def start():
    started.append(await launch(Setup(Path(sys.argv[1]), Path(sys.argv[2]))))
    return started[-1]

async def main():
    backend, pool = NamespaceBackend(start), PoolSpec("p", image="python-slim")
    await backend.start()
    print(backend.weaknesses)
    linux.mount("tmpfs", "/sys/fs/cgroup", "tmpfs")
    signal.pidfd_send_signal(started[-1].pidfd, signal.SIGKILL)
    await asyncio.sleep(1)
    for _ in range(2):
        try:
            await backend.prepare(pool)
        except SandboxStartFailed as error:
            print(error.message)
    linux.umount("/sys/fs/cgroup")
    await (await backend.create(pool)).kill()
    print(backend.weaknesses)
    await backend.close()

asyncio.run(main())
"""


@pytest.mark.thorough
@pytest.mark.skipif(os.geteuid() != 0, reason="hides the control groups by a mount")
def test_a_cell_block_that_comes_back_weaker_does_not_serve(tmp_path: Path) -> None:
    """Its spawner died, and another finds no control groups: what was said at the start would not hold. Once they are back, it does."""
    command = ["unshare", "--mount", sys.executable, "-c", _WITHOUT_GROUPS, str(tmp_path), str(IMAGES)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if "no control groups" in done.stdout.partition("\n")[0]:
        pytest.skip("no control groups here")

    assert done.returncode == 0, done.stderr
    said = (
        "The cell block came back with less isolation than it had at the server's start: there are no control groups."
    )
    assert done.stdout.splitlines() == ["[]", said, said, "[]"]


def test_a_template_that_cannot_be_started_leaves_no_descriptor_open(tmp_path: Path) -> None:
    """It is tried again for as long as the server runs."""

    async def count() -> tuple[int, int]:
        block = CellBlock(partial(launch, Setup(tmp_path, IMAGES)), print, print, Rotation())
        counts = []
        for _ in range(2):
            with pytest.raises(SandboxStartFailed):
                await block.prepare("python-slim")
            counts.append(len(os.listdir("/proc/self/fd")))  # noqa: PTH208
        return counts[0], counts[1]

    before, after = asyncio.run(count())

    assert after == before


def test_who_waits_for_a_template_is_told_of_its_end() -> None:
    """The cell block is ended while it starts. That cancels the start, and must not look to the waiting caller as if he were cancelled."""

    async def run() -> None:
        is_starting = asyncio.Event()

        async def start(_key: str) -> Template:
            is_starting.set()
            await asyncio.sleep(600)
            raise AssertionError

        templates = Templates(Rotation(), start)

        async def use() -> None:
            async with templates.hold("python"):
                pass

        waiting = asyncio.create_task(use())
        await is_starting.wait()
        await templates.close()
        with pytest.raises(SandboxStartFailed, match="ended while it started"):
            await waiting

    asyncio.run(run())


@pytest.mark.thorough
@pytest.mark.skipif(landlock.version() == 0, reason="no Landlock here")
def test_a_restricted_sandbox_ends_where_the_spawner_can_make_no_child(tmp_path: Path) -> None:
    """Its warden hangs, and who could clear up has no descriptor left: its number is not used again, and the level goes on and closes."""
    started: list[Launched] = []

    async def start() -> Launched:
        started.append(await launch(Setup(tmp_path, IMAGES)))
        return started[-1]

    async def run() -> None:
        backend = RestrictedBackend(start)
        await backend.start()
        try:
            sandbox = await backend.create(_POOL)
            warden, spawner = watcher.pid_of(sandbox._warden or -1), watcher.pid_of(started[0].pidfd)
            assert warden is not None
            assert spawner is not None
            os.kill(warden, signal.SIGSTOP)
            limits = resource.prlimit(spawner, resource.RLIMIT_NOFILE)
            resource.prlimit(spawner, resource.RLIMIT_NOFILE, (3, limits[1]))
            await sandbox.kill()
            resource.prlimit(spawner, resource.RLIMIT_NOFILE, limits)
            await (await backend.create(_POOL)).kill()
        finally:
            begin = time.monotonic()
            await backend.close()
        assert time.monotonic() - begin < 10

    asyncio.run(run())
