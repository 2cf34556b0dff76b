"""The way out for sandboxes' links: `python -m carrel.host.uplink`, started by the spawner for the first pool with raw egress.

The cell block's own network namespace, where every sandbox's link ends (`guest/veth.py`), is a small router. This process gives it its
one way out and its packet rules (`ruleset.py`): as root by the kernel (`veth_way.py`), for an ordinary user by a stack in user space
(`tap_way.py`). It stays to take back what it made, with no capability but CAP_NET_ADMIN, and outlives the spawner, however that ends:
the end of its sockets is the word to clean up.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys

from pyroute2.netlink.exceptions import NetlinkError

from carrel.guest import linux
from carrel.host.nft import NftFailed
from carrel.host.router import Refused
from carrel.host.tap_way import Tap
from carrel.host.veth_way import Veth

_CAP_NET_ADMIN = 12  # linux/capability.h


def main(descriptors: list[int], carve_outs: list[str]) -> None:
    """Make the way out, tell the host, and stay until the host or the spawner closes its end of a socket.

    Descriptors: the socket to the host, the lifeline to the spawner, the cell block's network and user namespaces.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    host_fd, lifeline_fd, network, users = descriptors
    host = socket.socket(fileno=host_fd)
    way: Veth | Tap = Veth(network, carve_outs) if os.geteuid() == 0 else Tap(network, users, carve_outs)
    try:
        facts = way.make()
    except (Refused, NftFailed, NetlinkError, OSError) as error:
        host.send(json.dumps({"error": str(error)}).encode())
        return
    if os.geteuid() == 0:
        os.close(network)  # the namespace is to end with the cell block
        linux.limit_capabilities((_CAP_NET_ADMIN,))
    host.send(json.dumps({"ready": True, **facts}).encode())
    while True:
        ready, _, _ = select.select([host_fd, lifeline_fd, *way.events], [], [])
        if host_fd in ready or lifeline_fd in ready:
            break
        way.on_event()
    way.close()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:5]], sys.argv[5:])
