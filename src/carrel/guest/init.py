"""The first process of the cell block: enters its root, starts templates as it is told, reaps everything, and dies with
the spawner.

It is run in two parts. `enter` is called by the spawner's child inside the new namespaces and ends in an exec of this
file by the image's interpreter, with an empty environment, so that nothing of the host's memory is in any process of
the cell block. `main` is what that exec runs: requests come over a SEQPACKET socket, one JSON object with its
descriptors each.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from typing import Any

from carrel.guest import linux
from carrel.guest.template import MAX_MESSAGE

PYTHON = "/opt/carrel/python/bin/python3"
IMAGE_PYTHON = "/opt/carrel/image/bin/python3"
_BOOT = "import sys; sys.path.insert(0, '/opt/carrel/lib'); from carrel.guest.{0} import main; main({1})"


def enter(root: str, host_fd: int) -> None:
    """Make `root`, a prepared tree of mounts, this mount namespace's root, and become init there. Returns only by raising OSError.

    The bind of the tree onto itself gives a mount that this namespace owns: one made by a more privileged namespace is locked and
    pivot_root refuses it. proc is mounted while the old root's is still in sight, since the kernel allows no user namespace a
    new proc that shows more than what it could see before (mount_too_revealing).
    """
    linux.mount(root, root, None, linux.MS_BIND | linux.MS_REC)
    linux.mount("proc", f"{root}/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    os.chdir(root)
    linux.pivot_root(".", ".")
    linux.umount(".")
    os.chdir("/")
    socket.sethostname("carrel")
    os.setsid()  # out of the server's session: no controlling terminal, no Ctrl-C of its
    linux.die_with_parent()
    os.set_inheritable(host_fd, True)
    code = _BOOT.format("init", host_fd)
    os.execve(PYTHON, [PYTHON, "-I", "-S", "-c", code], {})  # noqa: S606 - an exec is the point


def main(host_fd: int) -> None:
    linux.die_with_parent()
    linux.keep_only(host_fd)
    host = socket.socket(fileno=host_fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wakeup, signal_end = socket.socketpair()
    wakeup.setblocking(False)
    signal_end.setblocking(False)
    signal.set_wakeup_fd(signal_end.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    poll.register(host, select.POLLIN)
    poll.register(wakeup, select.POLLIN)
    host.send(b'{"ready": true}')
    while True:
        for fd, _events in poll.poll():
            if fd == wakeup.fileno():
                wakeup.recv(4096)
                _reap()
                continue
            data, descriptors, _flags, _address = socket.recv_fds(host, MAX_MESSAGE, 4, socket.MSG_CMSG_CLOEXEC)
            if not data:
                return  # the host is gone: the end of pid 1 is the end of every process here
            _start(json.loads(data), descriptors)


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _start(request: dict[str, Any], descriptors: list[int]) -> None:
    """Start a template. Descriptors: its socket to the host, its stderr."""
    pid = os.fork()
    if pid == 0:
        try:
            _exec_template(request, *descriptors)
        except OSError as error:
            os.write(descriptors[1], f"{error}\n".encode())
        finally:
            os._exit(127)
    for fd in descriptors:
        os.close(fd)


def _exec_template(request: dict[str, Any], host_fd: int, stderr: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    python, flags, kind = PYTHON, ["-I", "-S"], request["kind"]
    if kind == "image":
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET)  # the cell block's own may have a way out
        linux.mount(f"/opt/carrel/images/{request['image']}", "/opt/carrel/image", None, linux.MS_BIND)
        linux.mount(
            "tmpfs", "/opt/carrel/images", "tmpfs", linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV, "size=4k"
        )
        # Libraries write while they are imported, and remember it for ever where they cannot; every sandbox has its own on top of these.
        for path in request["writable"]:
            linux.mount("tmpfs", path, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "size=64m,mode=1777")
        if request["runtime"] == "python":
            python, flags = IMAGE_PYTHON, ["-I"]
    null = os.open("/dev/null", os.O_RDWR)
    for target, source in enumerate((null, stderr, stderr)):
        os.dup2(source, target)
    os.set_inheritable(host_fd, True)
    its_guest = f"{request['preload']!r}, {request['runtime']!r}, {request['guest']!r}"
    code = _BOOT.format("template", f"{kind!r}, {host_fd}, {its_guest}")
    os.execve(python, [python, *flags, "-c", code], request["environment"])  # noqa: S606 - an exec is the point


if __name__ == "__main__":
    main(int(sys.argv[1]))
