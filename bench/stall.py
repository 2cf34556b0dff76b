"""Many sandboxes made and killed, eight at a time, and what the slowest of them waited for:

    python -m bench.stall [--count 2000] [--at-once 8] [--image python]

Straight from the backend at level namespace, as the host does it. The steps of each come from the host's debug log (fdsocket.py): how long
a request waited for its turn in the host, how long the answer took, and how much of that the other end worked. What is left of the whole
is the agent, the interpreter's first words, the kernel's end of all processes, and the loop itself.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import uvloop

from bench import programs
from bench.lines import p50, percentile
from bench.machine import load
from carrel.backends.namespace import NamespaceBackend
from carrel.backends.spawning import Setup, launch
from carrel.config import load as load_config
from carrel.models import PoolSpec
from carrel.sessions.guest import Guest

SHOWN = 8  # of the slowest

T = TypeVar("T")


@dataclass(slots=True)
class Step:
    name: str
    queued_ms: float
    took_ms: float
    there_ms: float

    def __str__(self) -> str:
        queued = f"{self.queued_ms:.1f} for its turn, " if self.queued_ms >= 1 else ""
        return f"{self.name}: {queued}{self.took_ms:.1f} (work {self.there_ms:.1f})"


@dataclass(slots=True)
class Life:
    """One sandbox: milliseconds of its making and of its end, and the steps of both."""

    number: int
    phases: dict[str, float] = field(default_factory=dict)
    steps: dict[str, list[Step]] = field(default_factory=lambda: {"make": [], "kill": []})
    phase: str = "make"

    def explain(self, phase: str) -> str:
        steps = self.steps[phase]
        known = sum(step.queued_ms + step.took_ms for step in steps)
        listed = "; ".join(str(step) for step in sorted(steps, key=lambda step: -(step.queued_ms + step.took_ms))[:4])
        return f"#{self.number} {self.phases[phase]:.1f} ms: {listed}; elsewhere: {self.phases[phase] - known:.1f}"


class Collector(logging.Handler):
    """The steps that the host's debug log tells of, to the sandbox in whose context they were taken, also in tasks of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        life, fields = _life.get(), record.__dict__
        if life is not None and "took_ms" in fields:
            name, times = (
                f"{fields['peer']} {fields['op']}",
                (fields[f"{each}_ms"] for each in ("queued", "took", "there")),
            )
            life.steps[life.phase].append(Step(name, *times))


_life: ContextVar[Life | None] = ContextVar("life", default=None)


async def measure(backend: NamespaceBackend, pool: PoolSpec, count: int, at_once: int) -> list[Life]:
    log = logging.getLogger("carrel.backends.fdsocket")
    log.addHandler(Collector())
    log.setLevel(logging.DEBUG)
    log.propagate = False
    room = asyncio.Semaphore(at_once)

    async def live(life: Life) -> None:
        _life.set(life)
        async with room:
            guest = await _timed(life, "make", partial(Guest.start, backend, pool))
            await _timed(life, "kill", partial(guest.kill, "measured"))

    lives = [Life(number) for number in range(count)]
    async with asyncio.TaskGroup() as tasks:
        for life in lives:
            tasks.create_task(live(life))
    return lives


async def _timed(life: Life, phase: str, step: Callable[[], Awaitable[T]]) -> T:
    life.phase = phase
    begin = time.perf_counter()
    done = await step()
    life.phases[phase] = (time.perf_counter() - begin) * 1000
    return done


def report(lives: list[Life], seconds: float) -> str:
    lines = [f"{len(lives)} sandboxes in {seconds:.0f} s: {len(lives) / seconds:.0f} per second, made and killed"]
    for phase in ("make", "kill"):
        times = [life.phases[phase] for life in lives]
        shown = ", ".join(f"p{share * 100:g} {percentile(times, share):.1f}" for share in (0.9, 0.99, 0.999))
        lines.append(f"\n{phase}: p50 {p50(times):.1f}, {shown}, slowest {max(times):.1f} ms")
        slowest = sorted(lives, key=lambda life: -life.phases[phase])[:SHOWN]
        lines += [f"  {life.explain(phase)}" for life in slowest]
        lines += [f"  {line}" for line in by_step(lives, phase)]
    return "\n".join(lines)


def by_step(lives: list[Life], phase: str) -> list[str]:
    """Each kind of step over all sandboxes."""
    found: dict[str, list[float]] = {}
    for life in lives:
        for step in life.steps[phase]:
            found.setdefault(step.name, []).append(step.queued_ms + step.took_ms)
    return [
        f"all: {name}: p50 {p50(times):.1f}, p99 {percentile(times, 0.99):.1f}, slowest {max(times):.1f}"
        for name, times in sorted(found.items())
    ]


async def main() -> None:
    options = _options()
    folder = options.images or load_config({}, os.environ).images
    pool = PoolSpec("python", image=options.image)
    before = load()
    with tempfile.TemporaryDirectory(prefix="carrel-bench-") as state:
        backend = NamespaceBackend(partial(launch, Setup(Path(state), folder)), programs.say)
        try:
            await backend.start()
            await backend.prepare(pool)
            begin = time.perf_counter()
            lives = await measure(backend, pool, options.count, options.at_once)
            print(report(lives, time.perf_counter() - begin))
        finally:
            await backend.close()
    print(f"\nload average {before} before, {load()} after")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.stall", description="Make and kill sandboxes; explain the slowest.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--image", default="python")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of built images (default: the server's)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
