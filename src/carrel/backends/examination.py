"""What `carrel doctor` finds out: the canary on every level, each in a process of its own that is killed where it takes too long.

A process per level, since a level that hangs, crashes or leaves something behind must not keep the others from being judged. The
parent builds the image first, which takes what the network takes; all else has a deadline.

`python -m carrel.backends.examination` is the child: the level and the configuration as JSON on stdin, a Finding as JSON on stdout.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from carrel.backends import canary, images, network_canary, select
from carrel.backends.advice import advice
from carrel.config import Config
from carrel.errors import SandboxStartFailed
from carrel.guest import linux
from carrel.models import Level, Network, PoolSpec

Progress = Callable[[str], None]

DEADLINE_S = 60.0  # for one level, image apart; a whole canary takes about a second
_CLOSE_S = 15.0
_SAID = 300  # characters of a crashed child's last line


@dataclass(frozen=True, slots=True)
class NetworkFinding:
    """Whether sessions of a level can have a network of this kind here, and why not."""

    network: Network
    works: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one level. `reason` says why it does not work, `advice` what to install or to set for it."""

    level: Level
    works: bool
    reason: str = ""
    advice: str = ""
    weaknesses: tuple[str, ...] = ()  # what the boundary lacks here, where it works
    seconds: float = 0.0  # from the backend's start to its end
    networks: tuple[NetworkFinding, ...] = ()  # where it works


def examine(config: Config, levels: Iterable[Level] = Level, progress: Progress = lambda _line: None) -> list[Finding]:
    """Try every level, strongest first in the answer."""
    ordered = sorted(levels, key=lambda each: -each.rank)
    try:
        images.ensure(canary.POOL.image, config.images, progress)
    except SandboxStartFailed as error:
        return [Finding(level, False, f"its image cannot be built: {error.message}") for level in ordered]
    return asyncio.run(_examine(config, ordered))


def level_of(pool: PoolSpec, findings: Iterable[Finding]) -> tuple[Level | None, str]:
    """The level that a pool would be served at, or None and why."""
    works = {finding.level for finding in findings if finding.works}
    candidates = select.candidates(pool)
    for level in candidates:
        if level in works:
            return level, ""
    if not candidates:
        return None, select.below_minimum(pool)
    return None, f"{' and '.join(candidates)}: does not work here"


async def _examine(config: Config, levels: list[Level]) -> list[Finding]:
    with tempfile.TemporaryDirectory(prefix="carrel-doctor-") as folder:
        return await asyncio.gather(*(_ask(level, replace(config, state=Path(folder) / level)) for level in levels))


async def _ask(level: Level, config: Config) -> Finding:
    """A child for one level. Whatever becomes of it, it has ended."""
    config.state.mkdir(mode=0o700)
    started = time.monotonic()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "carrel.backends.examination"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    message = json.dumps({"level": level, "config": config.to_json()}).encode()
    try:
        async with asyncio.timeout(DEADLINE_S):
            said, errors = await child.communicate(message)
    except TimeoutError:
        reason = f"it was not ready, tried and ended within {DEADLINE_S:.0f} seconds"
        return Finding(level, False, reason, advice(level), seconds=time.monotonic() - started)
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            await child.wait()
    return _parse(level, said, errors)


def _parse(level: Level, said: bytes, errors: bytes) -> Finding:
    try:
        fields: dict[str, Any] = json.loads(said)
    except ValueError:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2][:_SAID]
        return Finding(level, False, f"its examination failed: {last or 'it said nothing'}", advice(level))
    networks = tuple(
        NetworkFinding(Network(each["network"]), each["works"], each["reason"]) for each in fields["networks"]
    )
    return Finding(**{**fields, "level": level, "weaknesses": tuple(fields["weaknesses"]), "networks": networks})


# ---- the child -----------------------------------------------------------------------------------------------------------------


async def _try(level: Level, config: Config) -> Finding:
    started = time.monotonic()
    spec = replace(canary.POOL, isolation=level)
    networks: tuple[NetworkFinding, ...] = ()
    try:
        carved = replace(config, egress_allow_private=(*config.egress_allow_private, network_canary.CARVE_OUT))
        backend = select.make(level, carved, lambda _line: None)
        try:
            await backend.start()
            await backend.prepare(spec)
            holes = await canary.attack(backend, spec)
            weaknesses = tuple(backend.weaknesses)
            if level is not Level.PROCESS and not holes:  # at that one code has the network of the machine
                networks = (
                    await _try_network(Network.LISTED, network_canary.listed(backend, spec)),
                    await _try_network(Network.OPEN, network_canary.opened(backend, spec)),
                )
        finally:
            async with asyncio.timeout(_CLOSE_S):
                await backend.close()
    except (SandboxStartFailed, OSError) as error:
        reason = select.reason_of(error)
        return Finding(level, False, reason, advice(level, reason), seconds=time.monotonic() - started)
    seconds = time.monotonic() - started
    if holes:
        reason = f"its boundary does not hold: {', '.join(holes)}"
        return Finding(level, False, reason, "report this, with the output of uname -a", seconds=seconds)
    return Finding(level, True, weaknesses=weaknesses, seconds=seconds, networks=networks)


async def _try_network(network: Network, trial: Awaitable[list[str]]) -> NetworkFinding:
    try:
        wrong = await trial
    except (SandboxStartFailed, OSError) as error:
        reason = error.message if isinstance(error, SandboxStartFailed) else str(error)
        return NetworkFinding(network, False, reason.rstrip("."))
    return NetworkFinding(network, not wrong, "; ".join(wrong))


def main() -> None:
    linux.die_with_parent()
    message = json.load(sys.stdin)
    finding = asyncio.run(_try(Level(message["level"]), Config.from_json(message["config"])))
    sys.stdout.write(json.dumps(asdict(finding)))
    sys.stdout.flush()
    os._exit(0)  # a thread that hangs in what it waits for must not hold up what is known


if __name__ == "__main__":
    main()
