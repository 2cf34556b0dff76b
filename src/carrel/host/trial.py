"""The trial of an uplink: whether a packet from the cell block comes out on the other side of the host.

The other side is made: a network namespace of a child's own, linked to the host for a moment. Rules of ours let that link alone through
(`ruleset.outside`, `trial`); what else drops forwarded packets here (a policy of Docker's, ufw's, firewalld's) drops this one too.
"""

from __future__ import annotations

import os
import socket

from pyroute2 import IPRoute

from carrel.backends import links
from carrel.guest import linux
from carrel.host import interfaces

_PORT = 9  # discard
_SENDS, _EVERY_S = 30, 0.1  # the first arrives, unless the machine is so busy that links take their time to come up


def passes(kernel: IPRoute, block: int, link: str) -> bool:
    """Send from namespace `block` through this one to a made one, by a new interface `link` of this one, which is gone afterwards."""
    number = os.getpid() % (links.TRIALS.num_addresses // 2) * 2
    here, there = str(links.TRIALS[number]), str(links.TRIALS[number + 1])
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _receive(theirs, there)
    theirs.close()
    try:
        with ours:
            ours.recv(1)  # the child is in its namespace
            kernel.link("add", ifname=link, kind="veth", peer={"ifname": "far", "net_ns_pid": pid})
            index = kernel.link_lookup(ifname=link)[0]
            kernel.addr("add", index=index, address=here, prefixlen=31)
            kernel.link("set", index=index, state="up")
            ours.send(b"1")
            if not ours.recv(1):  # the child is listening
                return False
            return _send(ours, block, there)
    finally:
        os.waitpid(pid, 0)
        interfaces.remove(kernel, link)


def _receive(parent: socket.socket, address: str) -> None:
    """The child: never returns."""
    try:
        linux.die_with_parent()
        linux.unshare(linux.CLONE_NEWNET)
        parent.send(b"1")
        parent.recv(1)
        with IPRoute() as kernel:
            index = kernel.link_lookup(ifname="far")[0]
            kernel.addr("add", index=index, address=address, prefixlen=31)
            kernel.link("set", index=index, state="up")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as arrivals:
            arrivals.bind((address, _PORT))
            arrivals.settimeout(2 * _SENDS * _EVERY_S)
            parent.send(b"1")
            arrivals.recv(1)
            parent.send(b"1")
    finally:
        os._exit(0)


def _send(child: socket.socket, block: int, address: str) -> bool:
    """From the cell block's namespace; whether the child says that it came."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        linux.setns(block, linux.CLONE_NEWNET)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)  # stays of the namespace it was made in
    finally:
        linux.setns(own, linux.CLONE_NEWNET)
        os.close(own)
    child.settimeout(_EVERY_S)
    with sender:
        for _ in range(_SENDS):
            sender.sendto(b"carrel", (address, _PORT))
            try:
                return child.recv(1) == b"1"
            except TimeoutError:
                continue
    return False
