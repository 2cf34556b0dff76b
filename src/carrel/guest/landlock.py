"""Landlock: a process gives up rights to files, TCP and other processes for itself and all it starts, needing no privilege to do so.

Which paths and which accesses is data from `backends/policy.py`; here is only how the kernel is told. It asks the kernel which version of
the interface it has and handles whatever that version knows (landlock(7), "Landlock ABI versions"): 1 files, 2 links and renames between
folders, 3 truncation, 4 TCP, 5 ioctl on devices, 6 signals and abstract sockets, 7 silence in the audit log. What none of them
covers: finding a path (stat, where the folders' modes let), chmod, chown, flock, setxattr, UDP and other protocols, Unix sockets by path,
listen() on a socket that was never bound, TCP Fast Open. Whoever must not do these needs another lock.

There is a package on PyPI (py-landlock), but what runs inside a sandbox brings nothing along but the standard library.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable, Sequence

# linux/landlock.h; the numbers of the calls are the same on every architecture
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_LOG_SAME_EXEC_OFF = 1  # ABI 7: or code could fill the host's audit log with what it is refused

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _REMOVE_DIR, _REMOVE_FILE = (1 << bit for bit in range(6))
_MAKE_CHAR, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK, _MAKE_FIFO, _MAKE_BLOCK, _MAKE_SYM = (1 << bit for bit in range(6, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ON_A_FILE = (
    _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
)  # a rule for a file may name no others (EINVAL)
_TCP = 0b11  # bind and connect
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

# What a rule may allow, by name. No name allows making device nodes.
ACCESS = {
    "list": _READ_DIR,
    "read": _READ_DIR | _READ_FILE,
    "execute": _READ_DIR | _READ_FILE | _EXECUTE,
    "write": (_REFER << 1) - 1 & ~(_MAKE_CHAR | _MAKE_BLOCK) | _TRUNCATE,  # and read, list and execute
    "unlisted": (_REFER << 1) - 1 & ~(_MAKE_CHAR | _MAKE_BLOCK | _READ_DIR)
    | _TRUNCATE,  # the same, to who knows the names
    "device": _READ_FILE | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV,
}
_HANDLED_FILES = {1: _REFER - 1, 2: _TRUNCATE - 1, 3: _IOCTL_DEV - 1, 4: _IOCTL_DEV - 1}  # from 5 on:
_HANDLED_FILES_NOW = (_IOCTL_DEV << 1) - 1
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP)

Rules = Iterable[Sequence[str]]  # [path, name of an access] each

_LIBC = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """The kernel's Landlock ABI; 0 where it has none, has it switched off, or whoever started us forbids it."""
    found: int = _LIBC.syscall(_long(_CREATE_RULESET), None, _long(0), _long(_CREATE_RULESET_VERSION))
    return max(0, found)


def restrict(rules: Rules, *, tcp: bool = False, scopes: bool = False, abi: int | None = None) -> int:
    """Allow this thread, and all that it starts from now on, only what `rules` say; returns the ABI that was used, 0 for none at all.

    With `tcp` no TCP port can be bound or connected to (from ABI 4); with `scopes` neither signals nor abstract sockets reach a process
    that is not restricted by this very call (from ABI 6). Needs no_new_privs. There is no way back, and the process must have one thread.
    `abi` pretends an older kernel, for tests.
    """
    ruleset, used = make_ruleset(rules, tcp=tcp, scopes=scopes, abi=abi)
    if ruleset is not None:
        try:
            enforce(ruleset)
        finally:
            os.close(ruleset)
    return used


def make_ruleset(
    rules: Rules, *, tcp: bool = False, scopes: bool = False, abi: int | None = None
) -> tuple[int | None, int]:
    """`restrict` up to the point of no return: a descriptor for `enforce`, for any number of processes, and the ABI.

    Paths are opened now: what is there by the name later is another matter. One that does not exist or cannot be reached allows nothing.
    """
    used = version() if abi is None else min(abi, version())
    if used == 0:
        return None, 0
    files = _HANDLED_FILES.get(used, _HANDLED_FILES_NOW)
    fields = [files, _TCP if tcp else 0, (_ABSTRACT_SOCKETS | _SIGNALS) if scopes else 0]
    attribute = struct.pack("3Q", *fields)[
        : 8 if used < 4 else 16 if used < 6 else 24
    ]  # an older kernel takes fewer (E2BIG)
    ruleset = _check(_LIBC.syscall(_long(_CREATE_RULESET), attribute, _long(len(attribute)), _long(0)))
    os.set_inheritable(ruleset, False)  # the kernel makes it so; said again for who reads this
    try:
        for path, access in rules:
            _allow(ruleset, path, ACCESS[access] & files)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset, used


def enforce(ruleset: int) -> None:
    """Restrict this thread by a descriptor of `make_ruleset`."""
    flags = _LOG_SAME_EXEC_OFF if version() >= 7 else 0
    _check(_LIBC.syscall(_long(_RESTRICT_SELF), _long(ruleset), _long(flags)))


def _allow(ruleset: int, path: str, access: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _NOT_THERE:
            return
        raise
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _ON_A_FILE
        rule = struct.pack("=Qi", access, fd)  # struct landlock_path_beneath_attr, which is packed
        _check(_LIBC.syscall(_long(_ADD_RULE), _long(ruleset), _long(_RULE_PATH_BENEATH), rule, _long(0)))
    finally:
        os.close(fd)


def _long(number: int) -> ctypes.c_long:
    return ctypes.c_long(number)


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
