"""Interfaces of a network namespace, by rtnetlink (pyroute2): which lead out, which we set up, which we remove."""

from __future__ import annotations

import errno

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

Pair = dict[int, str]  # one address for each version of IP

NODAD = 0x02
# Asked of the routing as the host's own programs would be, whatever policies and tables it has; nothing is sent to them.
_SOMEWHERE = {4: ("1.1.1.1", "193.0.0.1"), 6: ("2606:4700::1", "2a00:1450::1")}


def ways_out(kernel: IPRoute, version: int) -> set[str]:
    """The interfaces by which this host reaches the internet."""
    found = set()
    for address in _SOMEWHERE[version]:
        try:
            route = next(iter(kernel.route("get", dst=address)))
        except NetlinkError:
            continue  # no route
        link = next(iter(kernel.get_links(route.get_attr("RTA_OIF"))))
        found.add(str(link.get_attr("IFLA_IFNAME")))
    return found - {"lo"}


def mtu(kernel: IPRoute, interfaces: set[str]) -> int:
    """Of the narrowest, and of Ethernet at most."""
    indexes = [kernel.link_lookup(ifname=name)[0] for name in interfaces]
    return min(1500, *(int(next(iter(kernel.get_links(index))).get_attr("IFLA_MTU")) for index in indexes))


def set_up(kernel: IPRoute, name: str, addresses: Pair) -> int:
    """Give an interface its end of a pair of addresses, IPv6 without waiting for others that might have it; its index."""
    index: int = kernel.link_lookup(ifname=name)[0]
    for version, address in addresses.items():
        kernel.addr(
            "add",
            index=index,
            address=address,
            **({"prefixlen": 31} if version == 4 else {"prefixlen": 127, "flags": NODAD}),
        )
    kernel.link("set", index=index, state="up")
    return index


def remove(kernel: IPRoute, name: str) -> None:
    """Nothing where there is none: a veth goes by itself with the namespace of its other end."""
    try:
        for index in kernel.link_lookup(ifname=name):
            kernel.link("del", index=index)
    except NetlinkError as error:
        if error.code != errno.ENODEV:  # gone meanwhile
            raise
