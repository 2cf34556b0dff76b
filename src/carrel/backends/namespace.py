"""Level `namespace`: Linux namespaces, an id of its own, seccomp, control groups; one heavy fork per sandbox.

The host's half of it. The spawner (`host/spawner.py`) starts the cell block and makes control groups; templates
inside the cell block fork agents and interpreters at this module's word. Several sandboxes are made at a time: while
the image's template forks for one, the bare template makes the next one's agent. Works as root and as an ordinary
user; what differs is said by `weaknesses`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from carrel.backends import guestlib, images, policy, watcher
from carrel.backends.base import Death, Usage
from carrel.backends.cgroups import Group
from carrel.backends.fdsocket import FdSocket
from carrel.errors import SandboxStartFailed
from carrel.guest.threads import SINGLE_THREADED
from carrel.models import Level, PoolSpec

_TEMPLATE_START_S = 120  # a cold import of the heavy image on a slow disk
_CREATE_S = 20
_DEATH_S = 1.0

_LOG = logging.getLogger(__name__)

Progress = Callable[[str], None]


class _Template:
    """A template in the cell block, as the host sees it."""

    def __init__(self, control: FdSocket, mounts: int, errors: int) -> None:
        self.control, self.mounts, self._errors = control, mounts, errors
        self.sandboxes: dict[int, NamespaceSandbox] = {}
        asyncio.get_running_loop().add_reader(errors, self._log_errors)

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


class NamespaceBackend:
    level = Level.NAMESPACE

    def __init__(self, state: Path, image_folder: Path, progress: Progress = lambda _line: None) -> None:
        self._state, self._image_folder, self._progress = state, image_folder, progress
        self._spawner: FdSocket | None = None
        self._init: FdSocket | None = None
        self._bare: _Template | None = None
        self._templates: dict[str, _Template] = {}
        self._preparing = asyncio.Lock()
        self._live: set[NamespaceSandbox] = set()
        self._free_uids = list(range(policy.ID_RANGE - 5000, 0, -1)) if os.geteuid() == 0 else []
        self._count = 0
        self.cgroup_version: int | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def weaknesses(self) -> list[str]:
        """What the boundary lacks on this machine, in words for an operator."""
        found = []
        if os.geteuid() != 0:
            found.append("sessions share the server's host uid: run as root for one uid per session")
        if self.cgroup_version is None:
            found.append(
                "no control groups: memory is bounded per process and by a watcher, cpu is not shared out; delegate cgroups to lift this"
            )
        return found

    async def start(self) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a sandbox takes some fifteen descriptors
        await self._start_spawner()
        python = await asyncio.to_thread(images.ensure_python, self._image_folder, self._progress)
        library = await asyncio.to_thread(guestlib.ensure, self._image_folder)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._init = FdSocket(ours, "the cell block")
        request = {
            "op": "block",
            "first_id": _first_id(self._state),
            "carrel": {
                str(python.root): "/opt/carrel/python",
                str(library): "/opt/carrel/lib",
                str(self._image_folder): "/opt/carrel/images",
            },
        }
        with theirs:
            await self._required(self._spawner).call(request, [theirs.fileno()])
        await self._init.first(_CREATE_S)
        self._bare = await self._start_template("bare", None)
        if self.cgroup_version is None:
            self._watcher = asyncio.create_task(watcher.watch(lambda: self._live))

    async def _start_spawner(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "carrel.host.spawner",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._spawner = FdSocket(ours, "the spawner")
        hello, _descriptors = await self._spawner.first(_CREATE_S)
        self.cgroup_version = hello["cgroups"]

    def _required(self, part: FdSocket | None) -> FdSocket:
        if part is None or part.closed.is_set():
            raise SandboxStartFailed("The cell block is not running.")
        return part

    async def prepare(self, pool: PoolSpec) -> None:
        async with self._preparing:
            if pool.image in self._templates:
                return
            image = await asyncio.to_thread(images.ensure, pool.image, self._image_folder, self._progress)
            self._templates[pool.image] = await self._start_template("image", image)

    async def _start_template(self, kind: str, image: images.Image | None) -> _Template:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        errors_in, errors_out = os.pipe()
        request: dict[str, Any] = {"kind": kind, "preload": [], "environment": dict(policy.ENVIRONMENT)}
        if image is not None:
            request |= {"image": image.root.name, "preload": list(image.preload), "writable": policy.TEMPLATE_WRITABLE}
            request["environment"] |= {**image.environment, **SINGLE_THREADED}
        with theirs:
            self._required(self._init).send(request, [theirs.fileno(), errors_out])
        os.close(errors_out)
        sandboxes: dict[int, NamespaceSandbox] = {}
        control = FdSocket(ours, f"the {kind} template", lambda message: _on_template_event(sandboxes, message))
        try:
            _ready, (mounts,) = await control.first(_TEMPLATE_START_S)
        except SandboxStartFailed as error:
            said = _read_lines(errors_in) or []
            os.close(errors_in)
            raise SandboxStartFailed(f"{error.message}: {' | '.join(said[-4:]) or 'it said nothing'}") from error
        template = _Template(control, mounts, errors_in)
        template.sandboxes = sandboxes
        return template

    async def create(self, pool: PoolSpec) -> NamespaceSandbox:
        bare, template = self._bare, self._templates.get(pool.image)
        if bare is None or template is None:
            raise SandboxStartFailed(f"The image '{pool.image}' has no template.")
        self._count += 1
        sandbox = NamespaceSandbox(self, f"{os.getpid()}-{self._count}", self._count, template)
        self._live.add(sandbox)
        try:
            await sandbox.enclose(bare, pool)
        except BaseException:
            await asyncio.shield(sandbox.kill())
            raise
        return sandbox

    async def make_group(self, name: str, pool: PoolSpec) -> tuple[Group | None, list[int], list[int]]:
        """Control groups for a sandbox, and the open `cgroup.procs` for its agent and for its code."""
        if self.cgroup_version is None:
            return None, [], []
        limits = {"memory_bytes": pool.memory_bytes, "pids": pool.pids, "cpu": pool.cpu}
        answer, opened = await self._required(self._spawner).call({"op": "group", "name": name, "limits": limits})
        group = Group((), (), (), Path(answer["memory"]), answer["version"])
        return group, opened[: answer["agent"]], opened[answer["agent"] :]

    async def remove_group(self, name: str) -> None:
        if self.cgroup_version is not None:
            with contextlib.suppress(SandboxStartFailed):
                await self._required(self._spawner).call({"op": "ungroup", "name": name})

    def take_uid(self) -> int:
        """An id of the cell block for one sandbox: its own as root, the only one there is otherwise."""
        if os.geteuid() != 0:
            return 0
        if not self._free_uids:
            raise SandboxStartFailed("All host uids set aside for sessions are in use.")
        return self._free_uids.pop()

    def release(self, sandbox: NamespaceSandbox, uid: int) -> None:
        self._live.discard(sandbox)
        if uid:
            self._free_uids.append(uid)

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        await asyncio.gather(*(sandbox.kill() for sandbox in list(self._live)))
        for template in (*self._templates.values(), *([self._bare] if self._bare else [])):
            template.close()
        self._templates, self._bare = {}, None
        for part in (self._init, self._spawner):
            if part is not None:
                part.close()
        if self._spawner is not None:
            await self._process.wait()
            self._spawner = None


class NamespaceSandbox:
    def __init__(self, backend: NamespaceBackend, name: str, number: int, template: _Template) -> None:
        self.id = name
        self._backend, self._number, self._template = backend, number, template
        self.memory_limit_bytes = 0
        self._was_out_of_memory = False
        self._interpreter_pidfd: int | None = None
        self._group: Group | None = None
        self._code_procs: list[int] = []
        self._namespaces: list[int] = []
        self._agent_pidfd: int | None = None
        self._uid = 0
        self._spec: dict[str, Any] = {}
        self._exit: asyncio.Future[Death] | None = None
        self._killing: asyncio.Task[None] | None = None
        self.channel, self._agent_end = socket.socketpair()

    async def enclose(self, bare: _Template, pool: PoolSpec) -> None:
        """Have an agent made, and by it the sandbox's namespaces and mounts."""
        self.channel.setblocking(False)
        self.memory_limit_bytes = pool.memory_bytes
        self._group, agent_procs, self._code_procs = await self._backend.make_group(self.id, pool)
        self._uid = self._backend.take_uid()
        self._spec = policy.sandbox(pool, self._uid, has_memory_cgroup=self._group is not None)
        setup_socket, agent_setup = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        setup = FdSocket(setup_socket, "the agent")
        try:
            with agent_setup, self._agent_end:
                passed = [self._agent_end.fileno(), agent_setup.fileno(), self._template.mounts, *agent_procs]
                _answer, (self._agent_pidfd,) = await bare.control.call(
                    {"op": "agent", "spec": self._spec, "child": self._number}, passed, _CREATE_S
                )
            _answer, self._namespaces = await setup.first(_CREATE_S)
        finally:
            setup.close()
            _close_all(agent_procs)

    async def interpreter(self) -> list[int]:
        control, control_end = socket.socketpair()
        stdout, stdout_end = os.pipe2(os.O_CLOEXEC)
        stderr, stderr_end = os.pipe2(os.O_CLOEXEC)
        self._exit = asyncio.get_running_loop().create_future()
        self._template.sandboxes[self._number] = self
        passed = [*self._namespaces, control_end.fileno(), stdout_end, stderr_end, *self._code_procs]
        try:
            request = {"op": "interpreter", "spec": self._spec, "child": self._number}
            _answer, (pidfd,) = await self._template.control.call(request, passed, _CREATE_S)
        except BaseException:
            control.close()
            _close_all([stdout, stderr])
            raise
        finally:
            control_end.close()
            _close_all([stdout_end, stderr_end])
        self._forget_interpreter()
        self._interpreter_pidfd = os.dup(pidfd)
        return [control.detach(), stdout, stderr, pidfd]

    def _forget_interpreter(self) -> None:
        if self._interpreter_pidfd is not None:
            os.close(self._interpreter_pidfd)
        self._interpreter_pidfd, self._was_out_of_memory = None, False

    def root_pidfds(self) -> list[int]:
        return [fd for fd in (self._agent_pidfd, self._interpreter_pidfd) if fd is not None]

    def on_out_of_memory(self) -> None:
        self._was_out_of_memory = True

    def on_exit(self, death: Death) -> None:
        """The template's word of how the last interpreter ended."""
        if self._exit is not None and not self._exit.done():
            self._exit.set_result(death)

    async def death(self) -> Death:
        death = Death()
        if self._exit is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_DEATH_S):
                    death = await asyncio.shield(self._exit)
        was_oom = self._group.was_out_of_memory() if self._group is not None else self._was_out_of_memory
        return Death(death.exit_code, death.signal, was_out_of_memory=was_oom and death.signal == signal.SIGKILL)

    async def usage(self) -> Usage:
        return self._group.usage() if self._group is not None else Usage()

    async def kill(self) -> None:
        if self._killing is None:
            self._killing = asyncio.create_task(self._kill())
        await asyncio.shield(self._killing)

    async def _kill(self) -> None:
        """SIGKILL to pid 1 of the pid namespace: the kernel kills all others, and pid 1 is a zombie only when they are gone."""
        self.channel.close()
        self._agent_end.close()
        if self._agent_pidfd is not None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._agent_pidfd, signal.SIGKILL)
            await _ended(self._agent_pidfd)
            os.close(self._agent_pidfd)
            self._agent_pidfd = None
        self._forget_interpreter()
        self._template.sandboxes.pop(self._number, None)
        _close_all([*self._namespaces, *self._code_procs])
        if self._group is not None:
            await self._backend.remove_group(self.id)
        self._backend.release(self, self._uid)


def _first_id(state: Path) -> int:
    """Where this server's range of host ids begins: the same for the same state folder, another for most others."""
    slots = (policy.LAST_ID - policy.FIRST_ID) // policy.ID_RANGE
    return policy.FIRST_ID + int.from_bytes(hashlib.sha256(bytes(state)).digest()[:4]) % slots * policy.ID_RANGE


def _on_template_event(sandboxes: dict[int, NamespaceSandbox], message: dict[str, Any]) -> None:
    sandbox = sandboxes.get(message.get("exited", -1))
    if sandbox is not None:
        sandbox.on_exit(Death(exit_code=message.get("code"), signal=message.get("signal")))


def _close_all(descriptors: list[int]) -> None:
    while descriptors:
        os.close(descriptors.pop())


async def _ended(pidfd: int, timeout_s: float = 10) -> None:
    """Wait for the process behind `pidfd` to end."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(pidfd, done.set)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await done.wait()
    finally:
        loop.remove_reader(pidfd)


def _read_lines(fd: int) -> list[str] | None:
    """What is in a pipe now, by lines; None at its end."""
    os.set_blocking(fd, False)
    try:
        data = os.read(fd, 65_536)
    except BlockingIOError:
        return []
    return [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()] if data else None
