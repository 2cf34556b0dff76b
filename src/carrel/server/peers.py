"""Who is at the other end of a loopback connection, as the kernel knows it."""

from __future__ import annotations

import ipaddress
import struct
from pathlib import Path

Address = tuple[str, int]


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
    """The user whose socket is the peer's end of a connection, by the kernel's list of sockets; None where it is not listed."""
    for name in ("tcp", "tcp6"):
        wanted = (_as_listed(peer, name), _as_listed(ours, name))
        try:
            lines = Path("/proc/net", name).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if (fields[1], fields[2]) == wanted:
                return int(fields[7])
    return None


def _as_listed(address: Address, table: str) -> str:
    """An address in the notation of /proc/net/tcp and tcp6: each 32-bit word in the machine's own byte order."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    packed = ip.packed if ip.version == 6 or table == "tcp" else b"\0" * 10 + b"\xff\xff" + ip.packed
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{address[1]:04X}"
