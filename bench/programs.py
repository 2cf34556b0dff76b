"""Programs that the bench starts: each dies with it, is out of the reach of its Ctrl-C, and is stopped at the end of its block."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_STOP_S = 15.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@contextlib.contextmanager
def program(
    command: Sequence[object],
    *,
    inherit: Sequence[int] = (),
    environment: Mapping[str, str] | None = None,
    account: pwd.struct_passwd | None = None,
    has_pipes: bool = False,
) -> Iterator[subprocess.Popen[str]]:
    """Run `command` inside the block. `environment` replaces ours; `account` is another user, which only root may ask for."""
    pipe = subprocess.PIPE if has_pipes else subprocess.DEVNULL
    options: dict[str, Any] = {}
    if account is not None:
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    process = subprocess.Popen(
        [str(word) for word in command],
        stdin=pipe,
        stdout=pipe,
        text=True,
        cwd=ROOT,
        pass_fds=inherit,
        env=dict(environment) if environment is not None else None,
        process_group=0,  # a Ctrl-C is ours to handle: the block's end stops things in order
        # Between fork and exec, after the change of user, which would clear it. This process has no second thread.
        preexec_fn=_die_with_parent,
        **options,
    )
    try:
        yield process
    finally:
        _stop(process)


def _die_with_parent() -> None:
    """SIGTERM rather than SIGKILL, so that a server removes what it has made, also when the bench is killed."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)


def _stop(process: subprocess.Popen[str]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], what: str, process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Poll until `condition`; fail where the process ends first or it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended with status {process.returncode}")
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was not ready within {seconds:.0f} seconds")
        time.sleep(0.01)


class PlainTemplate:
    """floors/template.py as this process sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._read()  # its word that everything is imported

    def fork(self, count: int) -> list[float]:
        """Milliseconds of each fork, exit and wait."""
        answer: list[float] = self._ask({"fork": count})["ms"]
        return answer

    def hold(self, count: int) -> None:
        self._ask({"hold": count})

    def release(self) -> None:
        self._ask({"release": 1})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._process.stdin is None:
            raise RuntimeError("the plain template has no stdin")
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError("the plain template has ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


def floor(name: str) -> Path:
    return Path(__file__).parent / "floors" / f"{name}.py"


def our_environment() -> dict[str, str]:
    """For another interpreter of the same version, and for another user: our packages and this checkout by their paths."""
    paths = [str(ROOT), str(ROOT / "src"), *(path for path in sys.path if path.endswith("site-packages"))]
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}


def say(line: str) -> None:
    """Progress, apart from the table on stdout."""
    print(line, file=sys.stderr, flush=True)
