"""The kernel calls that Python's standard library lacks, one thin function each.

Sources are the man pages of the same names (section 2). Every function raises OSError with the kernel's errno. Used
on both sides of the boundary, so: standard library only, no state.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import fcntl
import os
import platform
import signal
import socket
import struct
import sys
from collections.abc import Collection, Container

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_KEEPCAPS = 8
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_SECUREBITS, _SECBIT_NOROOT, _SECBIT_NOROOT_LOCKED = 28, 1, 2
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 47, 2
_PR_SET_SECCOMP = 22
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_AT_RECURSIVE = 0x8000
_AT_FDCWD = -100
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1

_CODECS = ("ascii", "idna", "latin-1", "punycode", "unicode_escape", "utf-16", "utf-32", "utf-8")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h

_LIBC = ctypes.CDLL(None, use_errno=True)
_OPEN_TREE, _MOVE_MOUNT = 428, 429
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4
_MOUNT_SETATTR = 442  # the same on every architecture (unified numbering since Linux 5.x)
_RENAME_NOREPLACE = 1
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}.get(platform.machine(), 0)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def unshare(flags: int) -> None:
    _check(_LIBC.unshare(ctypes.c_int(flags)))


def setns(fd: int, kind: int) -> None:
    """Join the namespace behind `fd`, which must be of `kind` (a CLONE_NEW… flag)."""
    _check(_LIBC.setns(ctypes.c_int(fd), ctypes.c_int(kind)))


def mount(source: str, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, data)]
    if _LIBC.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"{source} on {target}")


def umount(target: str, flags: int = MNT_DETACH) -> None:
    _check(_LIBC.umount2(os.fsencode(target), ctypes.c_int(flags)))


def pivot_root(new_root: str, put_old: str) -> None:
    _check(_LIBC.syscall(ctypes.c_long(_PIVOT_ROOT), os.fsencode(new_root), os.fsencode(put_old)))


def open_tree(path: str) -> int:
    """A copy of the mount that holds `path`, from there on, as a descriptor: `move_mount` attaches it, in another mount namespace too."""
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC)
    return _check(_LIBC.syscall(ctypes.c_long(_OPEN_TREE), ctypes.c_int(_AT_FDCWD), os.fsencode(path), flags))


def move_mount(tree: int, target: str) -> None:
    """Attach what `open_tree` gave at `target`; takes the descriptor."""
    try:
        flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
        where = (ctypes.c_int(tree), b"", ctypes.c_int(_AT_FDCWD), os.fsencode(target))
        _check(_LIBC.syscall(ctypes.c_long(_MOVE_MOUNT), *where, flags))
    finally:
        os.close(tree)


def restrict_mount(target: str, attributes: int) -> None:
    """Add `attributes` (MOUNT_ATTR_…) to the mount at `target` and all below it; what is set already stays (mount_setattr)."""
    # struct mount_attr { attr_set, attr_clr, propagation, userns_fd }
    attr = struct.pack("QQQQ", attributes, 0, 0, 0)
    _check(
        _LIBC.syscall(
            ctypes.c_long(_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            os.fsencode(target),
            ctypes.c_uint(_AT_RECURSIVE),
            attr,
            ctypes.c_size_t(len(attr)),
        )
    )


def _prctl(option: int, second: int = 0, third: int = 0) -> None:
    unsigned = [ctypes.c_ulong(number) for number in (second, third, 0, 0)]
    _check(_LIBC.prctl(ctypes.c_int(option), *unsigned))


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel kill this process (or send `number`) when its parent ends; exits at once where that happened during the call.

    The kernel forgets the request when the process changes its credentials: call it again after that (prctl(2), PR_SET_PDEATHSIG).
    """
    parent = os.getppid()
    _prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        sys.exit("the parent process is gone")


def become_subreaper() -> None:
    """Have descendants whose parent ends become this process's children, as init would."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def set_dumpable(value: bool) -> None:
    _prctl(_PR_SET_DUMPABLE, int(value))


def keep_capabilities(value: bool) -> None:
    """Whether the permitted set survives the next change of uid."""
    _prctl(_PR_SET_KEEPCAPS, int(value))


def root_means_nothing() -> None:
    """For good, here and in all that is started: being or becoming user 0 gives no capability (capabilities(7), SECBIT_NOROOT)."""
    _prctl(_PR_SET_SECUREBITS, _SECBIT_NOROOT | _SECBIT_NOROOT_LOCKED)


def no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def refuse_new_code() -> None:
    """From now on no memory becomes executable that was writable, or is both (from Linux 6.3; nothing before). For all it starts too."""
    with contextlib.suppress(OSError):
        _prctl(_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN)


def drop_bounding_set(kept: Container[int] = ()) -> None:
    """All but `kept`. Needs CAP_SETPCAP. The loop ends at the first number that this kernel does not know (EINVAL)."""
    for capability in range(64):
        if capability not in kept and _LIBC.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) < 0:
            return


def set_capabilities(kept: Collection[int], *, handed_down: bool = False) -> None:
    """Have just `kept`, in force; with `handed_down` what is executed has them too (capabilities(7), "ambient")."""
    masks = [sum(1 << number % 32 for number in kept if number // 32 == half) for half in (0, 1)]
    fields = [value for mask in masks for value in (mask, mask, mask if handed_down else 0)]
    _check(_LIBC.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), struct.pack("6I", *fields)))
    for number in kept if handed_down else ():
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def limit_capabilities(kept: tuple[int, ...]) -> None:
    """Keep at most the capabilities `kept`, here and in what is started from here, for good (capabilities(7))."""
    wanted = sum(1 << number for number in kept)
    drop_bounding_set(kept)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    held = ctypes.create_string_buffer(24)  # two times effective, permitted, inheritable, of 32 each
    _check(_LIBC.capget(header, held))
    low, high = wanted & 0xFFFFFFFF, wanted >> 32
    masks = (low, low, low, high, high, high)
    values = [have & mask for have, mask in zip(struct.unpack("6I", held.raw), masks, strict=True)]
    _check(_LIBC.capset(header, struct.pack("6I", *values)))


def clear_capabilities() -> None:
    """Empty the effective, permitted and inheritable sets, and with them the ambient one."""
    set_capabilities(())


def renounce(uid: int | None) -> None:
    """Be user and group `uid` alone, or with None who one is, without any capability now or later, and for good.

    Whatever was opened before stays open, and is all of the old user's that is left. The interpreter's own files may lie where `uid` cannot
    read them: whoever calls this has imported all that it will need; codecs, which nobody imports by name, are looked up here.
    """
    for codec in _CODECS:
        codecs.lookup(codec)
    drop_bounding_set()
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    clear_capabilities()
    no_new_privileges()
    set_dumpable(False)  # nor may another process of the same user look into it, or be made to look like it
    die_with_parent()  # forgotten with the change of ids


def load_seccomp(program: bytes) -> None:
    """Install a compiled BPF `program` (8 bytes an instruction) for this process and all it starts; needs no_new_privs."""
    code = ctypes.create_string_buffer(program, len(program))
    fprog = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    buffer = ctypes.create_string_buffer(fprog, len(fprog))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(buffer))


def rename_new(name: str, to: str, source: int, target: int) -> None:
    """Rename below two directory descriptors, in one step, where nothing has the new name. Raises FileExistsError."""
    flags = ctypes.c_uint(_RENAME_NOREPLACE)
    places = (ctypes.c_int(source), os.fsencode(name), ctypes.c_int(target), os.fsencode(to))
    _check(_LIBC.renameat2(*places, flags))


def close_from(first: int) -> None:
    """Close every descriptor from `first` on."""
    os.closerange(first, 1 << 20)


def keep_only(*descriptors: int) -> None:
    """Close every descriptor above 2 but `descriptors`, and let no program that is started later inherit those."""
    first = 3
    for fd in sorted(descriptors):
        os.closerange(first, fd)
        first = fd + 1
        os.set_inheritable(fd, False)
    close_from(first)


def keep_freed_memory(most: int) -> None:
    """Have glibc keep up to `most` freed bytes for the next chunk of a body.

    By default it gives each block of 256 KiB back to the kernel and faults it in again, which more than doubled the time of an upload
    (128 MiB through the gateway: 0.17 s, of it 0.1 s in the kernel; so 0.07 s). Does nothing under another libc.
    """
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 1024 * 1024)
        mallopt(_M_TRIM_THRESHOLD, most)


def give_back_memory() -> None:
    """Hand to the kernel what is freed but lies between blocks in use. Takes a moment: not for an event loop. Needs glibc."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


def loopback_up() -> None:
    """Bring `lo` of this network namespace up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        name = b"lo".ljust(16, b"\0")
        answer = fcntl.ioctl(probe, _SIOCGIFFLAGS, name + bytes(24))
        flags = struct.unpack_from("H", answer, 16)[0] | _IFF_UP
        fcntl.ioctl(probe, _SIOCSIFFLAGS, name + struct.pack("H", flags) + bytes(22))


def open_namespace(name: str, pid: int | str = "self") -> int:
    """A descriptor of the namespace `name` (as in /proc/PID/ns) of a process."""
    return os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
