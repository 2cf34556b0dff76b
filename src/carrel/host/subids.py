"""Host ids that an ordinary user may hand out: the ranges of /etc/subuid and /etc/subgid, mapped by newuidmap and newgidmap.

With them every session has a uid of its own also where the server is not root, and the block's root can drop the supplementary groups
of whoever started the server. Both programs are set-uid and come with the distribution (Debian: `uidmap`); they check that the ranges are
the caller's. Where any of it is missing or refuses (no_new_privs, a container without set-uid programs), the server's own id serves.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from carrel.backends import policy

_PATH = "/usr/bin:/bin:/usr/local/bin"
_MAPPING_S = 10
SUBUID, SUBGID = Path("/etc/subuid"), Path("/etc/subgid")


@dataclass(frozen=True, slots=True)
class Ranges:
    """As long as each other; the first ids are 1 inside the cell block."""

    uids: range
    gids: range


def ranges() -> Ranges | str:
    """What this process's user may hand out, or why that is nothing."""
    missing = [program for program in ("newuidmap", "newgidmap") if shutil.which(program, path=_PATH) is None]
    if missing:
        return f"{' and '.join(missing)} not found (Debian, Ubuntu: apt install uidmap)"
    names = {str(os.geteuid())}
    with contextlib.suppress(KeyError):  # a uid without an entry
        names.add(pwd.getpwuid(os.geteuid()).pw_name)
    uids, gids = longest(SUBUID, names), longest(SUBGID, names)
    length = min(len(uids), len(gids), policy.ID_RANGE - 1)
    if length == 0:
        return f"no range for this user in {SUBUID} and {SUBGID} (usermod --add-subuids … --add-subgids …)"
    return Ranges(uids[:length], gids[:length])


def map_into(pid: int, found: Ranges) -> str:
    """Give the new user namespace of `pid` this process's ids as 0 and the ranges from 1 on; "" or the reason why not."""
    for program, own, ids in (("newgidmap", os.getegid(), found.gids), ("newuidmap", os.geteuid(), found.uids)):
        command = [shutil.which(program, path=_PATH) or program, pid, 0, own, 1, 1, ids.start, len(ids)]
        try:
            done = subprocess.run(
                [str(word) for word in command], capture_output=True, text=True, timeout=_MAPPING_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            return f"{program}: {error}"
        if done.returncode != 0:
            return f"{done.stderr.strip() or program}"
    return ""


def longest(file: Path, names: set[str]) -> range:
    """subuid(5): lines of name or uid, first id, count."""
    found = [range(0)]
    with contextlib.suppress(OSError):
        for line in file.read_text(errors="replace").splitlines():
            name, _, numbers = line.strip().partition(":")
            first, _, count = numbers.partition(":")
            if name in names and first.isdigit() and count.isdigit() and int(first) > 0:
                found.append(range(int(first), int(first) + int(count)))
    return max(found, key=len)
