"""The way out for sandboxes' links: `python -m carrel.host.uplink`, started by the spawner for the first pool with raw egress.

The cell block's own network namespace, where every sandbox's link ends (`guest/veth.py`), is a small router. This process gives it its
one way out, a veth pair to the host (`up` there, `crl<pid>` here), and the packet rules of both sides (`ruleset.py`), rules first. As it
leaves it takes them back, link first: no packet ever passes without rules. It stays for that alone, with no capability but CAP_NET_ADMIN,
and outlives the spawner, however that ends: the end of its socket is the word to clean up. What a dead one left behind the next start
sweeps; everything carries its owner's name.

Where a firewall of the host's drops forwarded packets (Docker's and ufw's do), rules of ours cannot allow them. That is found by trial
(`trial.py`), told as the reason, and everything is taken back.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from carrel.backends import links
from carrel.egress.addresses import Range, parse_ranges
from carrel.guest import linux
from carrel.host import forwarding, interfaces, nft, owners, ruleset, trial
from carrel.host.interfaces import Pair

_UP = "up"  # the cell block's end
_TABLE = "carrel_"
_INSIDE = "carrel"
_CAP_NET_ADMIN = 12  # linux/capability.h
_EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
_ROUTER = {
    "ipv4/ip_forward": "1",
    "ipv4/conf/all/accept_redirects": "0",
    "ipv4/conf/all/send_redirects": "0",
    "ipv6/conf/all/forwarding": "1",
    "ipv6/conf/all/accept_ra": "0",
    "ipv6/conf/default/accept_ra": "0",
    "ipv6/conf/all/accept_redirects": "0",
    "netfilter/nf_conntrack_tcp_timeout_established": str(links.IDLE_S),
}


class Refused(Exception):
    """This machine gives no way out; the text is for people."""


class Uplink:
    """`block` is the cell block's network namespace, open."""

    def __init__(self, block: int, carve_outs: Iterable[str]) -> None:
        self._block = block
        self._carve_outs: tuple[Range, ...] = parse_ranges(carve_outs)
        self._owner = owners.me()
        self._table = _TABLE + self._owner
        self._link, self._trial = _links_of(os.getpid())
        self._kernel = IPRoute()

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
        guarded = {path.parent.name for path in changed}
        nft.load(ruleset.outside(self._table, self._link, self._carve_outs, guarded, self._trial))
        ours, theirs = _addresses(self._kernel, [version for version in ways if ways[version]])
        mtu = interfaces.mtu(self._kernel, ways[4] | ways[6])
        self._pair(ours, mtu)
        _inside(self._block, lambda: _configure(ours, theirs, self._carve_outs))
        if 4 in ours and not trial.passes(self._kernel, self._block, self._trial):
            every = f"{links.PREFIX}+"
            raise Refused(
                f"a firewall of this machine drops what is forwarded, as Docker's and ufw's do; have it accept what comes from {every} and "
                f"goes to {every}, with Docker: iptables -I DOCKER-USER -i {every} -j ACCEPT; iptables -I DOCKER-USER -o {every} -j ACCEPT"
            )
        return {"uplink": "veth", "ipv6": 6 in ours, "mtu": mtu}

    def _pair(self, addresses: Pair, mtu: int) -> None:
        peer = {"ifname": _UP, "net_ns_fd": self._block, "mtu": mtu}
        self._kernel.link("add", ifname=self._link, kind="veth", mtu=mtu, peer=peer)
        for version in addresses:
            for path in _switches(version, {self._link}):
                path.write_text("1")
        _write({f"ipv4/conf/{self._link}/accept_redirects": "0", f"ipv6/conf/{self._link}/accept_ra": "0"})
        interfaces.set_up(self._kernel, self._link, addresses)

    def close(self) -> None:
        """Take all of it back, link first; what is not there is left out."""
        for name in (self._trial, self._link):
            interfaces.remove(self._kernel, name)
        nft.remove(self._table)
        forwarding.release(self._owner)
        self._kernel.close()


def sweep(kernel: IPRoute) -> None:
    """Take back what owners that are gone have left."""
    for table in nft.tables(_TABLE):
        owner = table.removeprefix(_TABLE)
        if owners.is_gone(owner):
            for name in _links_of(owners.pid_of(owner)):
                interfaces.remove(kernel, name)
            nft.remove(table)
            forwarding.release(owner)


def _links_of(pid: int) -> tuple[str, str]:
    """The host's end of the uplink, and that of its trial."""
    return f"{links.PREFIX}{pid}", f"{links.PREFIX}t{pid}"


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
    nft.remove(_INSIDE)
    nft.load(ruleset.inside(_INSIDE, carve_outs))
    _write(_ROUTER)
    with IPRoute() as kernel:
        kernel.addr("replace", index=1, address=links.GATEWAY, prefixlen=32)
        kernel.link("set", index=1, state="up")
        index = interfaces.set_up(kernel, _UP, own)
        for version, gateway in host.items():
            kernel.route("replace", dst=_EVERYTHING[version], gateway=gateway, oif=index)


def _inside(namespace: int, job: Callable[[], None]) -> None:
    """Run `job` in a child in `namespace`. Raises Refused with what went wrong there."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            linux.setns(namespace, linux.CLONE_NEWNET)
            job()
        except Exception as error:
            os.write(writing, f"in the cell block: {error}".encode()[:2000])
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as text:
        failure = text.read()
    os.waitpid(pid, 0)
    if failure:
        raise Refused(failure)


def _can_forward(version: int, interfaces: set[str]) -> bool:
    return forwarding.forwards_everywhere(version) or all(forwarding.switch(version, name) for name in interfaces)


def _switches(version: int, interfaces: set[str]) -> list[Path]:
    """What has to be on for these interfaces to forward; nothing on a host that is a router already."""
    if forwarding.forwards_everywhere(version):
        return []
    return [path for name in sorted(interfaces) if (path := forwarding.switch(version, name)) is not None]


def _write(settings: dict[str, str]) -> None:
    """Settings of this network namespace; those that this kernel lacks are left out."""
    for name, value in settings.items():
        path = Path("/proc/sys/net") / name
        if path.exists():
            path.write_text(value)


def main(descriptors: list[int], carve_outs: list[str]) -> None:
    """Make the way out, tell the host, and stay until the host or the spawner closes its end of a socket.

    Descriptors: the socket to the host, the lifeline to the spawner, the cell block's network namespace.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    host_fd, lifeline_fd, block = descriptors
    host, lifeline = socket.socket(fileno=host_fd), socket.socket(fileno=lifeline_fd)
    uplink = Uplink(block, carve_outs)
    try:
        facts = uplink.make()
    except (Refused, nft.NftFailed, NetlinkError, OSError) as error:
        host.send(json.dumps({"error": str(error)}).encode())
        return
    os.close(block)  # the namespace is to end with the cell block
    linux.limit_capabilities((_CAP_NET_ADMIN,))
    host.send(json.dumps({"ready": True, **facts}).encode())
    select.select([host, lifeline], [], [])
    uplink.close()


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:4]], sys.argv[4:])
