"""Templates as the host sees them, and their rotation.

All that a template forks has its memory layout and its seed of string hashes: what one session finds out of them holds for the next.
So a template makes a bounded number of others, for a bounded time from its first one. Then a new one is started beside it; when that is
ready it takes over, and the old one, told to retire, ends itself when its last child has ended: it is the children's parent, and only a
parent is told how they ended. Whoever is about to use a template holds it meanwhile, so that none is ended between two steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

from carrel.backends.fdsocket import FdSocket, Message
from carrel.errors import SandboxStartFailed

_START_S = 120  # a cold import of the heavy image on a slow disk
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a template has served long enough. 0 means never."""

    forks: int = 1000
    minutes: float = 60


class Template:
    """A process that makes agents (`bare`) or an image's interpreters. `mounts` is its mount namespace."""

    def __init__(self, control: FdSocket, mounts: int, errors: int) -> None:
        self.control, self.mounts, self._errors = control, mounts, errors
        self.forks = 0
        self.on_fork: Callable[[Template], None] = lambda _template: None
        self._holders = 0
        self._is_free = asyncio.Event()
        self._is_free.set()
        self._is_closed = False
        asyncio.get_running_loop().add_reader(errors, self._log_errors)

    @property
    def is_alive(self) -> bool:
        return not self.control.closed.is_set()

    @contextlib.contextmanager
    def held(self) -> Iterator[Template]:
        self._holders += 1
        self._is_free.clear()
        try:
            yield self
        finally:
            self._holders -= 1
            if not self._holders:
                self._is_free.set()

    async def fork(self, request: Message, descriptors: list[int], timeout_s: float) -> int:
        """Have a child made; returns its pidfd. Raises SandboxStartFailed."""
        with self.held():
            _answer, (pidfd,) = await self.control.call(request, descriptors, timeout_s)
        self.forks += 1
        self.on_fork(self)
        return pidfd

    async def retire(self) -> None:
        """Wait until it has ended: when nobody holds it and its last child is gone."""
        try:
            await self._is_free.wait()
            with contextlib.suppress(SandboxStartFailed):
                self.control.send({"retire": True})
            await self.control.closed.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Without its socket the process ends, whatever it has to do. Safe to call again."""
        if self._is_closed:
            return
        self._is_closed = True
        self.control.close()
        asyncio.get_running_loop().remove_reader(self._errors)
        os.close(self._errors)
        os.close(self.mounts)

    def _log_errors(self) -> None:
        lines = read_lines(self._errors)
        for line in lines or ():
            _LOG.warning("template: %s", line)
        if lines is None:
            asyncio.get_running_loop().remove_reader(self._errors)


async def started(
    name: str,
    start: Callable[[list[int]], Awaitable[object]],
    on_event: Callable[[Message], None] = lambda _message: None,
) -> Template:
    """The template that `start` has made around its ends of a socket and of a pipe for stderr, once it is ready.

    Raises SandboxStartFailed with its last words.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    errors_in, errors_out = os.pipe()
    control = FdSocket(ours, name, on_event)
    try:
        try:
            await start([theirs.fileno(), errors_out])
        finally:
            theirs.close()
            os.close(errors_out)
        _ready, (mounts,) = await control.first(_START_S)
    except SandboxStartFailed as error:
        said = read_lines(errors_in) or []
        os.close(errors_in)
        control.close()
        raise SandboxStartFailed(f"{error.message}: {' | '.join(said[-4:]) or 'it said nothing'}") from error
    except BaseException:  # cancelled: without its socket the process ends
        os.close(errors_in)
        control.close()
        raise
    return Template(control, mounts, errors_in)


class Templates:
    """The current template of each kind, by key; started by `start`, and anew where one has died."""

    def __init__(self, rotation: Rotation, start: Callable[[str], Awaitable[Template]]) -> None:
        self._rotation, self._start = rotation, start
        self._current: dict[str, Template] = {}
        self._starts: dict[str, asyncio.Task[Template]] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def hold(self, key: str) -> AsyncIterator[Template]:
        """The template to use now, started first where there is none. Raises SandboxStartFailed."""
        with (await self._get(key)).held() as template:
            yield template

    async def _get(self, key: str) -> Template:
        if (found := self._current.get(key)) is not None and found.is_alive:
            return found
        if key not in self._starts:
            self._starts[key] = asyncio.create_task(self._replace(key))
        # Whoever asked may give up; the start goes on for the next one, since a cold import outlasts a caller's patience.
        starting = self._starts[key]
        await asyncio.wait([starting])
        if starting.cancelled():  # by `close`: that is the template's end, not the caller's
            raise SandboxStartFailed("The template was ended while it started.")
        return starting.result()

    async def _replace(self, key: str) -> Template:
        try:
            fresh = await self._start(key)
            fresh.on_fork = partial(self._count, key)
            if (timer := self._timers.pop(key, None)) is not None:
                timer.cancel()
            old = self._current.pop(key, None)
            self._current[key] = fresh
            if old is not None:
                task = asyncio.create_task(old.retire())
                self._retiring.add(task)
                task.add_done_callback(self._retiring.discard)
            return fresh
        finally:
            del self._starts[key]

    def _count(self, key: str, template: Template) -> None:
        """Called after each fork. The clock begins with the first: a template that nobody's session came from has nothing to tell."""
        if template is not self._current.get(key):
            return
        if self._rotation.minutes and key not in self._timers:
            delay_s = self._rotation.minutes * 60
            self._timers[key] = asyncio.get_running_loop().call_later(delay_s, self._rotate, key, template)
        if self._rotation.forks and template.forks >= self._rotation.forks:
            self._rotate(key, template)

    def _rotate(self, key: str, old: Template) -> None:
        if key in self._starts:
            return
        _LOG.info("template rotates", extra={"template": key or "bare", "forks": old.forks})
        self._starts[key] = asyncio.create_task(self._replace(key))
        self._starts[key].add_done_callback(partial(self._on_rotated, key, old))

    def _on_rotated(self, key: str, old: Template, task: asyncio.Task[Template]) -> None:
        """Where no new one could be started, the old one serves on, and the next try comes after as many forks or as long a time."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        _LOG.warning("no new template could be started; the old one serves on", extra={"reason": str(error)})
        old.forks = 0
        self._timers.pop(key, None)

    async def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        tasks = [*self._starts.values(), *self._retiring]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for template in self._current.values():
            template.close()
        self._current, self._timers = {}, {}


def read_lines(fd: int) -> list[str] | None:
    """What is in a pipe now, by lines; None at its end."""
    os.set_blocking(fd, False)
    try:
        data = os.read(fd, 65_536)
    except BlockingIOError:
        return []
    return [line for line in data.decode("utf-8", "replace").splitlines() if line.strip()] if data else None
