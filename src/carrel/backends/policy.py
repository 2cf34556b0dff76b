"""What a sandbox may see and do, as data: the page a reviewer reads alone. The mechanism is `guest/sandbox.py` and
`host/block.py`.

Everything not listed here is absent: system calls by an allow list, files by a root that holds these paths only,
network by a namespace that has nothing but its own loopback.
"""

from __future__ import annotations

import base64
import os
import resource
from collections.abc import Container
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import pyseccomp

from carrel.backends import arguments
from carrel.errors import SandboxStartFailed
from carrel.models import MIB, ContainerType, Network, PoolSpec

USER = "user"
UID = 1000  # inside; outside it is one host uid per session as root, the server's own uid otherwise
HOME = "/home/user"
DATA = "/mnt/data"
PACKAGES = "/opt/carrel/packages"  # where pip installs to
WHEELS = "/opt/carrel/wheels"  # the pool's own, read-only
HOSTNAME = "session"

# Host ids of the cell block, as root: a range of this size, above what distributions and container tools hand out.
ID_RANGE = 65_536
OWN_IDS = ID_RANGE - 5000  # of them sessions have 1 to this: those above are nobody and its kind
FIRST_ID, LAST_ID = 0x40000000, 0x7FFF0000

# Read-only from the host's system, where they exist. Programs and libraries that the image's wheels and `!cmd` expect; no /etc, no /home,
# no /root, no /var, no /usr/local, no /sys.
SYSTEM_PATHS = (
    "/usr/bin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share/ca-certificates",
    "/usr/share/fonts",
    "/usr/share/misc",
    "/usr/share/perl",
    "/usr/share/perl5",
    "/usr/share/terminfo",
    "/usr/share/zoneinfo",
    "/etc/ssl/certs",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/mime.types",
    "/etc/fonts",
)
# On a merged-/usr system these are links; elsewhere they are directories of their own and mounted too.
SYSTEM_LINKS = ("/bin", "/lib", "/lib64", "/lib32", "/sbin")

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
DEVICE_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}

_EMPTY = ("/proc", "/dev/shm", "/tmp", "/var/tmp", HOME, DATA, "/root", "/sys", "/run", "/opt/carrel/image")  # noqa: S108
EMPTY_DIRECTORIES = (*_EMPTY, PACKAGES, WHEELS)

TEMPLATE_WRITABLE = ("/tmp", "/dev/shm", HOME)  # noqa: S108 - small tmpfs of the template's own

ETC_FILES = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    f"{USER}:x:{UID}:{UID}::{HOME}:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "group": f"root:x:0:\n{USER}:x:{UID}:\nnogroup:x:65534:\n",
    "hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n",
    "hostname": f"{HOSTNAME}\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    # What listens there answers in sandboxes with raw egress only; elsewhere nobody does, and a program sees at once that there is no DNS.
    "resolv.conf": "nameserver 127.0.0.1\n",
    "timezone": "Etc/UTC\n",
}

# /proc: what Docker hides and makes read-only, and the host's own facts that no program needs.
PROC_HIDDEN = (
    "/proc/acpi",
    "/proc/allocinfo",
    "/proc/asound",
    "/proc/buddyinfo",
    "/proc/cmdline",
    "/proc/config.gz",
    "/proc/consoles",
    "/proc/crypto",
    "/proc/diskstats",
    "/proc/dma",
    "/proc/driver",
    "/proc/execdomains",
    "/proc/fb",
    "/proc/fs",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/locks",
    "/proc/mdstat",
    "/proc/misc",
    "/proc/modules",
    "/proc/mtrr",
    "/proc/pagetypeinfo",
    "/proc/partitions",
    "/proc/pressure",
    "/proc/sched_debug",
    "/proc/schedstat",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/softirqs",
    "/proc/sys/kernel/random/boot_id",
    "/proc/sysvipc",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/proc/vmstat",
    "/proc/zoneinfo",
)
PROC_READ_ONLY = ("/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/proc/tty")

ENVIRONMENT = {
    "HOME": HOME,
    "USER": USER,
    "LOGNAME": USER,
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TZ": "Etc/UTC",
    "PATH": "/opt/carrel/image/bin:/usr/local/bin:/usr/bin:/bin",
    "TMPDIR": "/tmp",  # noqa: S108 - the sandbox's own
}

# Where the filtering proxy (carrel.egress) listens inside a sandbox; Squid's number, which people know.
PROXY = ("127.0.0.1", 3128)
DNS = ("127.0.0.1", 53)  # where the forwarder (carrel.egress) listens inside a sandbox with raw egress
_PROXY_URL = f"http://{PROXY[0]}:{PROXY[1]}"
_NO_PROXY = "localhost,127.0.0.1,::1"


# One byte, and not to be changed by the code: with 0 a kernel whose core_pattern is a pipe still starts its helper, as the host's
# root; 1 is the value that makes it give the dump up (core(5), kernel/coredump.c).
CORE_LIMIT = 1
_CHANGEABLE_LIMITS = tuple(number for number in range(16) if number != resource.RLIMIT_CORE)


def landlock(mounts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """What Landlock lets the code do with files, where the kernel has it: a second lock behind mounts and modes.

    All that is there can be read and run, but for /proc nothing that needs it is writable that is not a mount of the sandbox's own.
    """
    return [("/", "execute"), ("/dev", "device"), *((path, "write") for path, _options in mounts)]


def tmpfs_mounts(pool: PoolSpec, owner: int) -> list[tuple[str, str]]:
    """Writable places, each with its quota; all of it counts as memory of the sandbox. `owner` is a uid of the cell block."""
    tmp_inodes = max(1024, pool.tmp_bytes // 8192)
    quotas = {
        DATA: f"size={pool.data_bytes},nr_inodes={pool.data_inodes},mode=755",
        "/tmp": f"size={pool.tmp_bytes},nr_inodes={tmp_inodes},mode=1777",  # noqa: S108 - the sandbox's own
        HOME: f"size={pool.tmp_bytes},nr_inodes={tmp_inodes},mode=755",
        "/dev/shm": f"size={pool.tmp_bytes},nr_inodes=1024,mode=1777",  # noqa: S108 - the sandbox's own
    }
    if pool.packages_bytes:
        inodes = max(1024, pool.packages_bytes // 4096)
        quotas[PACKAGES] = f"size={pool.packages_bytes},nr_inodes={inodes},mode=755"
    return [(path, f"{options},uid={owner},gid={owner}") for path, options in quotas.items()]


def limits(pool: PoolSpec) -> dict[str, Any]:
    """Of a sandbox's control groups, as `cgroups.Limits` takes them."""
    return {"memory_bytes": pool.memory_bytes, "pids": pool.pids, "cpu": pool.cpu}


def rlimits(pool: PoolSpec, *, has_memory_cgroup: bool) -> dict[str, int]:
    """Limits of each process of the code. RLIMIT_NPROC counts this sandbox's processes only, since it has a user namespace of its own.

    Without a memory control group RLIMIT_AS bounds each process (its number, above what a template maps anyway) and the host's watcher
    bounds the sum.
    """
    limits = {
        "RLIMIT_CORE": CORE_LIMIT,
        "RLIMIT_NPROC": pool.pids,
        "RLIMIT_NOFILE": 1024,
        "RLIMIT_MEMLOCK": 8 * MIB,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_SIGPENDING": 1024,
    }
    if not has_memory_cgroup:
        limits["RLIMIT_AS"] = 3 * 1024 * MIB + pool.memory_bytes
    return limits


# System calls, by what they are for. Reviewed against what CPython, IPython, numpy and their kind, bash, coreutils and pip need. Without
# inotify: all sandboxes see the same files of the host, so a watch on /usr/bin tells what the host and the others run, and its instances
# are counted against the server's user.
_FILES = """
    access chdir chmod chown close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fallocate fchdir fchmod
    fchmodat fchmodat2 fchown fchownat fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat fstatfs fsync ftruncate
    futimesat getcwd getdents getdents64 getxattr lchown lgetxattr link linkat
    listxattr llistxattr lremovexattr lseek lsetxattr lstat mkdir mkdirat mknod mknodat newfstatat open openat openat2 pread64 preadv
    preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv removexattr rename renameat renameat2 rmdir sendfile
    setxattr splice stat statfs statx symlink symlinkat sync_file_range tee truncate umask unlink unlinkat utime utimensat utimes
    write writev
"""
_PROCESSES = """
    arch_prctl capget execve execveat exit exit_group fork getegid geteuid getgid getgroups getpgid getpgrp getpid getppid getpriority
    getresgid getresuid getrlimit getrusage getsid gettid getuid kill membarrier pidfd_open pidfd_send_signal
    restart_syscall rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
    rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler
    sched_rr_get_interval sched_setaffinity sched_yield set_robust_list get_robust_list set_tid_address setfsgid setfsuid setgid
    setgroups setpgid setpriority setregid setresgid setresuid setreuid setsid setuid sigaltstack tgkill tkill vfork wait4
    waitid capset
"""
_MEMORY = """
    brk mincore mlock mlock2 mlockall mprotect mremap msync munlock munlockall munmap pkey_alloc pkey_free
    pkey_mprotect
"""
_TIME_AND_WAITING = """
    alarm clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd
    eventfd2 futex futex_waitv getitimer gettimeofday nanosleep pause poll ppoll pselect6 select setitimer signalfd signalfd4 time
    timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create timerfd_gettime timerfd_settime times
"""
_SOCKETS = """
    accept accept4 bind connect getpeername getsockname getsockopt listen pipe pipe2 recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto
    shutdown
"""
_IPC_AND_FACTS = """
    getcpu getrandom mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl
    semget semop semtimedop shmat shmctl shmdt shmget sysinfo uname
"""
ALLOWED_SYSCALLS = tuple(" ".join((_FILES, _PROCESSES, _MEMORY, _TIME_AND_WAITING, _SOCKETS, _IPC_AND_FACTS)).split())

# Memory that no process has mapped: only a control group counts it.
_MEMORY_WITHOUT_OWNER = ("memfd_create", "shmget", "msgget")
# The agent relays, does file operations and sends signals. It never starts a process or a program, nor makes a connection.
_NEW_SOCKETS_AND_PROGRAMS = """
    accept accept4 bind clone connect execve execveat fork listen memfd_create mq_open msgget semget shmget socket vfork
"""
NOT_FOR_AGENTS = tuple(_NEW_SOCKETS_AND_PROGRAMS.split())
EPERM, _ENOSYS = 1, 38


@cache
def seccomp(*, has_memory_cgroup: bool, is_agent: bool = False) -> str:
    """The allow list as a compiled BPF program for this machine's architecture, in base64. Raises SandboxStartFailed.

    EPERM for what is refused; ENOSYS for clone3, whose flags a filter cannot see, so that libc falls back to clone, whose it can. Numbers
    are compared by equality only: the filter sees 64 bits of what the kernel cuts to 32.
    """
    program = pyseccomp.SyscallFilter(pyseccomp.ERRNO(EPERM))
    program.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)
    refused = {*(() if has_memory_cgroup else _MEMORY_WITHOUT_OWNER), *(NOT_FOR_AGENTS if is_agent else ())}
    for name in ALLOWED_SYSCALLS:
        if is_known(name) and name not in refused:
            program.add_rule(pyseccomp.ALLOW, name)
    allow_by_arguments(program, refused)
    for family, protocols in arguments.SOCKET_PROTOCOLS.items():
        for protocol in () if "socket" in refused else protocols:
            rule = (pyseccomp.Arg(0, pyseccomp.EQ, family), pyseccomp.Arg(2, pyseccomp.EQ, protocol))
            program.add_rule(pyseccomp.ALLOW, "socket", *rule)
    program.add_rule(pyseccomp.ALLOW, "socketpair", pyseccomp.Arg(0, pyseccomp.EQ, 1))
    return compiled(program)


def allow_by_arguments(
    program: pyseccomp.SyscallFilter, refused: Container[str] = (), but_fcntl: Container[int] = ()
) -> None:
    """The calls of which some uses are allowed and others are not; sockets are the caller's to add."""
    if "clone" not in refused:
        program.add_rule(pyseccomp.ALLOW, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, arguments.NEW_NAMESPACES, 0))
    program.add_rule(pyseccomp.ERRNO(_ENOSYS), "clone3")
    program.add_rule(pyseccomp.ERRNO(_ENOSYS), "io_uring_setup")
    for name, (index, numbers) in arguments.BY_NUMBER.items():
        for number in numbers:
            if name not in refused and not (name == "fcntl" and number in but_fcntl):
                program.add_rule(pyseccomp.ALLOW, name, pyseccomp.Arg(index, pyseccomp.EQ, number))
    for level, options in arguments.SOCKET_OPTIONS.items():
        for option in options:
            rule = (pyseccomp.Arg(1, pyseccomp.EQ, level), pyseccomp.Arg(2, pyseccomp.EQ, option))
            program.add_rule(pyseccomp.ALLOW, "setsockopt", *rule)
    for name, (index, flag) in arguments.WITHOUT_FLAG.items():
        if name not in refused:
            program.add_rule(pyseccomp.ALLOW, name, pyseccomp.Arg(index, pyseccomp.MASKED_EQ, flag, 0))
    _allow_own_limits(program)


def _allow_own_limits(program: pyseccomp.SyscallFilter) -> None:
    """Of the caller itself only: the agent has the same user, and dumpable or not is no matter to this call."""
    own, reading = pyseccomp.Arg(0, pyseccomp.EQ, 0), pyseccomp.Arg(2, pyseccomp.EQ, 0)
    for limit in _CHANGEABLE_LIMITS:
        program.add_rule(pyseccomp.ALLOW, "prlimit64", own, pyseccomp.Arg(1, pyseccomp.EQ, limit))
        if is_known("setrlimit"):
            program.add_rule(pyseccomp.ALLOW, "setrlimit", pyseccomp.Arg(0, pyseccomp.EQ, limit))
    program.add_rule(pyseccomp.ALLOW, "prlimit64", own, pyseccomp.Arg(1, pyseccomp.EQ, resource.RLIMIT_CORE), reading)


def compiled(program: pyseccomp.SyscallFilter) -> str:
    """A BPF program for this machine's architecture, in base64."""
    # Not a file of a folder: the host may be able to write to none.
    with os.fdopen(os.memfd_create("filter", os.MFD_CLOEXEC), "w+b") as out:
        program.export_bpf(out)
        out.seek(0)
        return base64.b64encode(out.read()).decode()


def is_known(name: str) -> bool:
    """Whether this libseccomp knows the call on this architecture; one it does not know stays refused."""
    try:
        number: int = pyseccomp.resolve_syscall(pyseccomp.system_arch(), name)
    except OSError as error:
        raise SandboxStartFailed(f"libseccomp does not answer: {error}") from error
    return number >= 0


def listeners(pool: PoolSpec) -> list[tuple[str, str, int]]:
    """Sockets that a sandbox makes in its own network namespace for the host to serve: kind, address, port."""
    if pool.network is Network.OPEN:
        return [("udp", *DNS), ("tcp", *DNS)]
    return [("tcp", *PROXY)] if pool.network is Network.LISTED else []


def environment(pool: PoolSpec) -> dict[str, str]:
    """Variables of one pool's interpreters, above ENVIRONMENT and the image's. Programs read the proxy's in either case."""
    return packages(pool, PACKAGES, WHEELS) | _proxies(pool) | runtime(pool)


def runtime(pool: PoolSpec) -> dict[str, str]:
    """What a runtime wants to know of the limits. V8 collects garbage by what it may take, and it sees the machine's memory, not ours.

    The whole for its old space: past that the kernel is quicker, and says why. Its young space is three semi-spaces, of 32 MiB by itself.
    """
    if pool.container_type is not ContainerType.NODE:
        return {}
    memory = pool.memory_bytes // MIB
    return {"NODE_OPTIONS": f"--max-old-space-size={memory} --max-semi-space-size={min(16, max(1, memory // 64))}"}


def packages(pool: PoolSpec, place: str, wheels: str) -> dict[str, str]:
    """What makes pip install to `place`, from where the pool's definition says. `wheels` is where the pool's own are seen."""
    found: dict[str, str] = {}
    if pool.packages_bytes:
        found |= {"PYTHONUSERBASE": place, "PATH": f"{place}/bin:{ENVIRONMENT['PATH']}"}
    if pool.packages_wheels:
        found["PIP_FIND_LINKS"] = wheels
    if pool.packages_index:
        found["PIP_INDEX_URL"] = pool.packages_index
        url = urlsplit(pool.packages_index)
        if url.scheme == "http":
            found["PIP_TRUSTED_HOST"] = url.netloc  # pip refuses an index without TLS unless it is told to take it
    elif pool.packages_wheels and pool.network is Network.NONE:
        found["PIP_NO_INDEX"] = "1"  # so that what is missing is said at once, and not after a search for a name server
    return found


def _proxies(pool: PoolSpec) -> dict[str, str]:
    if pool.network is not Network.LISTED:
        return {}
    proxies = {"HTTP_PROXY": _PROXY_URL, "HTTPS_PROXY": _PROXY_URL, "ALL_PROXY": _PROXY_URL, "NO_PROXY": _NO_PROXY}
    return proxies | {name.lower(): value for name, value in proxies.items()}


def sandbox(pool: PoolSpec, outer_uid: int, wheels: str = "", *, has_memory_cgroup: bool) -> dict[str, Any]:
    """One sandbox, as `guest/sandbox.py` takes it. `wheels` names the folder below the images that the pool's wheels are in."""
    limits = rlimits(pool, has_memory_cgroup=has_memory_cgroup)
    mounts = tmpfs_mounts(pool, outer_uid)
    return {
        "uid": UID,
        "outer_uid": outer_uid,
        "hostname": HOSTNAME,
        "data": DATA,
        "binds": [(f"/opt/carrel/images/{wheels}", WHEELS)] if wheels else [],
        "listen": listeners(pool),
        "link": None,  # with raw egress: backends/links.py, `link()`
        "environment": environment(pool),
        "mounts": mounts,
        "proc_hidden": PROC_HIDDEN,
        "proc_read_only": PROC_READ_ONLY,
        "rlimits": limits,
        "agent_rlimits": {"RLIMIT_CORE": CORE_LIMIT, "RLIMIT_NOFILE": 4096},
        "landlock": landlock(mounts),
        "seccomp": seccomp(has_memory_cgroup=has_memory_cgroup),
        "agent_seccomp": seccomp(has_memory_cgroup=has_memory_cgroup, is_agent=True),
    }
