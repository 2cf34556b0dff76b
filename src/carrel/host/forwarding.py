"""Interfaces that forward packets because Carrel asked for it, and how they were before.

A sandbox's packets cross the host, which therefore has to forward between the uplink and the interface of its default route. Only those
interfaces are changed, only where they do not forward already, and they are put back when the last server that needed them has gone.
Servers share one account of it, a file per network namespace in /run under a lock; an owner that is dead is struck from it by whoever
comes next.

IPv4 forwards by interface (`conf/IF/forwarding`, ip-sysctl). IPv6 does since Linux 6.17 (`force_forwarding`); before, it could be
switched for the whole host only, which would make the host deaf to router advertisements and so may cost it its own default route: there
sessions have IPv6 where the host is a router already, and none elsewhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from carrel.host import owners

_FOLDER = Path("/run")
_SYSCTL = Path("/proc/sys/net")

Account = dict[str, dict[str, Any]]  # path of a setting → {"was": its text before, "owners": [names]}


def switch(version: int, interface: str) -> Path | None:
    """The setting that makes `interface` forward, None where this kernel has none of its own for it."""
    path = _SYSCTL / (
        f"ipv4/conf/{interface}/forwarding" if version == 4 else f"ipv6/conf/{interface}/force_forwarding"
    )
    return path if path.exists() else None


def version_of(path: Path) -> int:
    """Of a `switch`: 4 or 6."""
    return 4 if path.is_relative_to(_SYSCTL / "ipv4") else 6


def forwards_everywhere(version: int) -> bool:
    """Whether the host is a router already."""
    path = _SYSCTL / ("ipv4/ip_forward" if version == 4 else "ipv6/conf/all/forwarding")
    return path.exists() and path.read_text().strip() == "1"


def take(owner: str, settings: list[Path]) -> list[Path]:
    """Switch `settings` on for `owner`; returns those that were off before anybody of ours came. Raises OSError."""
    changed = []
    with _account() as account:
        for path in settings:
            entry = account.setdefault(str(path), {"was": path.read_text().strip(), "owners": []})
            entry["owners"].append(owner)
            path.write_text("1")
            if entry["was"] == "0":
                changed.append(path)
    return changed


def release(owner: str) -> None:
    """Strike `owner`, and put back what nobody needs any more."""
    with _account() as account:
        for entry in account.values():
            entry["owners"] = [each for each in entry["owners"] if each != owner]


@contextlib.contextmanager
def _account() -> Iterator[Account]:
    """The account, locked; at the end settings without a living owner are put back, and a file without settings is removed."""
    path = _FOLDER / f"carrel-forwarding-{Path('/proc/self/ns/net').stat().st_ino}.json"
    with _locked(path) as file:
        account: Account = json.loads(file.read() or "{}")
        try:
            yield account
        finally:
            kept = {setting: entry for setting, entry in account.items() if _is_needed(Path(setting), entry)}
            file.truncate(0)
            file.write(json.dumps(kept))
            if not kept:
                path.unlink(missing_ok=True)


def _locked(path: Path) -> TextIO:
    """`path` open under an exclusive lock; one that was removed while we waited for the lock is left, and the new one taken."""
    while True:
        file = path.open("a+")
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        file.close()


def _is_needed(setting: Path, entry: dict[str, Any]) -> bool:
    """Whether an owner lives; puts the setting back where none does.

    On a host that was made a router meanwhile (as Docker does at its start) it stays: others rely on it.
    """
    entry["owners"] = [each for each in entry["owners"] if not owners.is_gone(each)]
    if entry["owners"]:
        return True
    if forwards_everywhere(version_of(setting)):
        return False
    with contextlib.suppress(OSError):  # an interface that is gone needs nothing
        setting.write_text(entry["was"])
    return False
