"""A sandbox with its link: from the backend's start to the kill, whoever's it is meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable

from carrel.backends.base import Backend, Death, Sandbox
from carrel.errors import CarrelError, SandboxStartFailed, SessionLost
from carrel.models import PoolSpec
from carrel.sessions.link import AgentLink
from carrel.sessions.states import SANDBOX, SandboxEvent, SandboxState, step

DEATH_S = 2.0  # the kernel's word on how an interpreter ended

log = logging.getLogger(__name__)


class Guest:
    """`on_gone` is called once, with the reason, when the link breaks; `on_died` when the interpreter ends while no code runs.

    Nobody's yet, a guest without interpreter is of no use: so `on_died` breaks the link until a session sets its own.
    """

    def __init__(self, sandbox: Sandbox, restart_s: float) -> None:
        self.sandbox, self._restart_s = sandbox, restart_s
        self.state = SandboxState.STARTING
        self.on_gone: Callable[[str], None] = lambda reason: None
        self.on_died: Callable[[], None] = lambda: self.link.close("its interpreter ended before it was used")
        self.link = AgentLink(sandbox.channel, lambda: self.on_died(), lambda reason: self.on_gone(reason))

    @classmethod
    async def start(cls, backend: Backend, spec: PoolSpec) -> Guest:
        """A new sandbox, ready to run code. Raises SandboxStartFailed; then, or when cancelled, nothing is left of it."""
        guest: Guest | None = None
        try:
            async with asyncio.timeout(backend.start_s):
                guest = cls(await backend.create(spec), backend.restart_s)
                await guest.link.hello()
                await guest._interpreter(backend.start_s)
                if guest.link.is_broken:
                    raise SandboxStartFailed("it ended right after its start")
                guest.step(SandboxEvent.READY)
                return guest
        except BaseException as error:
            if guest is not None:
                await guest.kill("it could not be started")
            if isinstance(error, TimeoutError):
                raise SandboxStartFailed(f"it was not ready within {backend.start_s:.0f} seconds") from error
            if isinstance(error, SessionLost):
                raise SandboxStartFailed(error.message) from error
            raise

    def step(self, event: SandboxEvent) -> None:
        self.state = step(SANDBOX, self.state, event)

    async def restart(self) -> None:
        """A fresh interpreter in the emptied sandbox. Raises CarrelError or TimeoutError; the guest is useless then."""
        async with asyncio.timeout(self._restart_s):
            await self.link.reset()
            await self._interpreter(self._restart_s)

    async def death(self) -> Death:
        """How the interpreter ended, as far as anybody can say."""
        with contextlib.suppress(CarrelError, OSError, TimeoutError):
            return await asyncio.wait_for(self.sandbox.death(), DEATH_S)
        return Death()

    async def kill(self, reason: str) -> None:
        """End it for good. Safe to call again; what goes wrong in the backend is logged."""
        self.step(SandboxEvent.ENDED)
        self.link.close(reason)
        try:
            await self.sandbox.kill()
        except (SandboxStartFailed, OSError):
            log.exception("a sandbox could not be killed", extra={"sandbox": self.sandbox.id})

    async def _interpreter(self, seconds: float) -> None:
        descriptors = await self.sandbox.interpreter() or []
        try:
            await self.link.attach(descriptors, seconds)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
