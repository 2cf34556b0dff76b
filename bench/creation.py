"""Line 4: new sandboxes of the heavy image, straight from the backend, beside plain forks of a process with the same imports.

A program of its own, so that it can be run as another user, and so that the backend is alone in its process as it is in the host:

    python -m bench.creation IMAGES STATE ROUNDS       prints one JSON object
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from bench import programs
from bench.lines import Line, both, holds, ms, p50, summary
from carrel.backends import images
from carrel.backends.images import Image
from carrel.backends.namespace import NamespaceBackend
from carrel.backends.spawning import Setup, launch
from carrel.guest.threads import SINGLE_THREADED
from carrel.models import PoolSpec
from carrel.sessions.guest import Guest
from carrel.sessions.pool import STARTS

POOL = PoolSpec("python")
_TIMES_FLOOR, _PER_S = 2.0, 55.0
_ALONE, _REWARM = 20, 4  # one at a time, in a round; before those that count, as in calls.py
_TOGETHER = 40  # in a round, STARTS at a time


class CannotMeasure(Exception):
    """This machine or this user cannot do it; the message says why."""


async def made_alone(backend: NamespaceBackend) -> float:
    """Milliseconds until a new sandbox's interpreter is ready."""
    begin = time.perf_counter()
    guest = await Guest.start(backend, POOL)
    took = (time.perf_counter() - begin) * 1000
    await guest.kill("measured")
    return took


async def made_together(backend: NamespaceBackend) -> float:
    """Sandboxes per second, as many at a time as a pool makes; the time to end them does not count."""
    room = asyncio.Semaphore(STARTS)
    guests: list[Guest] = []

    async def make() -> None:
        async with room:
            guests.append(await Guest.start(backend, POOL))

    try:
        begin = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(_TOGETHER):
                tasks.create_task(make())
        return _TOGETHER / (time.perf_counter() - begin)
    finally:
        await asyncio.gather(*(guest.kill("measured") for guest in guests))


async def measure(image_folder: Path, state: Path, rounds: int) -> dict[str, Any]:
    image = images.ensure(POOL.image, image_folder, programs.say)
    backend = NamespaceBackend(partial(launch, Setup(state, image_folder)), programs.say)
    with plain_template(image, state) as plain:
        try:
            await backend.start()
            await backend.prepare(POOL)
            result: dict[str, Any] = {"made_ms": [], "fork_ms": [], "per_s": []}
            for number in range(rounds + 1):
                made = [await made_alone(backend) for _ in range(_REWARM + _ALONE)][_REWARM:]
                forked = plain.fork(_REWARM + _ALONE)[_REWARM:]
                together = await made_together(backend)
                if number > 0:  # the first round warms both up
                    result["made_ms"] += made
                    result["fork_ms"] += forked
                    result["per_s"].append(together)
            return result
        finally:
            await backend.close()


@contextlib.contextmanager
def plain_template(image: Image, folder: Path) -> Iterator[programs.PlainTemplate]:
    """A process with what the image's template has imported, IPython included, and nothing of ours."""
    command = [image.host_python, programs.floor("template"), "IPython.core.interactiveshell", *image.preload]
    environment = {**image.host_environment(), **SINGLE_THREADED, "HOME": str(folder)}
    with programs.program(command, environment=environment, has_pipes=True) as process:
        yield programs.PlainTemplate(process)


def line(image_folder: Path, rounds: int, account: pwd.struct_passwd | None = None) -> Line:
    """As this process's user, or as another one, who then has the image in a folder of its own. Raises CannotMeasure."""
    with tempfile.TemporaryDirectory(prefix="carrel-bench-") as folder:
        state = Path(folder) / "state"
        state.mkdir(mode=0o700)
        python, environment = sys.executable, None
        if account is not None:
            python, environment = _python_for(account), programs.our_environment() | {"HOME": account.pw_dir}
            image_folder = Path(account.pw_dir) / ".local/share/carrel/images"
            Path(folder).chmod(0o755)
            shutil.chown(state, account.pw_uid, account.pw_gid)
        command = [python, "-m", "bench.creation", image_folder, state, str(rounds)]
        with programs.program(command, environment=environment, account=account, has_pipes=True) as process:
            out, _ = process.communicate()
        if process.returncode != 0:
            raise CannotMeasure(f"the measurement of new sandboxes ended with status {process.returncode}")
    return _judged(json.loads(out), account)


def _python_for(account: pwd.struct_passwd) -> str:
    """An interpreter of our version that the other user can run: ours may lie in a home that is closed to others."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/python{version}", f"/usr/local/bin/python{version}"):
        options: dict[str, Any] = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        try:
            subprocess.run([python, "-c", ""], check=True, stderr=subprocess.DEVNULL, cwd="/", **options)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    raise CannotMeasure(f"{account.pw_name} can run no Python {version} here")


def _judged(result: dict[str, Any], account: pwd.struct_passwd | None) -> Line:
    made, forked = p50(result["made_ms"]), p50(result["fork_ms"])
    per_s = p50(result["per_s"])
    starts = range(0, len(result["made_ms"]), _ALONE)
    of_rounds = [p50(result["made_ms"][at : at + _ALONE]) / p50(result["fork_ms"][at : at + _ALONE]) for at in starts]
    who = "an ordinary user" if account is not None else ""
    return Line(
        what="new sandbox, heavy image" + (f", as {who}" if who else ""),
        measured=f"{ms(made)}; {per_s:.0f}/s",
        floor=f"{ms(forked)} (plain fork)",
        ratio=f"{p50(of_rounds):.2f}",
        budget=f"ratio ≤ {_TIMES_FLOOR:.0f}; ≥ {_PER_S:.0f}/s",
        is_met=both(holds(of_rounds, at_most=_TIMES_FLOOR), holds(result["per_s"], at_least=_PER_S)),
        detail={
            "made_ms": summary(result["made_ms"]),
            "fork_ms": summary(result["fork_ms"]),
            "per_s": result["per_s"],
            "of_rounds": of_rounds,
        },
    )


def main() -> None:
    image_folder, state, rounds = sys.argv[1:]
    print(json.dumps(uvloop.run(measure(Path(image_folder), Path(state), int(rounds)))))


if __name__ == "__main__":
    main()
