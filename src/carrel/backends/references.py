"""The images of one backend, by name and by reference.

A pool names an image; what its sandboxes are made from is a *reference*, NAME@HASH, taken when the pool is prepared. So a pool keeps its
image, through rotations of templates and restarts of sessions, while the name is built anew; and two pools of one build share a template.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from carrel.backends.fdsocket import Message
from carrel.models import ImageInfo, Software

Progress = Callable[[str], None]
Ask = Callable[[str, Progress], Awaitable[Message]]


def _unheard(_line: str) -> None:
    """For builds that nobody waits for by name."""


class References:
    """`ask` has an image built where it is missing and tells what `host/builds.py` answers; `hold` keeps it from being removed."""

    def __init__(self, ask: Ask, hold: Callable[[str], Awaitable[object]]) -> None:
        self._ask, self._hold = ask, hold
        self._known: dict[str, Message] = {}  # by reference
        self._latest: dict[str, str] = {}  # name -> reference

    async def resolve(self, name: str, progress: Progress = _unheard) -> ImageInfo:
        """What the name, or reference, means now; `progress` hears how its build goes on. Raises SandboxStartFailed."""
        answer = await self._ask(name, progress)
        await self._hold(answer["image"])
        self._known[answer["reference"]] = answer
        if "@" not in name:
            self._latest[name] = answer["reference"]
        return ImageInfo(answer["reference"], software_from(answer["software"]))

    async def describe(self, name: str) -> Message:
        """What is to be known of an image: as it was when it was asked for first, where the name does not say which build."""
        reference = self._latest.get(name, name)
        if reference not in self._known:
            reference = (await self.resolve(name)).reference
        return self._known[reference]

    async def pin(self, name: str) -> str:
        """The reference that a name stands for."""
        return str((await self.describe(name))["reference"])

    def forget(self) -> None:
        """The spawner has ended, and with it what it held."""
        self._known, self._latest = {}, {}


def software_to(software: Software) -> Message:
    return {
        "runtime": software.runtime,
        "runtimes": software.runtimes,
        "packages": software.packages,
        "description": software.description,
    }


def software_from(fields: Message) -> Software:
    pairs = {key: tuple((name, version) for name, version in fields[key]) for key in ("runtimes", "packages")}
    return Software(**{**fields, **pairs})
