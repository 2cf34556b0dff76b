"""The spawner's part of level `restricted`: users of their own for templates and sessions, a folder for each, and the end of both.

    /var/tmp/carrel-PID-START/          locked (flock) by the spawner as long as it lives, by which a later start knows what is left over
        template-N/                     home of a template while it imports
        N/                              a session's, made by its warden: data, home, tmp

As root the ids are a range of this server's: the first is the templates', the N-th after it session N's. A template is started with three
capabilities: to change ids (a seccomp filter lets it only into that range) and to drop capabilities; its root, were it ever to find one,
means nothing (securebits). So image code is never root, though sessions are forked from where it ran. What has to be
done to a session's processes and files when it is over is done by a child that has become its user: it can reach nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from carrel.backends import cgroups, confinement, guestlib, ids, images, policy
from carrel.backends.confinement import Machine
from carrel.backends.spawning import Setup
from carrel.errors import SandboxStartFailed
from carrel.guest import landlock, linux
from carrel.guest.threads import SINGLE_THREADED
from carrel.host.parts import Answer, Offspring, Operation, Request

_PLACE = Path("/var/tmp")  # noqa: S108 - on a disk, and everybody may enter it
_SETGID, _SETUID, _SETPCAP, _KILL = 6, 7, 8, 5
_CLEAR_S = 10
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from carrel.guest import warden; warden.main(int(sys.argv[2]), sys.argv[3])"


class Wardens:
    def __init__(self, setup: Setup, offspring: Offspring) -> None:
        self._setup, self._offspring = setup, offspring
        self._folder: Path | None = None
        self._lock = -1
        self._ids: range | None = None
        self._machine = Machine(has_own_ids=False, landlock=0)
        self._templates = 0

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"wardens": self._begin, "warden-template": self._template, "clear": self._clear}

    @property
    def facts(self) -> Mapping[str, Any]:
        return {}

    def _begin(self, _request: Request, _descriptors: list[int]) -> Answer:
        """Find out what there is and make the folder; what dead servers left is removed aside."""
        if error := why_not():
            return {"error": error}, []
        self._ids = ids.restricted(self._setup.state) if os.geteuid() == 0 else None
        self._machine = Machine(has_own_ids=self._ids is not None, landlock=landlock.version())
        images.facts()  # here, so that every child that is forked has it
        if self._folder is None:
            self._folder, self._lock = _make_place(is_shared=self._ids is not None)
        answer = {"sessions": len(self._ids) - 1 if self._ids else 0, "landlock": self._machine.landlock}
        return answer, [self._offspring.aside(partial(_sweep, self._ids))]

    def _template(self, request: Request, descriptors: list[int]) -> Answer:
        """A template for image `image`, which is built. Descriptors: its socket to the host, its stderr."""
        if self._folder is None:
            raise OSError(errno.EINVAL, "the level has not begun")
        self._templates += 1
        folder = self._folder / f"template-{self._templates}"
        job = partial(self._become_template, request["image"], folder, *descriptors)
        return {"pid": self._offspring.fork(job, descriptors)}, []

    def _become_template(self, image_name: str, folder: Path, host_fd: int, stderr: int) -> None:
        try:
            os.dup2(stderr, 2)
            os.dup2(stderr, 1)
            image = images.ensure(image_name, self._setup.images, lambda _line: None)
            library = guestlib.ensure(self._setup.images)
            if self._ids is not None:
                library = _within_reach(library)
                interpreter = replace(image.interpreter, root=_within_reach(image.interpreter.root))
                image = replace(image, root=_within_reach(image.root), interpreter=interpreter)
            self._exec(image, library, folder, host_fd)
        except (OSError, SandboxStartFailed) as error:
            os.write(2, f"{error}\n".encode())
            os._exit(127)

    def _exec(self, image: images.Image, library: Path, folder: Path, host_fd: int) -> None:
        programs = [image.interpreter.root, image.root, library]
        first = self._ids.start if self._ids is not None else None
        spec = confinement.template(self._machine, programs, folder, folder.parent, first)
        filter_of_templates = confinement.template_seccomp(self._ids)
        environment = {**policy.ENVIRONMENT, **SINGLE_THREADED, **image.host_environment(library)}
        environment |= {"HOME": str(folder), "TMPDIR": str(folder)}
        if self._ids is not None:
            _become_templates_user(self._ids.start)
        linux.die_with_parent()
        linux.no_new_privileges()
        linux.load_seccomp(filter_of_templates)
        os.set_inheritable(host_fd, True)
        guest = {"preload": image.preload, "runtime": image.runtime, "guest": image.host_guest}
        flags = ["-s", "-P"] if image.is_python else ["-I", "-S"]
        text = json.dumps({**spec, **guest})
        arguments = [str(image.host_python), *flags, "-c", _BOOT, str(library), str(host_fd), text]
        os.execve(arguments[0], arguments, environment)  # noqa: S606 - an exec is the point

    def _clear(self, request: Request, _descriptors: list[int]) -> Answer:
        """Session `number` is over: end its processes, remove its files. By a child."""
        number = int(request["number"])
        if self._folder is None or number < 1:
            raise OSError(errno.EINVAL, "no such session")

        def job(host: socket.socket) -> None:
            _clear(self._folder / str(number), self._uid(number))  # type: ignore[operator]
            host.send(b"{}")

        return {}, [self._offspring.aside(job)]

    def _uid(self, number: int) -> int | None:
        return self._ids[number] if self._ids is not None else None

    def close(self) -> None:
        """Templates and wardens have ended with the spawner's other children; what is left of sessions is ended here."""
        if self._folder is not None:
            _remove_place(self._folder, self._ids)
            os.close(self._lock)
            self._folder = None


def why_not() -> str:
    """Why this machine has no level restricted, and what to do; empty where nothing speaks against it."""
    if landlock.version() == 0:
        return (
            "there is no Landlock: the kernel is older than 5.13, or has it switched off (boot with lsm=landlock,…), "
            "or the container engine's seccomp profile refuses it (Docker lets it through from 23.0)"
        )
    if os.geteuid() == 0 and not ids.has_capabilities((_SETUID, _SETGID, _SETPCAP, _KILL)):
        return (
            "as root it needs the capabilities SETUID, SETGID, SETPCAP and KILL, which Docker gives by default; "
            "or run the server as an ordinary user"
        )
    return ""


def _become_templates_user(uid: int) -> None:
    kept = (_SETGID, _SETUID, _SETPCAP)
    linux.drop_bounding_set(kept)
    linux.root_means_nothing()
    linux.keep_capabilities(True)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    linux.set_capabilities(kept, handed_down=True)


# ---- the end of a session --------------------------------------------------------------------------------------------------------


def _is_ours(uid: int, own: range) -> bool:
    """Whether an id is one that only sessions have: anybody may have put something into a folder of root's, to have us kill for him."""
    return uid in own or policy.FIRST_ID <= uid < policy.LAST_ID


def _clear(folder: Path, uid: int | None, *, is_session: bool = True) -> None:
    """End what runs as `uid` and remove its folder. As root this process becomes that user first, so that it can harm nobody else.

    An ordinary user's sessions share his id: there the warden and its template have ended all processes, and only they could tell which.
    """
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        if is_session:
            _kill_own()
            _remove_shared_memory(uid)
    # The programs, since a tree that hostile code made may be deeper than Python's own remover can follow.
    for command in (["chmod", "-R", "u+rwX"], ["rm", "-rf"]):
        if folder.exists():
            subprocess.run(
                [*command, "--", str(folder)], env=policy.ENVIRONMENT, stderr=subprocess.DEVNULL, check=False
            )


def _remove_shared_memory(uid: int) -> None:
    for path in Path(confinement.SHARED_MEMORY).iterdir():
        with contextlib.suppress(OSError):
            if path.lstat().st_uid == uid:
                path.unlink()


def _kill_own() -> None:
    """Every other process of this user. Until none is left: one that is being forked as the signals go out is not hit by them."""
    if os.getuid() == 0:
        raise PermissionError(errno.EPERM, "never as root")
    deadline = time.monotonic() + _CLEAR_S
    while time.monotonic() < deadline:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL)
        if not any(_processes(os.getuid())):
            return
        time.sleep(0.001)


def _processes(uid: int) -> Iterator[int]:
    """Who lives and runs as `uid`, but this process."""
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are enough
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            fields = dict(line.split(":", 1) for line in Path("/proc", name, "status").read_text().splitlines())
            if int(fields["Uid"].split()[0]) == uid and fields["State"].split()[0] not in "ZX":
                yield int(name)


def _make_place(*, is_shared: bool) -> tuple[Path, int]:
    """A folder and its lock. It has its name only when it is locked: a sweep takes one that is not for a dead server's."""
    name = f"{cgroups.PREFIX}{os.getpid()}-{cgroups.start_time(os.getpid())}"
    making = _PLACE / f".{name}"
    making.mkdir(mode=0o700)
    # As root everybody may make something there, see only what is his, and remove nobody else's.
    making.chmod(0o1733 if is_shared else 0o700)
    lock = os.open(making, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return making.rename(_PLACE / name), lock


def _is_left_over(folder: Path) -> bool:
    """Whether it is ours and its owner is dead. Not by the name: a process in a container has another number there than here."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(fd).st_uid == os.geteuid()
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def _remove_place(folder: Path, own: range | None) -> None:
    """All that is in a server's folder, each by a child with its owner's id; then the folder."""
    children = []
    for path in folder.iterdir():
        uid = path.lstat().st_uid
        if own is not None and uid == 0:
            continue  # not made by us
        if (pid := os.fork()) == 0:
            try:
                _clear(path, uid if own is not None else None, is_session=own is not None and _is_ours(uid, own))
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _sweep(own: range | None, host: socket.socket) -> None:
    """Remove what servers left that were killed. As root only what lies in root's own folder, and processes by the ids of that."""
    for folder in _PLACE.glob(f"{cgroups.PREFIX}*-*"):
        with contextlib.suppress(OSError):
            if _is_left_over(folder):
                _remove_place(folder, own)
    host.send(b"{}")


# ---- images ----------------------------------------------------------------------------------------------------------------------


def _within_reach(folder: Path) -> Path:
    """`folder`, or where it lies below one that only root may enter, a copy by links that everybody can reach."""
    if all(parent.stat().st_mode & 0o001 for parent in folder.parents):
        return folder
    target = images.SHARED / folder.name
    if not target.is_dir():
        images.SHARED.mkdir(parents=True, exist_ok=True, mode=0o755)
        making = images.SHARED / f".linking-{folder.name}-{os.getpid()}"
        try:
            shutil.copytree(folder, making, symlinks=True, copy_function=_link)
            with contextlib.suppress(OSError):  # another server was quicker
                making.rename(target)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    return target


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system
        shutil.copy2(source, target, follow_symlinks=False)
