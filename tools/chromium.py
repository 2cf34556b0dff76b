"""The machine's own chromium, for tests and pictures of the console.

Chromium listens (by netlink) for interfaces that come and go, and breaks every connection off when one does: ERR_NETWORK_CHANGED. Servers
under test make and take away an interface with each sandbox that has a network. So it is started without the right to a netlink socket:
then it takes the network to be there, and leaves it at that.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# As root, in a container: its own sandbox wants namespaces that may not be there, and /dev/shm may be small. What it opens is ours.
ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage"]

_WRAPPER = """#!/bin/sh
exec {python} -c '
import errno, os, socket, sys
import pyseccomp as seccomp
try:
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    rules.add_rule(seccomp.ERRNO(errno.EPERM), "socket", seccomp.Arg(0, seccomp.EQ, socket.AF_NETLINK))
    rules.load()
except OSError:
    pass  # a kernel without filters: the browser starts all the same
os.execv(sys.argv[1], sys.argv[1:])
' {program} "$@"
"""


def found() -> str | None:
    """The browser of this machine."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def wrapped(program: str, folder: Path) -> Path:
    """What starts it in that way: a script in `folder`."""
    script = folder / "carrel-browser"
    script.write_text(_WRAPPER.format(python=shlex.quote(sys.executable), program=shlex.quote(program)))
    script.chmod(0o700)
    return script
