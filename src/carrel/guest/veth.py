"""A sandbox's own link: a veth pair from its network namespace to the cell block's, with addresses and routes, in two messages.

Run by the agent while it still has the cell block's capabilities, before the user namespace is made: both namespaces belong to the
cell block, so nobody needs a privilege on the host, and code, which belongs to a user namespace that owns neither, can change nothing.
The cell block's end is deleted by the kernel with the sandbox's namespace, and by `remove` when the sandbox has been killed: connections
with something left to send outlive their processes, and would keep the namespace for as long as their receivers like.

rtnetlink by hand, since the guest is standard library only, and for speed: 0.6 ms a link (docs/decisions/0014). Layouts: rtnetlink(7),
linux/if_link.h, linux/rtnetlink.h; numbers are in host byte order but addresses.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

from carrel.guest import linux

_INDEX = 2  # of the sandbox's end, the first after loopback
_FIRST_OUTER_INDEX = 1000

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_REQUEST_ACK, _CREATE_EXCL = 0x5, 0x600
_ERROR = 2
_NESTED = 0x8000
_IFF_UP = 1
_IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD, _INFO_KIND, _INFO_DATA, _VETH_PEER = 3, 4, 18, 28, 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_F_NODAD = 1, 2, 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY = 1, 4, 5
_TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_LINK, _UNICAST = 254, 4, 253, 1


class Outside:
    """The cell block's network namespace, which the caller is in now and is about to leave for a sandbox's own."""

    def __init__(self) -> None:
        self._namespace = linux.open_namespace("net")
        self._socket = rtnetlink()

    def close(self) -> None:
        self._socket.close()
        os.close(self._namespace)

    def connect(self, link: dict[str, Any]) -> None:
        """Make the caller's new network namespace a neighbour of the one it came from. `link`: backends/policy.py, `link()`.

        The sandbox's end is up at once; the other end has to be set up afterwards, since the kernel does not let an end come up whose
        partner does not exist yet (ENOTCONN).
        """
        outer = _FIRST_OUTER_INDEX + link["number"]
        address, gateway = socket.inet_aton(link["address"]), socket.inet_aton(link["gateway"])
        inner = [_pair(outer, f"s{link['number']}", self._namespace, link["mtu"])]
        inner += [_address(_INDEX, address), _route(_INDEX, gateway), _route(_INDEX, None, gateway)]
        outside = [_message(_NEWLINK, 0, _link_header(outer, _IFF_UP)), _route(outer, address)]
        if link["address6"] is not None:  # a kernel without IPv6 knows neither address nor route of it
            address6, gateway6 = (socket.inet_pton(socket.AF_INET6, link[name]) for name in ("address6", "gateway6"))
            inner += [_address(_INDEX, address6), _route(_INDEX, None, gateway6)]
            outside += [_address(outer, gateway6, 64), _route(outer, address6)]
        with rtnetlink() as inside:
            _ask(inside, *inner)
        _ask(self._socket, *outside)


def remove(kernel: socket.socket, number: int) -> None:
    """Delete the link of sandbox `number`; `kernel` is an rtnetlink socket of the cell block's namespace. Nothing where there is none."""
    try:
        _ask(kernel, _message(_DELLINK, 0, _link_header(0, 0) + _attribute(_IFLA_IFNAME, f"s{number}\0".encode())))
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise


def rtnetlink() -> socket.socket:
    """A socket of the network namespace that the caller is in, whichever it is in later."""
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)


def _ask(kernel: socket.socket, *messages: bytes) -> None:
    """Send all in one go and read an acknowledgement for each. Raises OSError with the first refusal."""
    kernel.send(b"".join(messages))
    waiting = len(messages)
    while waiting:
        data = kernel.recv(65_536)
        while data:
            length, kind = struct.unpack_from("IH", data)
            if kind == _ERROR:
                (number,) = struct.unpack_from("i", data, 16)
                if number:
                    raise OSError(-number, f"rtnetlink, message {len(messages) - waiting}: {os.strerror(-number)}")
                waiting -= 1
            data = data[(length + 3) & ~3 :]


def _message(kind: int, flags: int, body: bytes) -> bytes:
    return struct.pack("IHHII", 16 + len(body), kind, flags | _REQUEST_ACK, 0, 0) + body


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _link_header(index: int, flags: int) -> bytes:
    return struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)  # struct ifinfomsg


def _pair(outer: int, outer_name: str, outer_namespace: int, mtu: int) -> bytes:
    size = _attribute(_IFLA_MTU, struct.pack("I", mtu))
    peer = _link_header(outer, 0) + _attribute(_IFLA_IFNAME, outer_name.encode() + b"\0") + size
    peer += _attribute(_IFLA_NET_NS_FD, struct.pack("I", outer_namespace))
    data = _attribute(_INFO_DATA | _NESTED, _attribute(_VETH_PEER, peer))
    info = _attribute(_IFLA_LINKINFO | _NESTED, _attribute(_INFO_KIND, b"veth") + data)
    return _message(
        _NEWLINK, _CREATE_EXCL, _link_header(_INDEX, _IFF_UP) + _attribute(_IFLA_IFNAME, b"eth0\0") + size + info
    )


def _address(index: int, address: bytes, bits: int | None = None) -> bytes:
    """Alone in its network unless `bits` says otherwise; IPv6 without waiting for others that might have it."""
    family, flags = (socket.AF_INET, 0) if len(address) == 4 else (socket.AF_INET6, _IFA_F_NODAD)
    header = struct.pack("BBBBi", family, bits or len(address) * 8, flags, 0, index)  # struct ifaddrmsg
    body = header + _attribute(_IFA_LOCAL, address) + _attribute(_IFA_ADDRESS, address)
    return _message(_NEWADDR, _CREATE_EXCL, body)


def _route(index: int, destination: bytes | None, gateway: bytes | None = None) -> bytes:
    """To one address on the link, or everything else by `gateway`."""
    known = destination or gateway or b""
    family = socket.AF_INET if len(known) == 4 else socket.AF_INET6
    scope = _SCOPE_LINK if gateway is None and family == socket.AF_INET else 0
    bits = len(destination) * 8 if destination else 0
    body = struct.pack(
        "BBBBBBBBI", family, bits, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, scope, _UNICAST, 0
    )  # struct rtmsg
    body += _attribute(_RTA_OIF, struct.pack("i", index))
    if destination:
        body += _attribute(_RTA_DST, destination)
    if gateway:
        body += _attribute(_RTA_GATEWAY, gateway)
    return _message(_NEWROUTE, _CREATE_EXCL, body)
