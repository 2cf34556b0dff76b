"""A world for servers with raw egress: this run's own thread moves into a network namespace, which is a host of a made internet.

`world` is there for a module. Whatever the module starts (servers, clients) is on the made host: `eth0` with a public-looking address, the
default route by it, services of its own on several addresses. On the other side are public sites, a private network, metadata services.
Without any rules the host reaches all of them, which the fixture asserts: what a session then cannot reach, it is refused.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import internet
from carrel.guest import linux

HOST, HOST6 = "11.0.0.2", "2606:f00::2"
HOST_OTHERS = ("44.44.44.44", "172.17.0.1", "2606:f01::1")
HOST_PORT = 8099
PUBLIC = ("93.184.216.34", "2606:2800:220:1::34")
REFUSED = (
    "10.20.0.5", "192.168.77.5", "172.20.0.1", "100.64.0.9", "198.51.100.7", "169.254.169.254", "168.63.129.16", "100.100.100.200",
    "fd12::5", "fd00:ec2::254", "2001:db8::7", "64:ff9b::5db8:d822", "2002:5db8:d822::1",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class World:
    """The made host, seen from it. `is_root`: servers run as root, and the way out is a link of the host's; else a stack in user space."""

    is_root: bool

    def run(self, *command: str) -> str:
        """A program on the host; its output."""
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def links(self) -> list[str]:
        """Interfaces of the host that are a server's."""
        return [
            line.split(":")[1].split("@")[0].strip()
            for line in self.run("ip", "-o", "link").splitlines()
            if "crl" in line
        ]

    def tables(self) -> list[str]:
        return [line for line in self.run("nft", "list", "tables").splitlines() if "carrel" in line]

    def forwards(self) -> bool:
        """Whether the host passes packets on that come by its `eth0`."""
        return Path("/proc/sys/net/ipv4/conf/eth0/forwarding").read_text().strip() == "1"


def fetch(address: str, port: int = 80) -> str:
    host = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{host}:{port}/", timeout=5) as answer:
        return str(answer.read().decode())


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if os.geteuid() != 0:
        pytest.skip("making network namespaces needs root")
    for program in ("ip", "nft", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (packages iproute2, nftables, util-linux)")
    with contextlib.ExitStack() as stack:
        own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        stack.callback(os.close, own)
        try:
            linux.unshare(linux.CLONE_NEWNET)
        except OSError as error:
            pytest.skip(f"no network namespace can be made: {error}")
        stack.callback(linux.setns, own, linux.CLONE_NEWNET)
        world = World(is_root=not request.config.getoption("--user"))
        _connect(stack, world)
        if not world.is_root:
            _offer_tun(stack)
        yield world


def _offer_tun(stack: contextlib.ExitStack) -> None:
    """A /dev/net/tun that every user may open, for this thread and what it starts: in a mount namespace of its own."""
    before = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, before)
    linux.unshare(linux.CLONE_NEWNS)
    stack.callback(linux.setns, before, linux.CLONE_NEWNS)
    linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
    linux.mount("none", "/dev/net", "tmpfs")
    os.mknod("/dev/net/tun", 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    Path("/dev/net/tun").chmod(0o666)


def _connect(stack: contextlib.ExitStack, world: World) -> None:
    resolvers = [
        line.split()[1] for line in Path("/etc/resolv.conf").read_text().splitlines() if line.startswith("nameserver")
    ]
    far = [each for each in resolvers if not each.startswith("127.")]
    command = ["unshare", "-n", sys.executable, internet.__file__, *PUBLIC, *REFUSED, *far]
    program = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    assert program.stdin is not None
    assert program.stdout is not None
    stack.callback(program.stdin.close)
    for line in (
        "link set lo up",
        f"link add eth0 type veth peer name eth0 netns {program.pid}",
        f"addr add {HOST}/24 dev eth0",
        f"addr add {HOST6}/64 dev eth0 nodad",
        "link set eth0 up",
        *(f"addr add {each} dev lo" for each in HOST_OTHERS),
        "route add default via 11.0.0.1",
        "-6 route add default via 2606:f00::1",
    ):
        world.run("ip", *line.split())
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "ready\n"
    internet.web(HOST_PORT)
    for address in (*PUBLIC, *REFUSED):
        assert fetch(address).startswith(address), "the made internet does not answer, so that nothing could be shown"
    for address in (HOST, *HOST_OTHERS):
        assert fetch(address, HOST_PORT)


@contextlib.contextmanager
def abstract_socket(name: str) -> Iterator[None]:
    """A Unix socket of the host that has no file."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        yield
