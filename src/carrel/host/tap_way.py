"""The way out for an ordinary user: slirp4netns, a network stack in user space, behind a tap interface of the cell block (`up`).

It needs no privilege but to open /dev/net/tun, which is found out by trying. What it connects it connects as the user, from the host, so
the host's own addresses would be within reach: they are refused by rules in the cell block's namespace, which code cannot change (its
user namespace does not own it), and which follow the host's addresses as they change. An address that the host has had for less than a
moment may be reached in that moment, where it is public; nothing else may ever.
"""

from __future__ import annotations

import ipaddress
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterable
from typing import Any

from pyroute2 import IPRoute

from carrel.backends import links
from carrel.egress.addresses import Range, parse_ranges
from carrel.guest import linux
from carrel.host import interfaces, nft, router, ruleset
from carrel.host.router import Refused

_DEVICE = "/dev/net/tun"
_PROGRAM = "slirp4netns"
_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"
_READY_S = 10.0
_MTU = 1500
_OWN6, _GATEWAY6 = "fd00::100", "fd00::2"  # slirp4netns(1), --enable-ipv6


class Tap:
    """`network` and `users` are the cell block's namespaces, open."""

    def __init__(self, network: int, users: int, carve_outs: Iterable[str]) -> None:
        self._network, self._users = network, users
        self._carve_outs = parse_ranges(carve_outs)
        self._addresses = IPRoute()
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> dict[str, Any]:
        """All of it; what the host is told. Raises Refused, NftFailed, NetlinkError or OSError, with everything taken back."""
        program = _find()
        try:
            self._addresses.bind()  # from here on it tells of changes
            host = self._host()
            self._inside(lambda: router.begin(ruleset.inside(router.TABLE, self._carve_outs, host)))
            self._start(program)
            has_ipv6 = links.has_ipv6() and bool(self._ways_out6())
            if has_ipv6:
                self._inside(_add_ipv6)
        except BaseException:
            self.close()
            raise
        return {"uplink": "tap", "ipv6": has_ipv6, "mtu": _MTU}

    def _start(self, program: str) -> None:
        """Returns when it is ready. It ends with this process: with the other end of `exit`."""
        ready, tell_ready = os.pipe()
        exit_end, self._exit = os.pipe()
        options = [
            "--configure",
            f"--mtu={_MTU}",
            "--disable-host-loopback",
            "--disable-dns",
            "--enable-seccomp",
            "--enable-ipv6",
        ]
        options += [f"--userns-path=/proc/self/fd/{self._users}", "--netns-type=path"]
        options += [f"--ready-fd={tell_ready}", f"--exit-fd={exit_end}"]
        try:
            self._process = subprocess.Popen(
                [program, *options, f"/proc/self/fd/{self._network}", router.UP],
                pass_fds=(tell_ready, exit_end, self._users, self._network),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env={"PATH": _PATH},
            )
        finally:
            os.close(tell_ready)
            os.close(exit_end)
        with os.fdopen(ready, "rb", buffering=0) as waiting:
            if not select.select([waiting], [], [], _READY_S)[0] or waiting.read(1) != b"1":
                raise Refused(f"{_PROGRAM} did not start: {self._said()}")

    def _said(self) -> str:
        if self._process is None or self._process.stderr is None:
            return "it said nothing"
        self._process.kill()
        return (
            " | ".join(self._process.stderr.read().decode("utf-8", "replace").split("\n")[-4:]).strip(" |")
            or "it said nothing"
        )

    def _ways_out6(self) -> set[str]:
        with IPRoute() as kernel:
            return interfaces.ways_out(kernel, 6)

    def _host(self) -> list[Range]:
        """This host's addresses, but those that the operator has opened by themselves."""
        found = {ipaddress.ip_network(str(each.get_attr("IFA_ADDRESS"))) for each in self._addresses.get_addr()}
        found |= {
            ipaddress.ip_network(str(local))
            for each in self._addresses.get_addr()
            if (local := each.get_attr("IFA_LOCAL"))
        }
        return sorted(found - set(self._carve_outs), key=str)

    def _inside(self, job: Callable[[], None]) -> None:
        router.inside({linux.CLONE_NEWUSER: self._users, linux.CLONE_NEWNET: self._network}, job)

    @property
    def events(self) -> list[int]:
        """Readable when an address of the host has come or gone."""
        return [self._addresses.fileno()]

    def on_event(self) -> None:
        self._addresses.get()
        host = self._host()
        self._inside(lambda: nft.load(ruleset.host_addresses(router.TABLE, host)))

    def close(self) -> None:
        """The rules go with the cell block's namespace."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._addresses.close()


def _add_ipv6() -> None:
    """What slirp4netns would tell by router advertisements, which a router does not heed."""
    with IPRoute() as kernel:
        index = kernel.link_lookup(ifname=router.UP)[0]
        kernel.addr("add", index=index, address=_OWN6, prefixlen=64, flags=interfaces.NODAD)
        kernel.route("add", dst="::/0", gateway=_GATEWAY6, oif=index)


def _find() -> str:
    """Raises Refused with what this machine lacks."""
    try:
        os.close(os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        raise Refused(
            f"an ordinary user's sessions need {_DEVICE}, which this user cannot open ({error.strerror}); as root: "
            f"modprobe tun; chmod 666 {_DEVICE}. Or run the server as root, or give the pool a list (carrel.egress.allow)"
        ) from error
    program = shutil.which(_PROGRAM, path=_PATH)
    if program is None:
        raise Refused(f"{_PROGRAM} is not installed; install the package {_PROGRAM}")
    return program
