"""What one pool's sandboxes are made from: the image that its definition names, found or built, tried, and pinned to one build of it.

A name means another image after each new build. It is looked up when a definition is applied, and stays what it was until the pool is
moved: so all sandboxes of a definition are alike.
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable

from carrel.backends.base import Backend
from carrel.models import ImageInfo, PoolSpec
from carrel.sessions.guest import Guest
from carrel.sessions.pool import Pool

_PATH = re.compile(r"(?: (?:from|in|at|to))? ?/.*", re.DOTALL)  # with all that follows it in a line of progress


class Recipe:
    def __init__(self, pool: Pool, backend: Backend) -> None:
        """`pool` are the books: its definition is read there at each call, and what is being done is written there."""
        self._pool = pool
        self._backend = backend
        self.image: ImageInfo | None = None  # once it is there
        self._last: tuple[PoolSpec, PoolSpec] | None = None  # as the pool was defined, and with its image's reference
        self._preparing = asyncio.Lock()
        self._moving = asyncio.Lock()  # to another image: one move after the other

    async def prepare(self) -> PoolSpec:
        """The pool as it is defined now, with the very image that its name meant when that was applied; ready for starts.

        Raises SandboxStartFailed.
        """
        async with self._preparing:
            spec, last = self._pool.spec, self._last
            if last is None or last[0] != spec:
                is_same = last is not None and last[0].image == spec.image
                image = self.image if is_same and self.image else await self._find(spec.image)
                last = await self._take(spec, image)
            return last[1]

    async def move(self, name: str, renew: Callable[[PoolSpec], None]) -> ImageInfo:
        """To another image, or to the newest build of the same; `renew` has the books take the new definition.

        Raises SandboxStartFailed where it cannot be built or used; then nothing has changed.
        """
        async with self._moving:
            image = await self._backend.image(name, _ignore)
            if image != self.image or name != self._pool.spec.image:
                await self._try(dataclasses.replace(self._pool.spec, image=image.reference))
                async with (
                    self._preparing
                ):  # only now: a build takes minutes, in which new sessions get the image there is
                    await self._take(dataclasses.replace(self._pool.spec, image=name), image)
                    # What else was changed meanwhile stays changed; the next start prepares it, with this image.
                    renew(dataclasses.replace(self._pool.spec, image=name))
            return image

    async def _find(self, name: str) -> ImageInfo:
        self._say(f"looking for image {name}")
        image = await self._backend.image(name, self._say)
        self._say("starting its first sandbox")
        return image

    def _say(self, line: str) -> None:
        """For callers to read: nothing of where things lie on this machine."""
        self._pool.preparing = _PATH.sub("", line)

    async def _try(self, pinned: PoolSpec) -> None:
        """A sandbox that nobody gets: only starting one shows that the image's guest works."""
        await self._backend.prepare(pinned)
        guest = await Guest.start(self._backend, pinned)
        await asyncio.shield(guest.kill("it was a trial"))

    async def _take(self, spec: PoolSpec, image: ImageInfo) -> tuple[PoolSpec, PoolSpec]:
        pinned = dataclasses.replace(spec, image=image.reference)
        await self._backend.prepare(pinned)
        self._last, self.image = (spec, pinned), image
        return self._last


def _ignore(_line: str) -> None:
    """For builds that hold up nobody."""
