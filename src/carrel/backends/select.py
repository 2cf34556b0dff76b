"""Which backends there are, and which of them work on this machine."""

from __future__ import annotations

import asyncio
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from carrel.backends.base import Backend
from carrel.backends.canary import try_level
from carrel.backends.namespace import NamespaceBackend
from carrel.backends.process import ProcessBackend
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
        return NamespaceBackend(config.state, config.images, progress)
    return ProcessBackend(config.state, config.images, progress)


def examine(config: Config, progress: Progress = lambda _line: None) -> list[Finding]:
    """Run the canary on every level, strongest first."""
    with tempfile.TemporaryDirectory(prefix="carrel-doctor-") as state:
        trial = replace(config, state=Path(state))
        return [asyncio.run(_try(level, trial, progress)) for level in sorted(Level, key=lambda each: -each.rank)]


async def _try(level: Level, config: Config, progress: Progress) -> Finding:
    backend = _make(level, config, progress)
    try:
        holes = await try_level(backend)
    except SandboxStartFailed as error:
        return Finding(level, False, error.message, how_to_allow_namespaces() if level is Level.NAMESPACE else "")
    if holes:
        return Finding(
            level, False, f"the boundary does not hold: {', '.join(holes)}", "report this, with the output of uname -a"
        )
    return Finding(level, True, "; ".join(backend.weaknesses), "")


def how_to_allow_namespaces() -> str:
    """What to change on this machine so that the level `namespace` works, as far as the kernel's settings tell."""
    if platform.system() != "Linux":
        return "the server needs Linux (on Windows: WSL2)"
    settings = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=65536"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }
    found = [command for path, (bad, command) in settings.items() if _reads(path) == bad and os.geteuid() != 0]
    if found:
        return "as root: " + "; ".join(found)
    return (
        "in a container: start it with --security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt "
        "systempaths=unconfined; or go on without a sandbox, for trusted code only, with --isolation process"
    )


def _reads(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
