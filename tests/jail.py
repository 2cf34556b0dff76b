"""A jail like a default container's, to run a whole `carrel serve` in: what is left when nobody thought of sandboxes.

    with jail.serve(Jail(user="nobody"), state, "--isolation", "auto") as server: …
    subprocess.run(Jail().command("carrel", "doctor"))

It is what `docker run` does without options: pid, mount, ipc, uts and cgroup namespaces and no user namespace; /sys with its control groups
and /proc/sys read-only, the masks over /proc, a /dev of six nodes; Docker's fourteen capabilities in the bounding set and, as root, in
force; system calls that need another capability refused by seccomp, new namespaces by any call among them. Unlike there, files and
the network are the host's, so that tests reach the server, and the command is pid 1, as a container's is. Making it needs real root.

Sources: https://docs.docker.com/engine/security/seccomp/, https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import json
import os
import pwd
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pyseccomp

from carrel.cli import launch
from carrel.guest import linux
from carrel.models import Level

if TYPE_CHECKING:
    from conftest import Server

_CAPABILITIES = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setpcap": 8,
    "net_bind_service": 10,
    "net_raw": 13,
    "sys_chroot": 18,
    "mknod": 27,
    "audit_write": 29,
    "setfcap": 31,
}
# Refused without a capability that a container does not have, or to everybody.
_REFUSED = (  # noqa: SIM905 - as a list it would fill two screens
    "acct add_key bpf clock_settime create_module delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick get_mempolicy "
    "init_module io_uring_enter io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind "
    "mount mount_setattr move_mount move_pages nfsservctl open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root "
    "process_madvise query_module quotactl reboot request_key set_mempolicy setdomainname sethostname setns settimeofday swapoff swapon "
    "sysfs syslog umount2 unshare uselib userfaultfd ustat vhangup"
).split()
_NEW_NAMESPACES = 0x7E020080
_LANDLOCK = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
_VERSION_ASKED, _SET_MODE_FILTER, _NEW_LISTENER = 1, 1, 8
_NOTIF_RECV, _NOTIF_SEND = 0xC0502100, 0xC0182101  # linux/seccomp.h
_AF_ALG, _AF_VSOCK = 38, 40
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_MASKED = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/scsi", "/proc/timer_list", "/sys/firmware")
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


@dataclass(frozen=True, slots=True)
class Jail:
    """`user`: an ordinary user (`USER` in the container file) instead of root. `landlock`: whether the container lets it through;
    `landlock_abi`: the version that the kernel is to claim, of an older one. `no_new_privileges`: as Kubernetes'
    allowPrivilegeEscalation=false. `capabilities`: names of those that root is left with.
    """

    user: str | None = None
    landlock: bool = True
    landlock_abi: int | None = None
    no_new_privileges: bool = False
    capabilities: tuple[str, ...] = tuple(_CAPABILITIES)

    def command(self, *arguments: str) -> list[str]:
        """What to run so that `arguments` run inside. Skips where the jail's user could not even start our interpreter."""
        if self.user and arguments[0] == sys.executable and not can_run(self.user):
            import pytest  # not above: what runs in the jail needs nothing of it

            pytest.skip(f"user {self.user} cannot run {sys.executable}")
        return [sys.executable, __file__, json.dumps(asdict(self)), *arguments]


def ordinary_user() -> str:
    """A user of this machine, with a folder of its own, who can run our interpreter. Skips where there is none."""
    import pytest  # not above: what runs in the jail needs nothing of it

    names = (entry.pw_name for entry in pwd.getpwall() if entry.pw_uid >= 1000 and _has_home(entry))
    user = next(filter(can_run, names), None)
    if user is None:
        pytest.skip("this machine has no ordinary user who can run our interpreter")
    return user


def _has_home(entry: pwd.struct_passwd) -> bool:
    return Path(entry.pw_dir).is_dir() and Path(entry.pw_dir).stat().st_uid == entry.pw_uid


@functools.cache
def can_run(user: str) -> bool:
    """Whether `user` can start this interpreter, which may lie in a folder of root's."""
    entry = pwd.getpwnam(user)
    command = [sys.executable, "-P", "-m", "carrel.cli", "--version"]
    try:
        subprocess.run(
            command, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], stdout=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@functools.cache
def why_not() -> str | None:
    """Why this machine can make no jail, for a test to skip; None where it can."""
    if os.geteuid() != 0:
        return "only root can make the jail"
    tried = subprocess.run(Jail().command("/bin/true"), capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"the jail cannot be made here: {tried.stderr.strip()[-300:]}"


@contextlib.contextmanager
def serve(jail: Jail, state: Path, *arguments: str, level: Level = Level.RESTRICTED) -> Iterator[Server]:
    """`carrel serve` in a jail, on free ports, with the folder `state`; stopped after the block. `pids` of it are the jail's numbers.

    Raises launch.LaunchError where it ends instead of serving; it said why on stderr.
    """
    from conftest import Server  # not above: what runs in the jail needs nothing of it

    if jail.user:
        shutil.chown(state, jail.user)
    serving = ["serve", "--state", str(state), "--port", "0", "--tls-port", "0", *arguments]
    command = jail.command(sys.executable, "-P", "-m", "carrel.cli", *serving)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, process_group=0)
    try:
        while not (state / "connection.json").exists():
            if process.poll() is not None:
                raise launch.LaunchError(f"carrel serve ended with status {process.returncode}")
            time.sleep(0.05)
        yield Server(state, level, process)
    finally:
        launch.stop(process)


# ---- the jail itself -------------------------------------------------------------------------------------------------------------


def main(options: str, command: list[str]) -> int:
    """Run `command` as pid 1 of a jail; signals that would end this process go to it, and its end is ours."""
    fields = json.loads(options)
    jail = Jail(**{**fields, "capabilities": tuple(fields["capabilities"])})
    linux.die_with_parent()
    linux.unshare(
        linux.CLONE_NEWNS | linux.CLONE_NEWPID | linux.CLONE_NEWIPC | linux.CLONE_NEWUTS | linux.CLONE_NEWCGROUP
    )
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _enter(jail, command, theirs)
    theirs.close()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: os.kill(pid, number))
    if jail.landlock_abi is not None:
        _claim(ours, jail.landlock_abi, os.pidfd_open(pid))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF


def _enter(jail: Jail, command: list[str], outside: socket.socket) -> NoReturn:
    try:
        linux.die_with_parent()
        _mount()
        if jail.landlock_abi is not None:
            _ask_outside(outside)
        linux.load_seccomp(_filter(jail))  # while CAP_SYS_ADMIN allows it without no_new_privs, as Docker does
        _drop(jail)
        os.execv(shutil.which(command[0]) or command[0], command)  # noqa: S606 - an exec is the point
    except BaseException as error:
        os.write(2, f"jail: {error!r}\n".encode())
    os._exit(126)


def _mount() -> None:
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    linux.restrict_mount("/sys", linux.MOUNT_ATTR_RDONLY)
    for path in _READ_ONLY:
        if Path(path).exists():
            linux.mount(path, path, None, linux.MS_BIND | linux.MS_REC)
            linux.restrict_mount(path, linux.MOUNT_ATTR_RDONLY)
    for path in _MASKED:
        if Path(path).is_dir():
            linux.mount("tmpfs", path, "tmpfs", linux.MS_RDONLY, "size=4k")
        elif Path(path).exists():
            linux.mount("/dev/null", path, None, linux.MS_BIND)
    os.umask(0)
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID, "size=64k,mode=755")
    for name, numbers in DEVICES.items():
        os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(*numbers))
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        Path("/dev", name).symlink_to(f"/proc/self/{target}")
    Path("/dev/shm").mkdir()
    linux.mount("shm", "/dev/shm", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "size=64m,mode=1777")
    os.umask(0o022)


def _filter(jail: Jail) -> bytes:
    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    program.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    for name in _REFUSED:
        with contextlib.suppress(OSError):  # not a call of this architecture
            program.add_rule(pyseccomp.ERRNO(1), name)
    for index in range(32):
        flag = 1 << index
        if flag & _NEW_NAMESPACES:
            program.add_rule(pyseccomp.ERRNO(1), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag))
    program.add_rule(pyseccomp.ERRNO(38), "clone3")
    for family in (_AF_ALG, _AF_VSOCK):
        program.add_rule(pyseccomp.ERRNO(1), "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    for name in () if jail.landlock else _LANDLOCK:
        program.add_rule(pyseccomp.ERRNO(1), name)
    return _exported(program)


def _exported(program: pyseccomp.SyscallFilter) -> bytes:
    with tempfile.TemporaryFile(dir="/tmp") as out:
        program.export_bpf(out)
        out.seek(0)
        return out.read()


def _ask_outside(outside: socket.socket) -> None:
    """Have the question for Landlock's version answered by the process outside, by seccomp's user notification (seccomp(2))."""
    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    program.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    program.add_rule(pyseccomp.NOTIFY, _LANDLOCK[0], pyseccomp.Arg(2, pyseccomp.EQ, _VERSION_ASKED))
    compiled = ctypes.create_string_buffer(_exported(program))
    fprog = struct.pack("HxxxxxxP", (len(compiled) - 1) // 8, ctypes.addressof(compiled))
    seccomp = int(pyseccomp.resolve_syscall(pyseccomp.system_arch(), "seccomp"))
    arguments = [ctypes.c_long(number) for number in (seccomp, _SET_MODE_FILTER, _NEW_LISTENER)]
    listener = ctypes.CDLL(None, use_errno=True).syscall(*arguments, ctypes.create_string_buffer(fprog))
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp: no listener")
    socket.send_fds(outside, [b"listener"], [listener])
    os.close(listener)


def _claim(inside: socket.socket, abi: int, jailed: int) -> None:
    """Answer every question for the version with `abi`, until the process `jailed` has ended."""
    _data, descriptors, _flags, _address = socket.recv_fds(inside, 16, 1)
    while descriptors and jailed not in (ready := select.select([*descriptors, jailed], [], [])[0]):
        with contextlib.suppress(OSError):  # who asked is dead, or the jail
            asked = fcntl.ioctl(ready[0], _NOTIF_RECV, bytes(80))
            number = int.from_bytes(asked[:8], sys.byteorder)
            fcntl.ioctl(ready[0], _NOTIF_SEND, struct.pack("QqiI", number, abi, 0, 0))


def _drop(jail: Jail) -> None:
    """The capabilities that a container has, and no more; an ordinary user has none."""
    kept = [_CAPABILITIES[name] for name in jail.capabilities]
    linux.drop_bounding_set(kept)
    if jail.user:
        entry = pwd.getpwnam(jail.user)
        os.setgroups([])
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
        os.environ.update(HOME=entry.pw_dir, USER=jail.user, LOGNAME=jail.user)
    else:
        linux.set_capabilities(kept)
    if jail.no_new_privileges:
        linux.no_new_privileges()
    linux.die_with_parent()  # forgotten with the change of ids


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
