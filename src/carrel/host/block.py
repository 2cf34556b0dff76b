"""The cell block as the spawner makes it: the sandbox's root tree, namespaces, ids, init.

Step by step: a child makes a mount namespace and, as root, builds the sandbox's root tree there, where it may read places like a 0700
home; then it makes user, mount, pid, net, ipc, uts and cgroup namespaces; the spawner maps ids: as root a range of host ids without 0,
otherwise the user's own as 0 and the subordinate ones from 1 on (`subids.py`), or the own one alone; the child's child becomes
`guest/init.py`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from carrel.backends import guestlib, ids, images, policy
from carrel.backends.advice import NO_NAMESPACES
from carrel.backends.bundle import RUNSC
from carrel.backends.spawning import Setup
from carrel.guest import init, linux
from carrel.host import subids
from carrel.host.parts import Answer, Operation, Request

# Where the tree is put together, in a mount namespace of its own: a folder that every machine has, that every user may enter (the cell
# block's root is one), and that nothing in the tree is taken from.
_ROOT = "/sys"
_NAMESPACES = (
    linux.CLONE_NEWUSER
    | linux.CLONE_NEWNS
    | linux.CLONE_NEWPID
    | linux.CLONE_NEWNET
    | linux.CLONE_NEWIPC
    | linux.CLONE_NEWUTS
    | linux.CLONE_NEWCGROUP
)


class Block:
    """The cell block's process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._pid: int | None = None
        self._runsc: str | None = None

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"block": self._start}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {"slot": ids.slot(self._setup.state)}

    def _start(self, request: Request, descriptors: list[int]) -> Answer:
        """The descriptor is init's socket to the host. What is mounted has been built by `image` before; `runsc` is what PATH has here.

        Answers how many ids sessions may have of their own, and why it is none.
        """
        if self._pid is not None:
            return {"error": "the cell block runs already"}, []
        self._runsc = shutil.which("runsc") if request.get("runsc") else None
        if request.get("runsc") and self._runsc is None:
            return {"error": "there is no runsc on the server's PATH"}, []
        if os.geteuid() == 0:
            answer = self._try(descriptors, partial(_map_range, ids.sessions(self._setup.state)))
            return {**answer, "own_ids": policy.OWN_IDS}, []
        found, reason = subids.ranges(), ""
        if isinstance(found, subids.Ranges):
            sub = found
            answer = self._try(descriptors, lambda pid: subids.map_into(pid, sub))
            if "error" not in answer:
                return {**answer, "own_ids": min(len(sub.uids), policy.OWN_IDS)}, []
            reason = answer["error"]
        else:
            reason = found
        return {**self._try(descriptors, _map_own), "own_ids": 0, "no_ids_reason": reason}, []

    def _try(self, descriptors: list[int], map_ids: Callable[[int], str]) -> dict[str, Any]:
        """A cell block with this mapping of ids; nothing is left of one that fails."""
        paths = _own_paths(self._setup.images)
        if self._runsc is not None:
            paths[self._runsc] = RUNSC
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            _run_block(paths, descriptors[0], theirs)
        theirs.close()
        self._pid = pid
        with ours:
            word = ours.recv(4096)
            error = (
                _told(map_ids, pid) if word == b"unshared" else word.decode("utf-8", "replace") or "it ended at once"
            )
            if not error:
                ours.send(b"mapped" if map_ids is _map_own else b"mapped a range")
                error = ours.recv(4096).decode("utf-8", "replace")  # closed by the exec that ends a good start
        if error:
            self.close()
            return {"error": error}
        return {"pid": pid}

    def open_namespace(self, name: str) -> int:
        """A descriptor of the block's own namespace `name` (as in /proc/PID/ns). Raises OSError where there is none."""
        if self._pid is None:
            raise ProcessLookupError(errno.ESRCH, "the cell block is not running")
        return linux.open_namespace(name, self._pid)

    def close(self) -> None:
        if self._pid is not None:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self._pid = None


def _own_paths(folder: Path) -> dict[str, str]:
    """What of ours is mounted, and where."""
    python = images.ensure_python(folder, lambda _line: None)
    return {
        str(python): "/opt/carrel/python",
        str(guestlib.ensure(folder)): "/opt/carrel/lib",
        str(folder): "/opt/carrel/images",
    }


def _told(map_ids: Callable[[int], str], pid: int) -> str:
    """What came of `map_ids`; an error is a reason too."""
    try:
        return map_ids(pid)
    except OSError as error:
        return (
            f"ids cannot be mapped into a user namespace: {error.strerror} (as root it takes CAP_SETUID and CAP_SETGID)"
        )


def _map_range(own: range, pid: int) -> str:
    return _write_maps(pid, *[f"0 {own.start} {len(own)}"] * 2)


def _map_own(pid: int) -> str:
    """Without privileges one's own ids only, and setgroups has to be denied first (user_namespaces(7))."""
    Path(f"/proc/{pid}/setgroups").write_text("deny")
    return _write_maps(pid, f"0 {os.geteuid()} 1", f"0 {os.getegid()} 1")


def _write_maps(pid: int, uids: str, gids: str) -> str:
    Path(f"/proc/{pid}/uid_map").write_text(uids)
    Path(f"/proc/{pid}/gid_map").write_text(gids)
    return ""


class _Refused(Exception):
    """This machine does not allow what the cell block stands on; the message says what."""


def _unshare(flags: int) -> None:
    try:
        linux.unshare(flags)
    except OSError as error:
        raise _Refused(f"{NO_NAMESPACES} on this machine (unshare: {error.strerror})") from error


def _run_block(paths: Mapping[str, str], init_socket: int, spawner: socket.socket) -> None:
    """The child's life: namespaces, then a fork whose child is init; this process waits for it. Never returns."""
    try:
        linux.die_with_parent()
        linux.keep_only(init_socket, spawner.fileno())
        is_root = os.geteuid() == 0
        if is_root:
            _unshare(linux.CLONE_NEWNS)
            build_root(_ROOT, paths)
        _unshare(_NAMESPACES)
        spawner.send(b"unshared")
        if not (word := spawner.recv(16)):
            os._exit(1)
        if word == b"mapped a range":
            os.setgroups([])  # those of whoever started the server, which would open files to every session
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        linux.set_dumpable(True)
        linux.die_with_parent()
        pid = os.fork()
        if pid == 0:
            if not is_root:
                build_root(_ROOT, paths)
            init.enter(_ROOT, init_socket)
        spawner.close()
        os.close(init_socket)
        os.waitpid(pid, 0)
    except _Refused as error:
        spawner.send(str(error).encode())
    except OSError as error:
        text = f"{error.strerror} {error.filename or ''} ({_place(error)})"
        with contextlib.suppress(OSError):
            spawner.send(text.encode())
    finally:
        os._exit(1)


def _place(error: BaseException) -> str:
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-2:]
    return "; ".join(f"{frame.name}: {frame.line}" for frame in last)


def build_root(root: str, paths: Mapping[str, str]) -> None:
    """The read-only tree that every sandbox sees: `policy.py` made real, in this process's own mount namespace."""
    os.umask(0o022)  # world-readable: the cell block's root is another user than the one who builds this
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("tmpfs", root, "tmpfs", linux.MS_NOSUID, "size=1m,nr_inodes=4096,mode=755")
    tree = Path(root)
    for path in policy.EMPTY_DIRECTORIES:
        (tree / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
    (tree / "etc").mkdir(exist_ok=True)
    for name, text in policy.ETC_FILES.items():
        (tree / "etc" / name).write_text(text)
    for path in (*policy.SYSTEM_PATHS, *policy.SYSTEM_LINKS):
        _take(Path(path), tree / path.lstrip("/"))
    for name in policy.DEVICES:
        target = tree / "dev" / name
        target.touch()
        linux.mount(f"/dev/{name}", str(target), None, linux.MS_BIND)
    for name, link in policy.DEVICE_LINKS.items():
        (tree / "dev" / name).symlink_to(link)
    for source, path in paths.items():
        _bind(Path(source), tree / path.lstrip("/"))
    _seal(root, (*policy.SYSTEM_PATHS, *policy.SYSTEM_LINKS, *paths.values()))


def _seal(root: str, without_devices: tuple[str, ...]) -> None:
    """Read-only and without set-uid everywhere; devices only where the device files are."""
    linux.restrict_mount(root, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID)
    for path in without_devices:
        inside = f"{root}{path}"
        if os.path.ismount(inside):  # Path.is_mount says no to a file
            linux.restrict_mount(inside, linux.MOUNT_ATTR_NODEV)


def _take(path: Path, target: Path) -> None:
    """A system path into the tree: a link as the same link, anything else as a bind; nothing where it does not exist."""
    if path.is_symlink():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path.readlink())
    elif path.exists():
        _bind(path, target)


def _bind(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        target.mkdir(exist_ok=True)
    else:
        target.touch()
    linux.mount(str(source), str(target), None, linux.MS_BIND | linux.MS_REC)
