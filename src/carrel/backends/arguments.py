"""System calls of which some uses are allowed and others are not, by their arguments: policy.py's list, continued.

A filter sees numbers, never what a pointer leads to. They are compared by equality or by mask only: the filter sees 64 bits of what the
kernel cuts to 32. Names of the numbers are in the manual pages (ioctl_tty(2), fcntl(2), prctl(2), madvise(2), posix_fadvise(2),
socket(7), ip(7), tcp(7), ipv6(7)) and in the kernel's headers of the same names.
"""

from __future__ import annotations

NEW_NAMESPACES = 0x7E020080  # every CLONE_NEW… flag: clone(2)

# Terminals' sizes and modes (no TIOCSTI, TIOCLINUX: they type), descriptors' flags, reflinks, and what `lo` looks like.
_TERMINAL = (
    0x5401, 0x5402, 0x5403, 0x5404, 0x5409, 0x540B, 0x540E, 0x540F, 0x5410, 0x5411, 0x5413, 0x5414, 0x5422, 0x5429, 0x802C542A,
)  # fmt: skip
_DESCRIPTOR = (0x541B, 0x5421, 0x5450, 0x5451, 0x5452, 0x40049409, 0x80086601)
_INTERFACE = (0x8910, 0x8912, 0x8913, 0x8915, 0x8919, 0x891B, 0x8921, 0x8927, 0x8933)
# Duplicates, flags, locks, owner, pipe sizes, seals, hints; neither leases nor F_NOTIFY, which reach files that others use.
_FCNTL = (*range(12), 15, 16, 36, 37, 38, *range(1030, 1039))
# Names, parent-death signals, dumpable, timer slack, what a process may ask about itself. No filters of the code's own (the kernel's
# compiler makes kernel code of them), no PR_SCHED_CORE (keeps the other thread of a core idle), no PR_SET_MEMORY_MERGE (tells by timing
# who has the same page).
_PRCTL = (
    *(1, 2, 3, 4, 7, 15, 16, 21, 23, 27, 29, 30, 36, 37, 38, 39, 40, 41, 42, 47, 52, 53, 65, 66),
    *(0x53564D41, 0x59616D61),  # PR_SET_VMA, PR_SET_PTRACER
)
# All but merging, poisoning and pushing out of memory, which reach pages of others.
_MADVISE = (*range(5), *range(8, 12), *range(14, 21), *range(22, 26))
# All but POSIX_FADV_DONTNEED, which drops from the page cache what all sandboxes and the host read.
_FADVISE = (0, 1, 2, 3, 5)

BY_NUMBER = {  # which argument, and what it may be
    "ioctl": (1, (*_TERMINAL, *_DESCRIPTOR, *_INTERFACE)),
    "fcntl": (1, _FCNTL),
    "prctl": (0, _PRCTL),
    "madvise": (2, _MADVISE),
    "fadvise64": (3, _FADVISE),
}

# AF_UNIX, AF_INET, AF_INET6 with TCP and UDP only, since the kernel loads a module for any other family or protocol that is named.
SOCKET_PROTOCOLS = {1: (0,), 2: (0, 6, 17), 10: (0, 6, 17)}
# setsockopt by level: what programs set. No TCP_ULP (loads a module), no filters on sockets, no IP options, no tables of netfilter.
SOCKET_OPTIONS = {
    1: (*range(2, 11), 12, 13, 15, 16, 18, 19, 20, 21, 29, 35, 63, 64, 66, 67),  # SOL_SOCKET
    0: (1, 2, 6, 7, 8, 10, 11, 12, 13, 24, 32, 33, 34, 35, 36, 49),  # SOL_IP
    6: (*range(1, 11), 12, 13, 18, 23, 25, 30),  # SOL_TCP
    41: (*range(16, 22), 23, 24, 25, 26, 49, 51, 66, 67),  # SOL_IPV6
}

# No huge pages: they come from a reserve of the host's that no limit of the sandbox counts (MAP_HUGETLB, MFD_HUGETLB).
WITHOUT_FLAG = {"mmap": (3, 0x40000), "memfd_create": (1, 0x4)}
