#!/usr/bin/env python3
"""deploy/seccomp.json: the calls that a container with Carrel may make, which are those of sessions (policy.py) and of making sandboxes.

    .venv/bin/python tools/container_profile.py > deploy/seccomp.json

Docker's default profile refuses namespaces and mounts to a container without CAP_SYS_ADMIN; an ordinary user needs them inside his user
namespace. All else is narrower than Docker's default: no keyrings, no bpf, no perf, no io_uring, no ptrace, no second architecture.
Format: https://docs.docker.com/engine/security/seccomp/
"""

from __future__ import annotations

import json
import sys

from carrel.backends import policy

# Sandboxes are made of these. Each acts on namespaces that the caller owns.
MAKING = """
    clone mount mount_setattr pivot_root sethostname setns umount2 unshare
"""
# Sandboxes confine themselves by these; the narrower filters inside refuse them to the code.
CONFINING = "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp"
# Called by sessions with some arguments only, which their own filter sees to.
UNFILTERED = "fadvise64 fcntl ioctl madvise memfd_create mmap prctl prlimit64 setrlimit setsockopt socket socketpair"
ABSENT = "clone3 io_uring_enter io_uring_register io_uring_setup"
_EPERM, _ENOSYS = 1, 38


def profile() -> dict[str, object]:
    allowed = {*policy.ALLOWED_SYSCALLS, *f"{MAKING} {CONFINING} {UNFILTERED}".split()}
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "archMap": [{"architecture": f"SCMP_ARCH_{name}", "subArchitectures": []} for name in ("X86_64", "AARCH64")],
        "syscalls": [
            {"names": sorted(allowed), "action": "SCMP_ACT_ALLOW"},
            {
                "comment": "Absent rather than refused: libc and libuv have other ways, whose arguments a filter can see.",
                "names": ABSENT.split(),
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": _ENOSYS,
            },
        ],
    }


if __name__ == "__main__":
    json.dump(profile(), sys.stdout, indent=1)
    print()
