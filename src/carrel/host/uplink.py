"""The way out for sandboxes' links: `python -m carrel.host.uplink`, started by the spawner for the first pool with raw egress.

The cell block's own network namespace, where every sandbox's link ends (`guest/veth.py`), is a small router. This process gives it its
one way out and its packet rules (`ruleset.py`): as root by the kernel (`veth_way.py`), for an ordinary user by a stack in user space
(`tap_way.py`). It stays to take back what it made, with no capability but CAP_NET_ADMIN, and outlives the spawner, however that ends:
the end of its sockets is the word to clean up.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys

from pyroute2.netlink.exceptions import NetlinkError

from carrel.guest import linux, veth
from carrel.host import router
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
    is_root = os.geteuid() == 0
    way: Veth | Tap = Veth(network, carve_outs) if is_root else Tap(network, users, carve_outs)
    own = {} if is_root else {linux.CLONE_NEWUSER: users}
    try:
        kernel = router.rtnetlink({**own, linux.CLONE_NEWNET: network})
        facts = way.make()
    except (Refused, NftFailed, NetlinkError, OSError) as error:
        host.send(json.dumps({"error": str(error)}).encode())
        return
    try:
        if is_root:
            os.close(network)
            linux.limit_capabilities((_CAP_NET_ADMIN,))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the host ended, maybe before we were ready
            host.send(json.dumps({"ready": True, **facts}).encode())
            _stay(host, lifeline_fd, way, kernel)
    finally:
        way.close()


def _stay(host: socket.socket, lifeline: int, way: Veth | Tap, kernel: socket.socket) -> None:
    """Until the host or the spawner closes its end."""
    host_fd = host.fileno()
    while True:
        ready, _, _ = select.select([host_fd, lifeline, *way.events], [], [])
        if lifeline in ready or (host_fd in ready and not _answer(host, kernel)):
            return
        if any(each in ready for each in way.events):
            way.on_event()


def _answer(host: socket.socket, kernel: socket.socket) -> bool:
    """One request of the host's, {"op": "unlink", "number"}: delete a sandbox's link. Whether there was one."""
    data = host.recv(4096)
    if not data:
        return False
    request = json.loads(data)
    answer = {"id": request["id"]}
    try:
        veth.remove(kernel, int(request["number"]))
    except OSError as error:
        answer["error"] = str(error)
    host.send(json.dumps(answer).encode())
    return True


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:5]], sys.argv[5:])
