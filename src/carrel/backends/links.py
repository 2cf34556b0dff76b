"""Raw egress (Network.OPEN) as data: addresses, names and bounds of links. The mechanism is `guest/veth.py` and `host/uplink.py`.

Inside the cell block every link has addresses out of ranges that no session may reach anyway (egress/addresses.py: benchmarks' and unique
local ones), and what leaves it has the uplink's address (masquerade), so that a sandbox's address is never seen on the host.
"""

from __future__ import annotations

import ipaddress
from functools import cache
from pathlib import Path
from typing import Any

PREFIX = "crl"  # of the host's interfaces that are ours

SANDBOXES = ipaddress.ip_network("198.18.0.0/16")
SANDBOXES6 = ipaddress.ip_network("fdca:44e1:0:1::/64")
GATEWAY, GATEWAY6 = "198.19.255.254", "fe80::1"
NUMBERS = 60_000  # of links, after which they begin again
UPLINKS = ipaddress.ip_network("198.19.0.0/17")  # on the host, two addresses a server
UPLINKS6 = ipaddress.ip_network("fdca:44e1:0:2::/64")
TRIALS = ipaddress.ip_network("198.19.128.0/18")  # of the canary, two a server

FLOWS = 512  # connections (and UDP exchanges) that one sandbox may have at a time
FLOWS_PER_SECOND = 200  # new ones of one sandbox, above the first FLOWS
ALL_FLOWS = 16_384  # of one server at a time: what it may take of the host's connection table
IDLE_S = 7200  # a connection that nobody uses is forgotten after this; the kernel's own 5 days would fill the table


def link(number: int) -> dict[str, Any]:
    """The link of sandbox `number`, as `guest/veth.py` takes it."""
    number %= NUMBERS
    return {
        "number": number,
        "address": str(SANDBOXES[number + 1]),
        "gateway": GATEWAY,
        "address6": str(SANDBOXES6[number + 1]) if has_ipv6() else None,
        "gateway6": GATEWAY6,
        "mtu": 1500,
    }


@cache
def has_ipv6() -> bool:
    """Whether this kernel speaks IPv6 at all."""
    return Path("/proc/net/if_inet6").exists()
