"""Which level each pool runs at: backends are made, started and tried by the canary, here and nowhere else.

A pool names its level, or leaves it to "auto": `namespace` where that passes its canary on this machine, else `restricted`, never
`process`. A pool that would come below its minimum, or whose level does not work, is refused with the reason; the others are served.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

from carrel.backends import canary
from carrel.backends.advice import advice
from carrel.backends.base import Backend
from carrel.backends.gvisor import GvisorBackend
from carrel.backends.namespace import NamespaceBackend
from carrel.backends.process import ProcessBackend
from carrel.backends.restricted import RestrictedBackend
from carrel.backends.spawning import Launcher, Progress, Setup, launch
from carrel.backends.templates import Rotation
from carrel.config import Config
from carrel.errors import SandboxStartFailed
from carrel.models import Level, PoolSpec

AUTO = (Level.NAMESPACE, Level.RESTRICTED)  # best first

_CLOSE_S = 15.0

log = logging.getLogger(__name__)


def make(level: Level, config: Config, progress: Progress, launcher: Launcher | None = None) -> Backend:
    """The backend of a level, not started; without a `launcher` its spawner is a child of this process."""
    launcher = launcher or partial(launch, Setup.of(config))
    if level is Level.NAMESPACE:
        rotation = Rotation(config.rotate_forks, config.rotate_minutes)
        return NamespaceBackend(launcher, progress, rotation, config.egress_allow_private)
    if level is Level.GVISOR:
        return GvisorBackend(launcher, progress)
    if level is Level.RESTRICTED:
        return RestrictedBackend(launcher, progress, Rotation(config.rotate_forks, config.rotate_minutes))
    return ProcessBackend(config.state, config.images, progress)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of trying a level. `backend` is started where it works, and None where not.

    `is_image`: no image could be prepared. That says nothing about the level, and is no reason to take a weaker one.
    """

    level: Level
    backend: Backend | None = None
    reason: str = ""
    is_image: bool = False

    @property
    def advice(self) -> str:
        """What to do about it."""
        return "" if self.is_image else advice(self.level, self.reason)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A pool that cannot be served: the reason for whoever calls, and what the operator can do."""

    pool: PoolSpec
    reason: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Choice:
    """What can be served: the backends are started, and whoever takes them closes them."""

    backends: dict[Level, Backend] = field(default_factory=dict)
    pools: list[PoolSpec] = field(default_factory=list)  # each at the level that it gets
    refused: list[Refusal] = field(default_factory=list)
    passed_over: list[Trial] = field(default_factory=list)  # levels that "auto" would have taken
    trials: dict[Level, Trial] = field(default_factory=dict)  # what all this rests on


async def choose(config: Config, progress: Progress = lambda _line: None, launcher: Launcher | None = None) -> Choice:
    """Find a level for every pool. Each level is tried once; where this is cut short nothing is left running."""
    trials: dict[Level, Trial] = {}
    try:
        for pool in config.pools:
            while (level := next_level(pool, trials)) is not None:
                pools = [each for each in config.pools if level in candidates(each)]
                trials[level] = await _try(level, pools, partial(make, level, config, progress, launcher))
    except BaseException:
        await asyncio.shield(_close(trial.backend for trial in trials.values()))
        raise
    return decide(config.pools, trials)


class Levels:
    """The level of pools that are defined while the host serves. One that nobody has asked for before is started and tried then.

    `backends` are the started ones, now and later; whoever holds them closes them. A level that has failed is not tried again before the
    next start, unless it was for want of an image.
    """

    def __init__(self, choice: Choice, config: Config, progress: Progress, launcher: Launcher) -> None:
        self.backends = choice.backends
        self._trials = choice.trials
        self._config, self._progress, self._launcher = config, progress, launcher
        self._trying = asyncio.Lock()

    async def find(self, pool: PoolSpec) -> Level:
        """Raises SandboxStartFailed where there is none that the pool may be served at, with why and what to do."""
        if not self._is_known(pool):
            async with self._trying:
                await self._try_all(pool)
        choice = decide([pool], self._trials)
        if choice.refused:
            refused = choice.refused[0]
            raise SandboxStartFailed(f"{refused.reason}; {refused.advice}" if refused.advice else refused.reason)
        return choice.pools[0].isolation

    def _is_known(self, pool: PoolSpec) -> bool:
        found = [self._trials[level] for level in candidates(pool) if level in self._trials]
        return next_level(pool, self._trials) is None and not any(trial.is_image for trial in found)

    async def _try_all(self, pool: PoolSpec) -> None:
        for level in candidates(pool):
            if level in self._trials and self._trials[level].is_image:
                del self._trials[level]
        while (tried := next_level(pool, self._trials)) is not None:
            self._trials[tried] = trial = await self._try(tried, pool)
            if trial.backend is not None:
                self.backends[tried] = trial.backend

    async def _try(self, level: Level, pool: PoolSpec) -> Trial:
        if level is Level.PROCESS and not runs_as_server(self._config):
            return Trial(
                level, reason="the server has given up the rights of its user, as which such code runs; restart it"
            )
        return await _try(level, [pool], partial(make, level, self._config, self._progress, self._launcher))


def runs_as_server(config: Config) -> bool:
    """Whether code of some pool is to run as the server's user itself: who starts it has to be that user, and hides nothing from it."""
    return any(Level.PROCESS in candidates(pool) for pool in config.pools)


def candidates(pool: PoolSpec) -> list[Level]:
    """The levels that a pool may run at, best first. A minimum above what "auto" takes is itself what is asked for."""
    if pool.asked is None:
        return [level for level in AUTO if level.rank >= pool.minimum.rank] or [pool.minimum]
    return [pool.asked] if pool.asked.rank >= pool.minimum.rank else []


def below_minimum(pool: PoolSpec) -> str:
    """Why a pool without candidates is not served."""
    return f"its isolation level, '{pool.asked}', is below its minimum, '{pool.minimum}'"


def reason_of(error: SandboxStartFailed | OSError) -> str:
    """What a failed trial of a level says, without a full stop: more may be said after it."""
    said = error.message if isinstance(error, SandboxStartFailed) else f"{type(error).__name__}: {error}"
    return said.rstrip(".")


def next_level(pool: PoolSpec, trials: dict[Level, Trial]) -> Level | None:
    """The level to try next for a pool; None where one works, or none is left."""
    for level in candidates(pool):
        if level not in trials:
            return level
        if trials[level].backend is not None or trials[level].is_image:
            return None
    return None


def decide(pools: Iterable[PoolSpec], trials: dict[Level, Trial]) -> Choice:
    """Who is served at which level, who is refused, and what everybody should know. `trials` hold what `next_level` asked for."""
    started = {level: trial.backend for level, trial in trials.items() if trial.backend is not None}
    choice = Choice(started, trials=trials)
    for pool in pools:
        tried = [trials[level] for level in candidates(pool) if level in trials]
        working = next((trial for trial in tried if trial.backend is not None), None)
        if working is None:
            choice.refused.append(_refusal(pool, tried))
            continue
        choice.pools.append(replace(pool, isolation=working.level))
        choice.passed_over.extend(trial for trial in tried[: tried.index(working)] if trial not in choice.passed_over)
    return choice


def _refusal(pool: PoolSpec, tried: list[Trial]) -> Refusal:
    if not tried:
        return Refusal(pool, below_minimum(pool), "give it another level, or another minimum")
    faults = "; ".join(f"'{trial.level}' does not work here: {trial.reason}" for trial in tried)
    hints = "; ".join(f"for '{trial.level}': {trial.advice}" for trial in tried if trial.advice)
    return Refusal(pool, f"isolation level {faults}", hints)


async def _try(level: Level, pools: list[PoolSpec], made: Callable[[], Backend]) -> Trial:
    """Start the level's backend and let the canary attack it, in the image of the first of its pools that has one."""
    backend: Backend | None = None
    trial = Trial(level, reason="its start was cut short")
    try:
        backend = made()
        await backend.start()
        trial = await _attack(backend, pools)
    except (SandboxStartFailed, OSError) as error:
        trial = Trial(level, reason=reason_of(error))
    finally:
        if trial.backend is None and backend is not None:
            await asyncio.shield(_close([backend]))
    if trial.backend is None:
        log.warning("an isolation level does not work here", extra={"isolation": level, "reason": trial.reason})
    return trial


async def _attack(backend: Backend, pools: list[PoolSpec]) -> Trial:
    """Raises SandboxStartFailed where there is no sandbox."""
    reason = ""
    for image in dict.fromkeys(pool.image for pool in pools):
        spec = replace(canary.POOL, image=image, isolation=backend.level)
        try:
            await backend.prepare(spec)
        except SandboxStartFailed as error:
            reason = reason or error.message.rstrip(".")
            continue
        holes = await canary.attack(backend, spec)
        if holes:
            return Trial(backend.level, reason=f"its boundary does not hold: {', '.join(holes)}")
        return Trial(backend.level, backend)
    return Trial(backend.level, reason=reason, is_image=True)


async def _close(backends: Iterable[Backend | None]) -> None:
    for backend in backends:
        if backend is None:
            continue
        try:
            async with asyncio.timeout(_CLOSE_S):
                await backend.close()
        except (SandboxStartFailed, OSError):  # TimeoutError is one
            log.exception("a backend did not close", extra={"isolation": backend.level})
