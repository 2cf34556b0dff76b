"""Which backends there are, and which of them work on this machine."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from carrel.backends.base import Backend
from carrel.backends.canary import try_level
from carrel.backends.namespace import NamespaceBackend
from carrel.backends.process import ProcessBackend
from carrel.backends.templates import Rotation
from carrel.config import Config
from carrel.errors import SandboxStartFailed
from carrel.models import Level

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the canary found of one level. `reason` says why it does not work, or what is weaker here than it could be."""

    level: Level
    works: bool
    reason: str
    advice: str


def backends(config: Config, progress: Progress = lambda _line: None) -> dict[Level, Backend]:
    """A backend for every level that a pool of the configuration is to run at."""
    return {level: _make(level, config, progress) for level in {pool.isolation for pool in config.pools}}


def _make(level: Level, config: Config, progress: Progress) -> NamespaceBackend | ProcessBackend:
    if level is Level.NAMESPACE:
        rotation = Rotation(config.rotate_forks, config.rotate_minutes)
        return NamespaceBackend(config.state, config.images, progress, rotation, config.egress_allow_private)
    if level is Level.PROCESS:
        return ProcessBackend(config.state, config.images, progress)
    raise SandboxStartFailed(f"Level '{level}' is not built yet.")


def examine(config: Config, progress: Progress = lambda _line: None) -> list[Finding]:
    """Run the canary on every level, strongest first."""
    with tempfile.TemporaryDirectory(prefix="carrel-doctor-") as state:
        trial = replace(config, state=Path(state))
        return [asyncio.run(_try(level, trial, progress)) for level in sorted(Level, key=lambda each: -each.rank)]


async def _try(level: Level, config: Config, progress: Progress) -> Finding:
    try:
        backend = _make(level, config, progress)
        holes = await try_level(backend)
    except SandboxStartFailed as error:
        return Finding(level, False, error.message, "")
    if holes:
        return Finding(
            level, False, f"the boundary does not hold: {', '.join(holes)}", "report this, with the output of uname -a"
        )
    return Finding(level, True, "; ".join(backend.weaknesses), "")
