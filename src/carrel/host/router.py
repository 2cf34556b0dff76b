"""The cell block's network namespace as a router: its rules, settings, addresses. What both kinds of uplink do inside of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

from pyroute2 import IPRoute

from carrel.backends import links
from carrel.guest import linux, veth
from carrel.host import nft

UP = "up"  # its link outside
TABLE = "carrel"

_SETTINGS = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/accept_redirects": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/all/accept_redirects": "0",
    "netfilter/nf_conntrack_tcp_timeout_established": str(links.IDLE_S),
}


class Refused(Exception):
    """This machine gives no way out; the text is for people."""


def inside(namespaces: dict[int, int], job: Callable[[], None]) -> None:
    """Run `job` in a child in `namespaces` (descriptors by CLONE_NEW…, joined in order). Raises Refused with what went wrong there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            for kind, namespace in namespaces.items():
                linux.setns(namespace, kind)
            job()
        except Exception as error:
            os.write(writing, f"in the cell block: {error}".encode()[:2000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as text:
        failure = text.read()
    os.waitpid(pid, 0)
    if failure:
        raise Refused(failure)


def rtnetlink(namespaces: dict[int, int]) -> socket.socket:
    """An rtnetlink socket of the cell block's network namespace: who has it needs no right to enter there."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inside(namespaces, lambda: _send_rtnetlink(theirs))
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptor)


def _send_rtnetlink(other: socket.socket) -> None:
    with veth.rtnetlink() as kernel:
        socket.send_fds(other, [b"1"], [kernel.fileno()])


def begin(rules: str) -> None:
    """Rules before anything can pass, then the rest; an uplink that was there before is no longer."""
    nft.remove(TABLE)
    nft.load(rules)
    write(_SETTINGS)
    with IPRoute() as kernel:
        kernel.addr("replace", index=1, address=links.GATEWAY, prefixlen=32)
        kernel.link("set", index=1, state="up")


def write(settings: dict[str, str]) -> None:
    """Settings of this network namespace; those that this kernel lacks are left out."""
    for name, value in settings.items():
        path = Path("/proc/sys/net") / name
        if path.exists():
            path.write_text(value)
