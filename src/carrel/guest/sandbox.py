"""Building one sandbox around the calling process, step by step; run by the agent (namespaces, mounts) and by each
interpreter (joining).

Both are forked from templates in the cell block, as its root: powerful there, nobody outside (decision 0008). The
agent makes every namespace but the user one while it still has the cell block's capabilities, so all of them belong
to the cell block; the user namespace comes last and owns nothing. Whoever gets all capabilities in it again has
gained no power over a mount or a network. What is mounted and masked is data from `backends/policy.py`; here is only
the order of things.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
from collections.abc import Mapping
from typing import Any

from carrel.guest import landlock, linux, veth

JOINED = (
    "pid",
    "mnt",
    "net",
    "ipc",
    "uts",
    "cgroup",
    "user",
)  # the order in which descriptors are sent; user is joined last
_FLAGS = {
    "pid": linux.CLONE_NEWPID,
    "mnt": linux.CLONE_NEWNS,
    "net": linux.CLONE_NEWNET,
    "ipc": linux.CLONE_NEWIPC,
    "uts": linux.CLONE_NEWUTS,
    "cgroup": linux.CLONE_NEWCGROUP,
    "user": linux.CLONE_NEWUSER,
}
Spec = dict[str, Any]  # backends/policy.py, `sandbox()`, says what is in it


def enclose(spec: Spec, image_mounts: int, cgroups: list[int]) -> list[int]:
    """Make this process (pid 1 of a new pid namespace already) the first of a sandbox.

    Returns its namespaces, in JOINED's order, and after them the sockets of spec["listen"].
    """
    join_cgroups(cgroups)
    taken = [
        (linux.open_tree(source), target) for source, target in spec["binds"]
    ]  # not to be seen from the image's mounts
    linux.setns(image_mounts, linux.CLONE_NEWNS)
    outside = veth.Outside() if spec["link"] else None
    linux.unshare(
        linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP
    )
    for tree, target in taken:
        linux.move_mount(tree, target)
    _mount_all(spec)
    socket.sethostname(spec["hostname"])
    linux.loopback_up()
    if outside is not None:
        outside.connect(spec["link"])
        outside.close()
    listeners = [_listener(*each) for each in spec["listen"]]
    _new_user_namespace(spec["outer_uid"], spec["uid"])
    return [*(linux.open_namespace(name) for name in JOINED), *listeners]


def join(namespaces: dict[str, int]) -> None:
    """Enter a sandbox's namespaces (the pid one was entered by the fork), the user namespace last."""
    for name in JOINED[1:]:
        linux.setns(namespaces[name], _FLAGS[name])


def join_cgroups(procs: list[int]) -> None:
    """Move this process by each open `cgroup.procs` or `tasks`: the descriptor carries the opener's right to do so."""
    for fd in procs:
        os.write(fd, b"0")


def confine(spec: Spec) -> None:
    """Give up everything that is left: limits, ids, capabilities, files, system calls. There is no way back."""
    _give_up_ids(spec, spec["rlimits"])
    if landlock.version() >= 2:  # the first one refuses every link and rename between folders
        landlock.restrict(spec["landlock"], scopes=True)
    linux.load_seccomp(spec["seccomp"])


def confine_agent(spec: Spec) -> None:
    """The same for pid 1, which reads what the code writes: fewer system calls, no memory that becomes code, no look into its memory.

    No Landlock: whoever has it sees no process outside of its own domain, and the agent measures the interpreter by /proc/PID/io.
    """
    _give_up_ids(spec, spec["agent_rlimits"], spec.get("agent_uid"))
    linux.set_dumpable(False)
    linux.refuse_new_code()
    linux.load_seccomp(spec["agent_seccomp"])


def set_limits(limits: Mapping[str, int]) -> None:
    """By their RLIMIT_… names, soft and hard."""
    for name, value in limits.items():
        kind = getattr(resource, name)
        _, most = resource.getrlimit(kind)
        limit = (
            value if most == resource.RLIM_INFINITY else min(value, most)
        )  # nobody here may raise what the server was given
        resource.setrlimit(kind, (limit, limit))


def _give_up_ids(spec: Spec, rlimits: Mapping[str, int], real_uid: int | None = None) -> None:
    set_limits(rlimits)
    linux.drop_bounding_set()
    uid = spec["uid"]
    real = uid if real_uid is None else real_uid
    os.setresgid(uid, uid, uid)
    os.setresuid(real, uid, real)
    linux.clear_capabilities()
    linux.no_new_privileges()


def reset_signals() -> None:
    """What a template changed, put back: it ignores SIGINT, and whoever started the server may have blocked some."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def keep_descriptors(wanted: list[int]) -> list[int]:
    """Move `wanted` to 0, 1, 2 …, in order, and close every other descriptor of the process."""
    above = max(*wanted, len(wanted)) + 1
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in wanted]
    kept = [os.dup2(fd, index, inheritable=index < 3) for index, fd in enumerate(high)]
    linux.close_from(len(kept))
    return kept


def _mount_all(spec: Spec) -> None:
    for target, options in spec["mounts"]:
        linux.mount("tmpfs", target, "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, options)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    for path in spec["proc_hidden"]:
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path):  # noqa: PTH112 - pathlib is an import the template can do without
                linux.mount(
                    "tmpfs", path, "tmpfs", linux.MS_RDONLY | linux.MS_NOSUID | linux.MS_NODEV, "size=4k,mode=555"
                )
            else:
                linux.mount("/dev/null", path, None, linux.MS_BIND)
    for path in spec["proc_read_only"]:
        with contextlib.suppress(FileNotFoundError):
            linux.mount(path, path, None, linux.MS_BIND | linux.MS_REC)
            linux.restrict_mount(path, linux.MOUNT_ATTR_RDONLY)


def _listener(kind: str, address: str, port: int) -> int:
    """A socket of this network namespace for the host to serve: the way out of a sandbox that needs no interface and no route.

    Made here because whoever made the namespace may bind any port in it, and the host, which may lack every privilege, could not enter it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    listener.bind((address, port))
    if kind == "tcp":
        listener.listen(128)
    return listener.detach()


def _new_user_namespace(outer: int, inner: int) -> None:
    """A user namespace with the one id `inner`, which is `outer` in the cell block; writing one's own single id needs no privilege."""
    linux.keep_capabilities(False)
    os.setresgid(outer, outer, outer)
    os.setresuid(outer, outer, outer)
    linux.set_dumpable(
        True
    )  # cleared by the change of ids; without it /proc/self/uid_map belongs to the cell block's root
    linux.unshare(linux.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{inner} {outer} 1"), ("gid_map", f"{inner} {outer} 1")):
        fd = os.open(f"/proc/self/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
