"""The way out as root: a veth pair between the cell block (`up`) and the host (`crl…`), forwarded and translated by the kernel.

Rules come first and go last, so no packet ever passes without them. What a maker that was killed left behind the next start sweeps;
everything carries its owner's name. Where a firewall of the host's drops forwarded packets (Docker's and ufw's do), rules of ours cannot
allow them. That is found by trial (`trial.py`), told as the reason, and everything is taken back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from carrel.backends import links
from carrel.egress.addresses import Range, parse_ranges
from carrel.guest import linux
from carrel.host import forwarding, interfaces, nft, owners, router, ruleset, trial
from carrel.host.interfaces import Pair
from carrel.host.router import Refused

_TABLE = "carrel_"
_NETCONF_GROUPS = 1 << 23 | 1 << 24  # RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF, linux/rtnetlink.h
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}


class Veth:
    """`block` is the cell block's network namespace, open."""

    def __init__(self, block: int, carve_outs: Iterable[str]) -> None:
        self._block = block
        self._carve_outs: tuple[Range, ...] = parse_ranges(carve_outs)
        self._owner = owners.me()
        self._table = _TABLE + self._owner
        self._link, self._trial = links_of(self._owner)
        self._kernel = IPRoute()
        self._made_forwarding: dict[int, set[str]] = {4: set(), 6: set()}  # by version of IP
        self._changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
        self._changes.bind((0, _NETCONF_GROUPS))

    def make(self) -> dict[str, Any]:
        """All of it; what the host is told. Raises Refused, NftFailed, NetlinkError or OSError, with everything taken back."""
        sweep(self._kernel)
        try:
            return self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> dict[str, Any]:
        ways = {version: interfaces.ways_out(self._kernel, version) for version in (4, 6)}
        if not _can_forward(6, ways[6]):
            ways[6] = set()
        if not any(ways.values()):
            raise Refused("this machine has no route to the internet")
        changed = forwarding.take(self._owner, [path for each in ways for path in _switches(each, ways[each])])
        for path in changed:
            self._made_forwarding[forwarding.version_of(path)].add(path.parent.name)
        rules = partial(ruleset.outside, self._table, self._link, self._carve_outs, self._trial)
        try:
            nft.load(rules() + self._guard())
        except nft.NftFailed:
            nft.load(rules(forgets=False) + self._guard())  # a kernel without CONFIG_NF_CONNTRACK_TIMEOUT
        ours, theirs = _addresses(self._kernel, [version for version in ways if ways[version]])
        mtu = interfaces.mtu(self._kernel, ways[4] | ways[6])
        self._pair(ours, mtu)
        router.inside({linux.CLONE_NEWNET: self._block}, lambda: _configure(ours, theirs, self._carve_outs))
        if 4 in ours and not trial.passes(self._kernel, self._block, self._trial):
            every = f"{links.PREFIX}+"
            raise Refused(
                f"a firewall of this machine drops what is forwarded, as Docker's and ufw's do; have it accept what comes from {every} and "
                f"goes to {every}, with Docker: iptables -I DOCKER-USER -i {every} -j ACCEPT; iptables -I DOCKER-USER -o {every} -j ACCEPT"
            )
        return {"uplink": "veth", "ipv6": 6 in ours, "mtu": mtu}

    def _pair(self, addresses: Pair, mtu: int) -> None:
        peer = {"ifname": router.UP, "net_ns_fd": self._block, "mtu": mtu}
        self._kernel.link("add", ifname=self._link, kind="veth", mtu=mtu, peer=peer)
        for version in addresses:
            for path in _switches(version, {self._link}):
                path.write_text("1")
        router.write({f"ipv4/conf/{self._link}/accept_redirects": "0", f"ipv6/conf/{self._link}/accept_ra": "0"})
        interfaces.set_up(self._kernel, self._link, addresses)

    def close(self) -> None:
        """Take all of it back, link first; what is not there is left out, and what fails does not keep the rest."""
        with contextlib.ExitStack() as steps:  # from the last line to the first
            steps.callback(self._changes.close)
            steps.callback(self._kernel.close)
            steps.callback(forwarding.release, self._owner)
            steps.callback(nft.remove, self._table)
            for name in (self._link, self._trial):
                steps.callback(interfaces.remove, self._kernel, name)

    def _guard(self) -> str:
        """For the versions in which the host is no router by itself."""
        needed = {
            version: names
            for version, names in self._made_forwarding.items()
            if not forwarding.forwards_everywhere(version)
        }
        return ruleset.guard(self._table, needed)

    @property
    def events(self) -> list[int]:
        """Readable when forwarding was switched: a host that is made a router meanwhile (as by Docker) must not meet our guard."""
        return [self._changes.fileno()]

    def on_event(self) -> None:
        """As forwarding is now."""
        with contextlib.suppress(OSError):  # all of them are read; or there were more than the kernel keeps
            while self._changes.recv(65536):
                pass
        nft.load(self._guard())


def sweep(kernel: IPRoute) -> None:
    """Take back what owners that are gone have left."""
    for table in nft.tables(_TABLE):
        owner = table.removeprefix(_TABLE)
        if owners.is_gone(owner):
            for name in links_of(owner):
                interfaces.remove(kernel, name)
            nft.remove(table)
            forwarding.release(owner)


def links_of(owner: str) -> tuple[str, str]:
    """The host's end of the uplink, and that of its trial. Not by pid: containers that share the host's network have the same ones."""
    name = hashlib.sha256(owner.encode()).hexdigest()[:8]
    return f"{links.PREFIX}{name}", f"{links.PREFIX}t{name}"


def _addresses(kernel: IPRoute, versions: list[int]) -> tuple[Pair, Pair]:
    """The host's and the cell block's; a pair that nobody else here uses."""
    pairs = links.UPLINKS.num_addresses // 2
    for attempt in range(64):
        number = (os.getpid() + attempt) % pairs * 2
        if not list(kernel.get_addr(address=str(links.UPLINKS[number]))):
            networks = {4: links.UPLINKS, 6: links.UPLINKS6}
            ours, theirs = ({each: str(networks[each][number + end]) for each in versions} for end in (0, 1))
            return ours, theirs
    raise Refused(f"no addresses are left for a link in {links.UPLINKS}")


def _configure(host: Pair, own: Pair, carve_outs: tuple[Range, ...]) -> None:
    """Runs in the cell block's namespace: its rules, then its end of the link."""
    router.begin(ruleset.inside(router.TABLE, carve_outs))
    with IPRoute() as kernel:
        index = interfaces.set_up(kernel, router.UP, own)
        for version, gateway in host.items():
            kernel.route("replace", dst=_EVERYTHING[version], gateway=gateway, oif=index)


def _can_forward(version: int, interfaces: set[str]) -> bool:
    return forwarding.forwards_everywhere(version) or all(forwarding.switch(version, name) for name in interfaces)


def _switches(version: int, interfaces: set[str]) -> list[Path]:
    """What has to be on for these interfaces to forward; nothing on a host that is a router already."""
    if forwarding.forwards_everywhere(version):
        return []
    return [path for name in sorted(interfaces) if (path := forwarding.switch(version, name)) is not None]
