"""What root may do for Carrel, and nothing else: the capabilities that the supervisor keeps for itself and for its spawners.

The list of `deploy/carrel-root.service` is this one. What is lost without each stands beside it. Tried by leaving out one at a time:
without CHOWN, SETGID, SETUID or SYS_ADMIN nothing starts; without KILL it does not stop cleanly; without SETPCAP or DAC_OVERRIDE it
served where these are not needed. NET_BIND_SERVICE, NET_ADMIN and SYS_PTRACE stand here by what the kernel asks for, untried.
"""

from __future__ import annotations

import os

from carrel.guest import linux

KEPT = {
    "CAP_CHOWN": (0, "the host's socket is made the gateway's"),
    "CAP_DAC_OVERRIDE": (
        1,
        "control groups of version 1 where their folders are read-only; images in another user's folder",
    ),
    "CAP_KILL": (5, "ending what has another id: gateway, host, sessions"),
    "CAP_SETGID": (6, "groups of gateway, host, sessions"),
    "CAP_SETUID": (7, "ids of gateway, host, sessions"),
    "CAP_SETPCAP": (8, "giving all of these up for good in gateway and host"),
    "CAP_NET_BIND_SERVICE": (10, "ports below 1024"),
    "CAP_NET_ADMIN": (12, "raw egress: links and packet rules"),
    "CAP_SYS_PTRACE": (19, "counting a sandbox's memory where no control group does"),
    "CAP_SYS_ADMIN": (21, "namespaces and mounts of sandboxes"),
}


def limit() -> None:
    """As root: give up every other capability, for this process and all that it starts. Nothing for an ordinary user."""
    if os.geteuid() == 0:
        linux.limit_capabilities(tuple(number for number, _reason in KEPT.values()))
