"""What a session of level `restricted` may see and do, as data: a page to be read beside `policy.py`. The mechanism is `guest/warden.py`.

There is no root of its own here that holds only what is listed: the machine's (or container's) files are all there, and Landlock says which
of them can be opened. Landlock knows nothing of sockets by path, of UDP, of modes and times of files; and sessions of an
ordinary user's server share his id with it. So system calls are fewer than at level `namespace`: no sockets but pairs, none of the kinds of
shared memory and queues that have names, nothing that changes a file by its path without opening it.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyseccomp

from carrel.backends import arguments, policy
from carrel.models import PoolSpec

# Besides policy.SYSTEM_PATHS, which can be read and executed.
READABLE = ("/etc/group", "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/timezone")
# No other process, and of the own interpreter its folder.
PROC_FACTS = tuple(
    f"/proc/{name}" for name in ("cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "uptime", "version")
)
DEVICES = tuple(f"/dev/{name}" for name in policy.DEVICES)
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - where every session has a user of its own, whose files nobody else can open

_SIGNALS_ABI = 6  # the first that keeps signals inside
_TRUNCATE_ABI = 3
_NEEDLESS = "accept accept4 bind connect listen"  # on sockets that cannot be made
_NAMED = (
    "mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop \
    shmat shmctl shmdt shmget memfd_create"
)
_OF_OTHERS = "sched_setaffinity setpriority"  # of processes of the same user; allowed for the caller itself
_SIGNALS = "kill pidfd_send_signal rt_sigqueueinfo rt_tgsigqueueinfo tgkill tkill"
_OWNERS = "chown fchown fchownat fremovexattr fsetxattr lchown lremovexattr lsetxattr removexattr setxattr"
_PRETENDED = "chmod fchmod fchmodat fchmodat2 futimesat utime utimensat utimes"
_SIGNAL_OWNERS = (8, 10, 15)  # fcntl: F_SETOWN, F_SETSIG, F_SETOWN_EX
_ENOSYS, _ENETUNREACH = 38, 101
_PR_SET_SECCOMP = 22


@dataclass(frozen=True, slots=True)
class Machine:
    """What sessions can be given here: a user id each or not, and the Landlock ABI."""

    has_own_ids: bool
    landlock: int

    @property
    def can_signal(self) -> bool:
        """Whether the kernel keeps a session's signals inside it."""
        return self.has_own_ids or self.landlock >= _SIGNALS_ABI


def rules(machine: Machine, programs: list[Path]) -> list[list[str]]:
    """Landlock rules of an interpreter, its own folder and its own process left out. `programs`: interpreter, image, library."""
    found = [[path, "execute"] for path in (*policy.SYSTEM_PATHS, *policy.SYSTEM_LINKS, *map(str, programs))]
    found += [[path, "read"] for path in (*READABLE, *PROC_FACTS)]
    found += [[path, "device"] for path in DEVICES]
    return [*found, [SHARED_MEMORY, "unlisted"]] if machine.has_own_ids else found


def warden_rules(machine: Machine, programs: list[Path]) -> list[list[str]]:
    """What any process of a session may have at the most: an interpreter's, and /proc, in which the warden counts."""
    return [*rules(machine, programs), ["/proc", "read"]]


def rlimits(pool: PoolSpec, machine: Machine) -> dict[str, int]:
    """Each process's. RLIMIT_NPROC counts a user's processes: where that is the server's, it only keeps a fork bomb from everybody else."""
    limits = policy.rlimits(pool, has_memory_cgroup=False)
    del limits["RLIMIT_CORE"]  # the warden's own, which its filter lets nobody change
    limits["RLIMIT_FSIZE"] = pool.data_bytes
    limits["RLIMIT_NPROC"] = pool.pids if machine.has_own_ids else 16 * pool.pids
    return limits


_WARDEN_RLIMITS = {"RLIMIT_CORE": policy.CORE_LIMIT, "RLIMIT_NOFILE": 4096}


@cache
def seccomp(machine: Machine) -> str:
    """The code's system calls, compiled, in base64. Raises SandboxStartFailed.

    Where the code has the server's user: changes of modes and times are answered with success and not made (Landlock does not see them,
    and shutil.copy must not fail); without Landlock's scopes it sends no signals, not even to itself.
    """
    refused = f"{_NEEDLESS} {_NAMED} {_OF_OTHERS}"
    if not machine.has_own_ids:
        refused += f" {_OWNERS} {_PRETENDED}"
    if not machine.can_signal:
        refused += f" {_SIGNALS}"
    if machine.landlock < _TRUNCATE_ABI:
        refused += " truncate"
    program = _program(frozenset(refused.split()), set() if machine.can_signal else set(_SIGNAL_OWNERS))
    if not machine.has_own_ids:
        for name in _PRETENDED.split():
            if policy.is_known(name):
                program.add_rule(pyseccomp.ERRNO(0), name)
    return policy.compiled(program)


@cache
def warden_seccomp() -> str:
    """The warden's: it signals, forks, and restricts its interpreters further."""
    program = _program(frozenset(f"{_NEEDLESS} {_NAMED} {_OF_OTHERS}".split()), set())
    for name in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
        program.add_rule(pyseccomp.ALLOW, name)
    program.add_rule(pyseccomp.ALLOW, "prctl", pyseccomp.Arg(0, pyseccomp.EQ, _PR_SET_SECCOMP))
    return policy.compiled(program)


def _program(refused: frozenset[str], fcntl_refused: set[int]) -> pyseccomp.SyscallFilter:
    program = pyseccomp.SyscallFilter(pyseccomp.ERRNO(policy.EPERM))
    program.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)
    for name in policy.ALLOWED_SYSCALLS:
        if name not in refused and policy.is_known(name):
            program.add_rule(pyseccomp.ALLOW, name)
    policy.allow_by_arguments(program, refused, fcntl_refused)
    for family in (2, 10):  # AF_INET, AF_INET6: what the code would be told where there is no network
        program.add_rule(pyseccomp.ERRNO(_ENETUNREACH), "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    for kind in (1, 5):  # of pairs SOCK_STREAM and SOCK_SEQPACKET: a datagram socket could send to any name
        own = (pyseccomp.Arg(0, pyseccomp.EQ, 1), pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xF, kind))
        program.add_rule(pyseccomp.ALLOW, "socketpair", *own)
    program.add_rule(pyseccomp.ALLOW, "sched_setaffinity", pyseccomp.Arg(0, pyseccomp.EQ, 0))
    program.add_rule(
        pyseccomp.ALLOW, "setpriority", pyseccomp.Arg(0, pyseccomp.EQ, 0), pyseccomp.Arg(1, pyseccomp.EQ, 0)
    )
    return program


# ---- the template ----------------------------------------------------------------------------------------------------------------

_NOT_FOR_TEMPLATES = (
    "setuid setgid setreuid setregid setfsuid setfsgid setgroups ptrace process_vm_readv process_vm_writev mount umount2 pivot_root chroot "
    "unshare setns bpf keyctl add_key request_key perf_event_open userfaultfd io_uring_setup kexec_load init_module finit_module "
    "delete_module open_by_handle_at reboot swapon swapoff"
)


def template_seccomp(ids: range | None) -> bytes:
    """Image code may become a session's user, and nobody else, root least of all: by setresuid and setresgid, all three ids at once.

    Everything else is allowed: wheels are the operator's, not the caller's. The network is not among it, as at other levels.
    """
    program = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in _NOT_FOR_TEMPLATES.split():
        if policy.is_known(name):
            program.add_rule(pyseccomp.ERRNO(policy.EPERM), name)
    # A user namespace would be a way round the rest: who may change ids here may map any id but 0 into it (user_namespaces(7)).
    for bit in range(32):
        if flag := arguments.NEW_NAMESPACES & 1 << bit:
            rule = pyseccomp.Arg(0, pyseccomp.MASKED_EQ, flag, flag)
            program.add_rule(pyseccomp.ERRNO(policy.EPERM), "clone", rule)
    program.add_rule(pyseccomp.ERRNO(_ENOSYS), "clone3")  # its flags are out of a filter's sight; libc takes clone then
    for family in (2, 10, 16, 17):
        program.add_rule(pyseccomp.ERRNO(policy.EPERM), "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    for name in ("setresuid", "setresgid"):
        if ids is None:
            program.add_rule(pyseccomp.ERRNO(policy.EPERM), name)
            continue
        for index in range(3):
            program.add_rule(pyseccomp.ERRNO(policy.EPERM), name, pyseccomp.Arg(index, pyseccomp.LT, ids.start))
            program.add_rule(pyseccomp.ERRNO(policy.EPERM), name, pyseccomp.Arg(index, pyseccomp.GT, ids.stop - 1))
    return base64.b64decode(policy.compiled(program))


def template(
    machine: Machine, programs: list[Path], folder: Path, sessions: Path, first_uid: int | None
) -> dict[str, Any]:
    """What `guest/warden.py` is started with; what it imports is added by who starts it."""
    return {
        "folder": str(folder),
        "sessions": str(sessions),
        "first_uid": first_uid,
        "abi": machine.landlock,
        "kills_at_once": machine.can_signal,
        "rules": rules(machine, programs),
        "warden_rules": warden_rules(machine, programs),
        "seccomp": seccomp(machine),
        "warden_seccomp": warden_seccomp(),
    }


def session(pool: PoolSpec, machine: Machine, number: int) -> dict[str, Any]:
    """What is one session's own."""
    return {
        "number": number,
        "pids": pool.pids,
        "memory_bytes": pool.memory_bytes,
        "rlimits": rlimits(pool, machine),
        "warden_rlimits": {**_WARDEN_RLIMITS, "RLIMIT_FSIZE": pool.data_bytes},
        "environment": policy.runtime(pool),
    }


def weaknesses(machine: Machine) -> list[str]:
    """What an operator has to know of this level here, a sentence each."""
    found = [
        "level restricted is not full isolation: sessions share the machine's processes table, its processor, memory and disk; "
        "memory and processes are counted by a watcher, files one by one"
    ]
    if not machine.has_own_ids:
        found.append(
            "sessions share the server's user id: only Landlock and seccomp keep them apart; as root each has one of its own"
        )
    if machine.landlock < _SIGNALS_ABI:
        found.append(
            f"this kernel's Landlock has ABI {machine.landlock}: "
            + (
                "abstract sockets are kept out by seccomp alone"
                if machine.has_own_ids
                else "code can send no signals, not even to itself"
            )
        )
    return found
