"""Which host ids a server uses as root: a range for what runs in its sandboxes, and one for each of its own processes.

They are derived from the state folder, so that the same server has the same ids each time and most others have different ones. All are far
above what distributions and container tools hand out. No id of a service is ever mapped into a cell block, or is 0.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from carrel.backends import policy

# Processes of the server that have an id of their own. The order is part of the state: new ones go to the end.
_SERVICES = ("host", "gateway", "egress", "builder")
_CHOWN, _SETGID, _SETUID = 0, 6, 7
_FIRST_SERVICE = policy.LAST_ID
# For containers with 65,536 ids: what systemd's table leaves unused (UIDS-GIDS.md there).
_FIRST_LOW, _LOW_SLOTS = 60_706, 119
_RESTRICTED = 4096
_FIRST_SMALL, _LAST_SMALL, _SMALL = 20_000, 60_000, 1024  # above the users that distributions make, below systemd's
_SLOTS = (policy.LAST_ID - policy.FIRST_ID) // policy.ID_RANGE
# The auditor came later, and the ids of the others are to stay what they are: its own lie below the sessions', or after the low ones,
# where two are left. Servers in one small container may share it there.
_FIRST_AUDITOR, _FIRST_LOW_AUDITOR = policy.FIRST_ID - _SLOTS, _FIRST_LOW + _LOW_SLOTS * len(_SERVICES)


def sessions(state: Path) -> range:
    """The host ids that are mapped into this server's cell block."""
    first = policy.FIRST_ID + slot(state) * policy.ID_RANGE
    return range(first, first + policy.ID_RANGE)


def service(state: Path, name: str) -> int | None:
    """User and group of the server's process `name`; None where it has to stay who it is.

    That is an ordinary user's server, or one of root in a container that has next to no ids, or may not change to them.
    """
    if os.geteuid() != 0 or not has_capabilities((_CHOWN, _SETGID, _SETUID)):
        return None
    return next((id for id in _candidates(slot(state), name) if _is_mapped(id)), None)


def _candidates(slot: int, name: str) -> tuple[int, int]:
    """The id that a process has, and the one that it has where that does not exist."""
    if name == "auditor":
        return _FIRST_AUDITOR + slot, _FIRST_LOW_AUDITOR + slot % 2
    number, size = _SERVICES.index(name), len(_SERVICES)
    return _FIRST_SERVICE + slot * size + number, _FIRST_LOW + slot % _LOW_SLOTS * size + number


def has_capabilities(wanted: Iterable[int]) -> bool:
    """Whether this process has all of them in force (capabilities(7) has the numbers)."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return all(int(status["CapEff"], 16) >> number & 1 for number in wanted)


def inside(slot: int, count: int) -> list[int]:
    """The ids 1 to `count` of the cell block, to be taken from the end.

    Where the first one is depends on the state folder's slot: servers of one ordinary user share his range of subordinate ids.
    """
    first = slot % count if count else 0
    return [1 + (first + number) % count for number in reversed(range(count))]


def _is_mapped(number: int) -> bool:
    """Whether the id exists in our user namespace, for users and for groups (user_namespaces(7))."""
    return all(
        any(int(first) <= number < int(first) + int(count) for first, _outside, count in map(str.split, lines))
        for lines in (Path(f"/proc/self/{name}").read_text().splitlines() for name in ("uid_map", "gid_map"))
    )


def slot(state: Path) -> int:
    """A number that the server with this folder has for itself, but for a rare chance."""
    return int.from_bytes(hashlib.sha256(bytes(state)).digest()[:4]) % _SLOTS


def restricted(state: Path) -> range:
    """The host ids of level restricted: the templates', then one for each session.

    Where this process is in a user namespace, as in a container of an engine without root, only some ids exist: then fewer of those.
    """
    wanted = sessions(state / "restricted")[:_RESTRICTED]
    if _is_mapped(wanted[0]) and _is_mapped(wanted[-1]):
        return wanted
    last = _FIRST_SMALL + next(
        (n for n in range(_LAST_SMALL - _FIRST_SMALL, 0, -_SMALL) if _is_mapped(_FIRST_SMALL + n)), _SMALL
    )
    slots = (last - _FIRST_SMALL) // _SMALL
    first = _FIRST_SMALL + slot(state) % slots * _SMALL
    return range(first, first + _SMALL)
