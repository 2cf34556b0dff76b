"""Who is at the other end of a loopback connection, as the kernel knows it.

The kernel is asked for that one socket (sock_diag(7)). Its list of all sockets in /proc/net/tcp says the same, but takes tens of
milliseconds to read where somebody has left some thousand connections behind: it is for kernels that cannot be asked.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import socket
import struct
from pathlib import Path

Address = tuple[str, int]

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h
_SOCK_DIAG, _BY_FAMILY, _REQUEST = 4, 20, 1
_ANY = 0xFFFF_FFFF
_STATE_AT, _UID_AT = 17, 80  # in the reply; the inode comes after the uid
_REPLY_BYTES = 88
_LISTEN = 10


def is_loopback(address: Address | None) -> bool:
    """Whether a peer is this machine. Unknown peers are not."""
    if address is None:
        return False
    try:
        ip = ipaddress.ip_address(address[0].partition("%")[0])
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def uid_of(peer: Address, ours: Address) -> int | None:
    """The user whose socket is the peer's end of a connection; None where there is none, also of one that was closed meanwhile."""
    try:
        return _asked(peer, ours) if _can_ask() else _listed(peer, ours)
    except OSError:  # no descriptor is free
        return None


@functools.cache
def _can_ask() -> bool:
    """Whether the kernel answers: it may lack the part for it (CONFIG_INET_DIAG), or another boundary around us refuses."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
            return _asked(client.getsockname(), server.getsockname()) == os.geteuid()
    except (OSError, struct.error):
        return False


def _asked(peer: Address, ours: Address) -> int | None:
    source, destination = (ipaddress.ip_address(each[0].partition("%")[0]) for each in (peer, ours))
    family = socket.AF_INET6 if source.version == 6 else socket.AF_INET
    ends = struct.pack("!HH16s16s", peer[1], ours[1], source.packed, destination.packed)
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, _ANY) + ends + struct.pack("=III", 0, _ANY, _ANY)
    head = struct.pack("=IHHII", 16 + len(body), _BY_FAMILY, _REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        kernel.sendto(head + body, (0, 0))
        reply = kernel.recv(4096, socket.MSG_DONTWAIT)  # it was answered before `sendto` returned
    (kind,) = struct.unpack_from("=H", reply, 4)
    if kind != _BY_FAMILY or len(reply) < _REPLY_BYTES or reply[_STATE_AT] == _LISTEN:
        return None
    uid, inode = struct.unpack_from("=II", reply, _UID_AT)
    return int(uid) if inode else None  # what nobody holds any more is said to be root's


def _listed(peer: Address, ours: Address) -> int | None:
    for name in ("tcp", "tcp6"):
        wanted = (_as_listed(peer, name), _as_listed(ours, name))
        try:
            lines = Path("/proc/net", name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if (fields[1], fields[2]) == wanted and fields[9] != "0":
                return int(fields[7])
    return None


def _as_listed(address: Address, table: str) -> str:
    """An address in the notation of /proc/net/tcp and tcp6: each 32-bit word in the machine's own byte order."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    packed = ip.packed if ip.version == 6 or table == "tcp" else b"\0" * 10 + b"\xff\xff" + ip.packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
