"""The cell block as the host sees it: the spawner that starts it, init, and the templates, each a process behind a socket.

Everything here can die and be started again: a template on its own, or all of it when the spawner or init is gone (its sandboxes
are gone with it then).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from carrel.backends import guestlib, ids, images, policy
from carrel.backends.cgroups import Group
from carrel.backends.fdsocket import FdSocket, Message
from carrel.errors import SandboxStartFailed
from carrel.guest.threads import SINGLE_THREADED
from carrel.models import PoolSpec

Progress = Callable[[str], None]
OnExit = Callable[[Message], None]

_TEMPLATE_START_S = 120  # a cold import of the heavy image on a slow disk
_START_S = 20
_LOG = logging.getLogger(__name__)


class Template:
    """A process that makes agents (`bare`) or an image's interpreters. `mounts` is its mount namespace."""

    def __init__(self, control: FdSocket, mounts: int, errors: int) -> None:
        self.control, self.mounts, self._errors = control, mounts, errors
        asyncio.get_running_loop().add_reader(errors, self._log_errors)

    @property
    def is_alive(self) -> bool:
        return not self.control.closed.is_set()

    def _log_errors(self) -> None:
        lines = _read_lines(self._errors)
        for line in lines or ():
            _LOG.warning("template: %s", line)
        if lines is None:
            asyncio.get_running_loop().remove_reader(self._errors)

    def close(self) -> None:
        self.control.close()
        asyncio.get_running_loop().remove_reader(self._errors)
        os.close(self._errors)
        os.close(self.mounts)


class CellBlock:
    """`on_exit` is called with what a template says of an interpreter that ended."""

    def __init__(self, state: Path, image_folder: Path, progress: Progress, on_exit: OnExit) -> None:
        self._state, self._image_folder, self._progress, self._on_exit = state, image_folder, progress, on_exit
        self._spawner: FdSocket | None = None
        self._init: FdSocket | None = None
        self._templates: dict[str, Template] = {}
        self._starts: dict[str, asyncio.Task[Template]] = {}
        self.cgroup_version: int | None = None

    @property
    def is_alive(self) -> bool:
        return all(part is not None and not part.closed.is_set() for part in (self._spawner, self._init))

    async def start(self) -> None:
        """Spawner, then init in its namespaces. Raises SandboxStartFailed."""
        await self._start_spawner()
        python = await asyncio.to_thread(images.ensure_python, self._image_folder, self._progress)
        library = await asyncio.to_thread(guestlib.ensure, self._image_folder)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._init = FdSocket(ours, "the cell block")
        paths = {
            python: "/opt/carrel/python",
            library: "/opt/carrel/lib",
            self._image_folder: "/opt/carrel/images",
        }
        carrel = {str(source): target for source, target in paths.items()}
        with theirs:
            request = {"op": "block", "first_id": ids.sessions(self._state).start, "carrel": carrel}
            await self._ask_spawner(request, [theirs.fileno()])
        await self._init.first(_START_S)

    async def _start_spawner(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = (sys.executable, "-m", "carrel.host.spawner", str(theirs.fileno()))
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *arguments, pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL
            )
        self._spawner = FdSocket(ours, "the spawner")
        hello, _descriptors = await self._spawner.first(_START_S)
        self.cgroup_version = hello["cgroups"]

    async def _ask_spawner(self, request: Message, descriptors: list[int] | None = None) -> tuple[Message, list[int]]:
        if self._spawner is None:
            raise SandboxStartFailed("The cell block is not running.")
        return await self._spawner.call(request, descriptors)

    async def bare(self) -> Template:
        """The template that makes agents, started where there is none."""
        return await self._template("", lambda: self._start_template("bare", {}))

    async def image(self, name: str) -> Template:
        """The template of an image, started where there is none; the image is built where it is missing."""
        return await self._template(name, lambda: self._start_image(name))

    async def _template(self, key: str, start: Callable[[], Coroutine[Any, Any, Template]]) -> Template:
        if (found := self._templates.get(key)) is not None and found.is_alive:
            return found
        if key not in self._starts:
            self._starts[key] = asyncio.create_task(self._replace(key, start))
        # Whoever asked may give up; the start goes on for the next one, since a cold import outlasts a caller's patience.
        return await asyncio.shield(self._starts[key])

    async def _replace(self, key: str, start: Callable[[], Coroutine[Any, Any, Template]]) -> Template:
        try:
            fresh = await start()
            if (old := self._templates.pop(key, None)) is not None:
                old.close()
            self._templates[key] = fresh
            return fresh
        finally:
            del self._starts[key]

    async def _start_image(self, name: str) -> Template:
        image = await asyncio.to_thread(images.ensure, name, self._image_folder, self._progress)
        request = {"image": image.root.name, "preload": list(image.preload), "writable": policy.TEMPLATE_WRITABLE}
        return await self._start_template("image", request, {**image.environment, **SINGLE_THREADED})

    async def _start_template(self, kind: str, request: Message, environment: dict[str, str] | None = None) -> Template:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors_in, errors_out = os.pipe()
        control = FdSocket(ours, f"the {kind} template", self._on_exit)
        whole = {"kind": kind, "preload": [], "environment": {**policy.ENVIRONMENT, **(environment or {})}, **request}
        try:
            with theirs:
                if self._init is None:
                    raise SandboxStartFailed("The cell block is not running.")
                self._init.send(whole, [theirs.fileno(), errors_out])
            os.close(errors_out)
            _ready, (mounts,) = await control.first(_TEMPLATE_START_S)
        except SandboxStartFailed as error:
            said = _read_lines(errors_in) or []
            os.close(errors_in)
            control.close()
            raise SandboxStartFailed(f"{error.message}: {' | '.join(said[-4:]) or 'it said nothing'}") from error
        except BaseException:  # cancelled: without its socket the process ends
            os.close(errors_in)
            control.close()
            raise
        return Template(control, mounts, errors_in)

    async def make_group(self, name: str, pool: PoolSpec) -> tuple[Group | None, list[int], list[int]]:
        """Control groups for a sandbox, and the open `cgroup.procs` for its agent and for its code."""
        if self.cgroup_version is None:
            return None, [], []
        limits = {"memory_bytes": pool.memory_bytes, "pids": pool.pids, "cpu": pool.cpu}
        answer, opened = await self._ask_spawner({"op": "group", "name": name, "limits": limits})
        group = Group((), (), (), Path(answer["memory"]), answer["version"])
        return group, opened[: answer["agent"]], opened[answer["agent"] :]

    async def remove_group(self, name: str) -> None:
        """Nothing where there is none."""
        if self.cgroup_version is None:
            return
        with contextlib.suppress(SandboxStartFailed):  # a spawner that is gone: the next start sweeps
            await self._ask_spawner({"op": "ungroup", "name": name})

    async def kill(self, pidfd: int) -> None:
        """SIGKILL for a process of a sandbox: ids that differ from the host's are the spawner's to signal."""
        with contextlib.suppress(SandboxStartFailed):  # a spawner that is gone: the kernel has killed all sandboxes
            await self._ask_spawner({"op": "kill"}, [pidfd])

    async def close(self) -> None:
        """End all of it: without its sockets every process here leaves, and the kernel kills what is in sandboxes."""
        starts = list(self._starts.values())
        for start in starts:
            start.cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        for template in self._templates.values():
            template.close()
        self._templates = {}
        for part in (self._init, self._spawner):
            if part is not None:
                part.close()
        if self._spawner is not None:
            await self._process.wait()
            self._spawner = None


def _read_lines(fd: int) -> list[str] | None:
    """What is in a pipe now, by lines; None at its end."""
    os.set_blocking(fd, False)
    try:
        data = os.read(fd, 65_536)
    except BlockingIOError:
        return []
    return [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()] if data else None
