"""The auditor process: `python -m carrel.auditor`, started by the supervisor with its settings as JSON on stdin.

    {"config": {…}, "uid": N or null, "end_fd": N, "ready_fd": N}

As root it opens the folder and the key and then is a user of its own, whose the folder is: neither gateway nor host can touch a file of the
log, nor can it touch anything else. It ends on SIGTERM, which the kernel also sends when the supervisor dies, once it has written what was
sent to it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import stat
import sys
import time
from pathlib import Path

from carrel import logs
from carrel.audit.chain import Seal
from carrel.audit.folder import FOLDER, KEY, LOCK, opened
from carrel.audit.trail import Limits, Trail
from carrel.auditor.questions import Questions
from carrel.auditor.service import Auditor
from carrel.config import Config
from carrel.guest import linux
from carrel.pulse import Pulse
from carrel.statefiles import StateError

_MIB = 1024 * 1024
_LOCK_S = 10.0  # an auditor whose supervisor was killed has so long to end


def main() -> int:
    linux.die_with_parent(signal.SIGTERM)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides
    given = json.load(sys.stdin)
    config, pulse = Config.from_json(given["config"]), Pulse(given["ready_fd"])
    logs.configure(config.log_level, config.log_format, "auditor")
    try:
        seal = Seal.of(config.state / "keys" / KEY)
        folder = _folder(config.state / FOLDER, given["uid"])
        linux.renounce(given["uid"])
        linux.die_with_parent(signal.SIGTERM)  # `renounce` makes it a kill
        os.fchmod(folder, 0o700)  # as its owner
        lock = _locked(folder)
        trail = Trail(folder, seal, limits(config), time.time())
    except (OSError, StateError) as error:
        pulse.tell({"error": f"the audit log cannot be kept: {error}; see the setting audit"})
        return 1
    Auditor(socket.socket(fileno=given["end_fd"]), trail, Questions(folder), pulse).run()
    os.close(lock)
    return 0


def limits(config: Config) -> Limits:
    return Limits(
        config.audit_file_mb * _MIB,
        config.audit_file_hours * 3600,
        config.audit_days * 86_400,
        config.audit_total_mb * _MIB,
    )


def _folder(path: Path, uid: int | None) -> int:
    """Make it, and its files, the user's that this process is about to be. What is there may be of another one: the folder was moved."""
    path.mkdir(mode=0o700, exist_ok=True)
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    if uid is None:
        return folder
    os.fchown(folder, uid, uid)
    for name in os.listdir(folder):  # noqa: PTH208 - of a descriptor
        with contextlib.suppress(FileNotFoundError):
            _give(folder, name, uid)
    return folder


def _give(folder: int, name: str, uid: int) -> None:
    """A file of the log, by its descriptor, and only where it is one: whoever was that user before may have put a link there."""
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode) or status.st_uid == uid:
        return
    descriptor = opened(folder, name, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
            os.fchown(descriptor, uid, uid)
    finally:
        os.close(descriptor)


def _locked(folder: int) -> int:
    """One auditor at a time: the last one may still be writing what it was sent."""
    descriptor = opened(folder, LOCK, os.O_RDWR | os.O_CREAT)
    deadline = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return descriptor


if __name__ == "__main__":
    sys.exit(main())
