"""Which addresses a session may reach, whatever its pool allows: the one list, for the proxy and for the packet rules.

What is not public is refused: loopback, link-local, private, carrier and reserved ranges, multicast, and the clouds' own
service addresses, in every spelling of IPv6 that carries an IPv4 address. Of IPv6 only global unicast (2000::/3) counts as public,
so that a range nobody has thought of is refused. An operator may carve ranges out (`egress-allow-private`); the host's own addresses
are opened only by a carve-out of that one address, never by a range that happens to hold it.

Ranges: IANA's special-purpose registries (https://www.iana.org/assignments/iana-ipv4-special-registry and …-ipv6-…). A few ranges that
the registry calls globally reachable (AS112, AMT, deprecated 6to4 relays) are left out here where they are nobody's servers.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Iterable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Range = ipaddress.IPv4Network | ipaddress.IPv6Network

# What each range is; the texts are what a refused caller reads. The clouds' metadata services come first, since they lie in wider ranges.
_METADATA = "a cloud's metadata or platform service"
SPECIAL_IPV4 = {
    "169.254.169.254/32": _METADATA,  # AWS, Azure, Google, Oracle, IBM, OpenStack …
    "169.254.170.2/32": _METADATA,  # AWS: credentials of ECS tasks
    "169.254.170.23/32": _METADATA,  # AWS: credentials of EKS pods
    "168.63.129.16/32": _METADATA,  # Azure: wire server; the one that lies in public space
    "100.100.100.200/32": _METADATA,  # Alibaba
    "192.0.0.192/32": _METADATA,  # Oracle, older
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "a private range",
    "100.64.0.0/10": "a carrier's shared range",
    "127.0.0.0/8": "loopback",
    "169.254.0.0/16": "link-local",
    "172.16.0.0/12": "a private range",
    "192.0.0.0/24": "reserved for protocols",
    "192.0.2.0/24": "reserved for documentation",
    "192.88.99.0/24": "6to4 relays",
    "192.168.0.0/16": "a private range",
    "198.18.0.0/15": "reserved for benchmarks",
    "198.51.100.0/24": "reserved for documentation",
    "203.0.113.0/24": "reserved for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved, or broadcast",
}
SPECIAL_IPV6 = {
    "fd00:ec2::254/128": _METADATA,  # AWS
    "fd20:ce::254/128": _METADATA,  # Google
    "fd00:c1::a9fe:a9fe/128": _METADATA,  # Oracle
    "fd00:ec2::23/128": _METADATA,  # AWS: credentials of EKS pods
    "::1/128": "loopback",
    "::/128": "the unspecified address",
    "::ffff:0:0/96": "an IPv4 address in IPv6 spelling",
    "64:ff9b::/96": "an IPv4 address in IPv6 spelling (NAT64)",
    "64:ff9b:1::/48": "an IPv4 address in IPv6 spelling (NAT64)",
    "2002::/16": "an IPv4 address in IPv6 spelling (6to4)",
    "2001::/23": "reserved for protocols, Teredo's IPv4 spellings among them",
    "2001:db8::/32": "reserved for documentation",
    "3fff::/20": "reserved for documentation",
    "fc00::/7": "a private range (unique local)",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
    # All that is outside 2000::/3, which is the last word for what has no name above.
    "::/3": "outside global unicast",
    "4000::/2": "outside global unicast",
    "8000::/1": "outside global unicast",
}
# No route, or no such protocol in this kernel: nothing here has the address.
_UNREACHABLE = {
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT
}  # fmt: skip
_SPECIAL: dict[int, tuple[tuple[Range, str], ...]] = {
    4: tuple((ipaddress.ip_network(text), name) for text, name in SPECIAL_IPV4.items()),
    6: tuple((ipaddress.ip_network(text), name) for text, name in SPECIAL_IPV6.items()),
}


def special_ranges(version: int) -> list[Range]:
    """What is refused of IPv4 or IPv6, as ranges that neither overlap nor repeat: elements of a packet filter's set."""
    if version == 4:
        return list(ipaddress.collapse_addresses(ipaddress.IPv4Network(text) for text in SPECIAL_IPV4))
    return list(ipaddress.collapse_addresses(ipaddress.IPv6Network(text) for text in SPECIAL_IPV6))


def parse_ranges(texts: Iterable[str]) -> tuple[Range, ...]:
    """An operator's carve-outs: addresses or CIDRs without host bits. Raises ValueError with a text for people."""
    ranges: list[Range] = []
    for text in texts:
        try:
            found = ipaddress.ip_network(text.strip())
        except ValueError as error:
            raise ValueError(f"'{text}' is not an address or a range such as 10.1.0.0/16: {error}") from None
        if found.prefixlen == 0:
            raise ValueError(f"'{text}' is every address there is; name the ranges that sessions may reach")
        ranges.append(found)
    return tuple(ranges)


def refusal(address: str | Address, carve_outs: Sequence[Range] = (), *, is_own: bool = False) -> str | None:
    """Why no session may reach `address`, or None where it may. `is_own`: the address is one of this machine's (see is_own_address).

    Raises ValueError for what is no address; one with a zone (fe80::1%eth0) is refused.
    """
    found = ipaddress.ip_address(address) if isinstance(address, str) else address
    if getattr(found, "scope_id", None):
        return "an address with a zone"
    if any(_covers(each, found, is_own=is_own) for each in carve_outs):
        return None
    if is_own:
        return "this machine itself"
    return next((name for network, name in _SPECIAL[found.version] if found in network), None)


def is_public(address: str | Address, carve_outs: Sequence[Range] = ()) -> bool:
    """Whether sessions may reach `address`, as far as its range tells."""
    return refusal(address, carve_outs) is None


def _covers(carve_out: Range, address: Address, *, is_own: bool) -> bool:
    if carve_out.version != address.version or address not in carve_out:
        return False
    return not is_own or carve_out.num_addresses == 1


def is_own_address(address: str | Address) -> bool:
    """Whether this machine (this network namespace) has the address, asked of the kernel and never remembered: interfaces come and go.

    The kernel picks as source for an address of its own that address itself; a UDP socket's connect sends nothing.
    """
    found = ipaddress.ip_address(str(address).partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
        found = found.ipv4_mapped
    if found.is_unspecified or found.is_loopback:
        return True
    family = socket.AF_INET if found.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(found), 9))
            return ipaddress.ip_address(probe.getsockname()[0].partition("%")[0]) == found
    except OSError as error:
        if error.errno in _UNREACHABLE:
            return False
        raise
