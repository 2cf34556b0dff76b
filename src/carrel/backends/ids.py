"""Which host ids a server uses as root: a range for what runs in its sandboxes, and one for each of its own processes.

They are derived from the state folder, so that the same server has the same ids each time and most others have different ones. All are far
above what distributions and container tools hand out. No id of a service is ever mapped into a cell block, or is 0.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from carrel.backends import policy

# Processes of the server that have an id of their own. The order is part of the state: new ones go to the end.
_SERVICES = ("host", "gateway", "egress", "builder")
_FIRST_SERVICE = policy.LAST_ID
_SLOTS = (policy.LAST_ID - policy.FIRST_ID) // policy.ID_RANGE
SERVICES = range(_FIRST_SERVICE, _FIRST_SERVICE + _SLOTS * len(_SERVICES))  # of all servers


def sessions(state: Path) -> range:
    """The host ids that are mapped into this server's cell block."""
    first = policy.FIRST_ID + slot(state) * policy.ID_RANGE
    return range(first, first + policy.ID_RANGE)


def service(state: Path, name: str) -> int:
    """User and group of the server's process `name`."""
    return _FIRST_SERVICE + slot(state) * len(_SERVICES) + _SERVICES.index(name)


def inside(slot: int, count: int) -> list[int]:
    """The ids 1 to `count` of the cell block, to be taken from the end.

    Where the first one is depends on the state folder's slot: servers of one ordinary user share his range of subordinate ids.
    """
    first = slot % count if count else 0
    return [1 + (first + number) % count for number in reversed(range(count))]


def slot(state: Path) -> int:
    """A number that the server with this folder has for itself, but for a rare chance."""
    return int.from_bytes(hashlib.sha256(bytes(state)).digest()[:4]) % _SLOTS
