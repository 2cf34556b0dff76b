"""Start a server as a process of its own and wait until it serves: for `carrel exec` without a server, and for the tests."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrel.cli.statefolder import is_held
from carrel.config import DEFAULT_POOLS

_PREFIX = "carrel-private-"  # of temporary state folders
_STARTING_S = 60.0  # a folder so young may belong to a server that has not taken it yet
_STOP_S = 15.0  # the supervisor's own deadline and a little more


class LaunchError(Exception):
    """The server ended instead of serving; it said why on stderr."""


@dataclass(frozen=True, slots=True)
class Account:
    """Another user to run the server as; only root may."""

    uid: int
    gid: int
    home: str


@contextlib.contextmanager
def server(
    state: Path,
    arguments: Sequence[str] = (),
    account: Account | None = None,
    stdin: int = subprocess.DEVNULL,
    stderr: int | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """`carrel serve` on free ports with the folder `state`, serving inside the block and stopped after it.

    Its stderr is ours, or `stderr`.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "carrel.cli",
        "serve",
        "--state",
        str(state),
        "--port",
        "0",
        "--tls-port",
        "0",
        *arguments,
    ]
    # A group of its own: Ctrl-C would reach it beside the SIGTERM of `stop`, and a second signal ends it at once, unswept.
    options: dict[str, Any] = {"stdin": stdin, "stdout": subprocess.DEVNULL, "stderr": stderr, "process_group": 0}
    if account:
        options |= {
            "user": account.uid,
            "group": account.gid,
            "extra_groups": [],
            "env": {**os.environ, "HOME": account.home},
        }
    process = subprocess.Popen(command, **options)
    try:
        _wait(process, state / "connection.json")
        yield process
    finally:
        stop(process)


@contextlib.contextmanager
def private_server(arguments: Sequence[str] = (), state: Path | None = None, pool: str = "") -> Iterator[Path]:
    """A server that is there for the block only, and no longer than this process however it ends; yields its state folder.

    Of the pools that there are without a configuration file it has only `pool`.
    Without `state` the folder is a temporary one. One that a killed process left behind is removed by the next.
    """
    for number in (
        signal.SIGTERM,
        signal.SIGHUP,
    ):  # by default they end us where we stand, without the folder's removal
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    _remove_abandoned()
    with contextlib.ExitStack() as stack:
        folder = state or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=_PREFIX)))
        with _only(pool) as options:  # read once it serves, so that nobody has to remove it who may be killed
            stack.enter_context(server(folder, ["--until-eof", *arguments, *options], stdin=subprocess.PIPE))
        yield folder


@contextlib.contextmanager
def _only(pool: str) -> Iterator[list[str]]:
    """Options for a server with this pool and no other, where it is one of those that need no configuration."""
    if pool not in DEFAULT_POOLS or os.environ.get("CARREL_CONFIG"):
        yield []
        return
    with tempfile.NamedTemporaryFile("w", prefix="carrel-pool-", suffix=".toml") as file:
        file.write(f'[pools.{pool}]\ncontainerType = "{DEFAULT_POOLS[pool]["containerType"]}"\n')
        file.flush()
        yield ["--config", file.name]


def _remove_abandoned() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            status = folder.lstat()
            is_old = time.time() - status.st_mtime > _STARTING_S
            if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and is_old and not is_held(folder):
                shutil.rmtree(folder, ignore_errors=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop in order; kill where that takes too long. Safe to call again."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], connection: Path) -> None:
    # No deadline: a first start builds images, which takes what the network takes. A server that fails ends.
    while not _is_of(process.pid, connection):
        if process.poll() is not None:
            raise LaunchError(f"carrel serve ended with status {process.returncode}")
        time.sleep(0.02)


def _is_of(pid: int, connection: Path) -> bool:
    """Whether the connection file is there and is this server's: one that was killed leaves its own."""
    try:
        return bool(json.loads(connection.read_text())["pids"]["supervisor"] == pid)
    except FileNotFoundError:
        return False
