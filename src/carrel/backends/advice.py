"""What to install or to set on this machine so that an isolation level works, as far as the machine tells."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from carrel.models import Level

# What a container has to be started with; docs/guides/operation.md says it too.
_CONTAINER = (
    "--security-opt seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined"
)


NO_NAMESPACES = "new namespaces are refused"  # by what a reason says it (host/block.py)


def advice(level: Level, reason: str = "") -> str:
    """A sentence without its full stop; "" where there is nothing to be done. `reason` is why the level does not work."""
    if platform.system() != "Linux":
        return "run the server on Linux (on Windows: WSL2)"
    match level:
        case Level.NAMESPACE:
            return _namespaces()
        case Level.GVISOR:
            return _namespaces() if NO_NAMESPACES in reason else _gvisor()
        case Level.RESTRICTED:
            return _restricted()
        case Level.PROCESS:
            return ""


def _namespaces() -> str:
    settings = {
        "/proc/sys/kernel/unprivileged_userns_clone": ("0", "sysctl -w kernel.unprivileged_userns_clone=1"),
        "/proc/sys/user/max_user_namespaces": ("0", "sysctl -w user.max_user_namespaces=65536"),
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": (
            "1",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }
    for_all = ("/proc/sys/user/max_user_namespaces",)  # the others do not hold root
    found = [
        command
        for path, (bad, command) in settings.items()
        if _read(path) == bad and (os.geteuid() != 0 or path in for_all)
    ]
    if found:
        return "as root: " + "; ".join(found)
    return f"in a container, start it with {_CONTAINER}, as an ordinary user or as root with CAP_SYS_ADMIN"


def _gvisor() -> str:
    if shutil.which("runsc") is None:
        return "install runsc on the server's PATH (Debian, Ubuntu: apt install runsc; else gvisor.dev/docs/user_guide/install)"
    if os.geteuid() != 0:
        return "run the server as root, or give its user 65,536 ids in /etc/subuid and /etc/subgid and install newuidmap (package uidmap)"
    return "see that `runsc --network=none do true` works as root, or install a newer runsc (gvisor.dev/docs/user_guide/install)"


def _restricted() -> str:
    modules = _read("/sys/kernel/security/lsm")
    if modules and "landlock" not in modules.split(","):
        return f"boot with lsm=landlock,{modules} on the kernel's command line"
    return "use a kernel with Landlock, 5.13 or newer; in a container, a seccomp profile that allows its system calls, as Docker's does"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
