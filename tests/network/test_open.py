"""Pools with raw egress: the public internet by addresses of their own, and nothing that is not public, by any spelling."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.backends import links
from carrel.client import Client
from conftest import Server, SlimServer
from processes import descendants, eventually
from world import HOST, HOST6, HOST_OTHERS, HOST_PORT, PUBLIC, REFUSED, World, abstract_socket

pytestmark = [pytest.mark.one_level]

SMALL = 'carrel = {image = "python-slim", memory = "256MiB", disk = "64MiB", tmp = "16MiB"}'
POOLS = f"""
[pools.python]
scaleConfiguration = {{maxConcurrentSessions = 10, readySessionInstances = 1}}
sessionNetworkConfiguration.status = "EgressEnabled"
{SMALL}
[pools.closed]
scaleConfiguration = {{maxConcurrentSessions = 10, readySessionInstances = 1}}
{SMALL}
"""

# There in every session here. `reach` says what came of a connection: the page's text, or the error's name.
TOOLS = """
import errno, os, socket, threading, urllib.request
def attempt(call, *arguments, **options):
    try:
        return call(*arguments, **options)
    except TimeoutError:
        return "timeout"
    except OSError as error:
        inner = getattr(error, "reason", error)
        return errno.errorcode.get(getattr(inner, "errno", 0), type(inner).__name__)
def fetch(host, port=80, path="/", timeout=5):
    host = f"[{host}]" if ":" in host else host
    return urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=timeout).read().decode()
def reach(*arguments, **options):
    return attempt(fetch, *arguments, **options)
def echo(address, text=b"hello", timeout=3):
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout)
        sock.connect((address, 7))
        sock.send(text)
        return sock.recv(100)
"""
# What a refused connection ends with: the error of a route that does not exist, told at once and not by silence.
REFUSALS = {"EHOSTUNREACH", "ENETUNREACH", "EACCES", "ECONNREFUSED"}


@pytest.fixture(scope="module")
def served(world: World, slim_server: SlimServer) -> Iterator[Server]:
    with slim_server(config=POOLS) as server:
        yield server


@contextlib.contextmanager
def session(server: Server, pool: str = "python") -> Iterator[Client]:
    with (
        server.client()
        if pool == "python"
        else Client.from_connection(server.state, pool=pool, identifier="closed-one") as client
    ):
        assert client.execute(TOOLS).is_ok
        yield client
        client.end()


@pytest.fixture
def inside(served: Server) -> Iterator[Client]:
    with session(served) as client:
        yield client


def value(client: Client, expression: str, timeout: int = 60) -> Any:
    answer = client.execute(expression, timeout=timeout)
    assert answer.is_ok, answer.stderr
    return answer.result


# ---- what may be reached ---------------------------------------------------------------------------------------------------------


def test_public_sites_are_reached_under_the_hosts_address(inside: Client) -> None:
    """Over IPv4 and IPv6; the sandbox's own address is never seen outside."""
    assert value(inside, f"reach('{PUBLIC[0]}')") == f"{PUBLIC[0]} asked by {HOST}"
    assert value(inside, f"reach('{PUBLIC[1]}')") == f"{PUBLIC[1]} asked by {HOST6}"


def test_udp_goes_out_and_its_answers_come_back(inside: Client) -> None:
    assert value(inside, f"echo('{PUBLIC[0]}').decode()") == "hello"


def test_names_are_resolved(inside: Client) -> None:
    """By the host's resolvers, through the forwarder on the sandbox's own loopback."""
    assert value(inside, "reach('public.test')").startswith(PUBLIC[0])
    assert value(inside, "attempt(socket.getaddrinfo, 'nowhere.test', 80)") == "gaierror"


def test_an_answer_too_long_for_udp_comes_over_tcp(inside: Client) -> None:
    found = value(inside, "len({each[4][0] for each in socket.getaddrinfo('big.test', 80, socket.AF_INET)})")

    assert found == 400


def test_a_hundred_connections_at_once(inside: Client) -> None:
    """All of them get their answer."""
    code = f"""
answers = []
def one(number):
    answers.append(reach('{PUBLIC[0]}', timeout=20))
threads = [threading.Thread(target=one, args=(number,)) for number in range(100)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    assert inside.execute(code, timeout=60).is_ok
    assert value(inside, "(len(answers), set(answers))") == f"(100, {{'{PUBLIC[0]} asked by {HOST}'}})"


# ---- what may not ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_public_is_refused_at_once(inside: Client, address: str) -> None:
    """Private networks, carriers', metadata services, documentation, and IPv6 spellings of IPv4 addresses."""
    assert value(inside, f"reach('{address}')") in REFUSALS


@pytest.mark.parametrize("address", [HOST, HOST6, *HOST_OTHERS])
def test_the_host_is_refused_under_each_of_its_addresses(inside: Client, address: str) -> None:
    """Whatever listens on all of them, and whatever kind of address it is."""
    assert value(inside, f"reach('{address}', {HOST_PORT})") in REFUSALS


def test_the_host_is_refused_by_the_addresses_of_the_links(inside: Client, world: World) -> None:
    """The gateway, the uplink's two ends, and the link-local address of the gateway."""
    uplink = ["10.0.2.2", "10.0.2.100"]
    if world.is_root:
        (link,) = world.links()
        uplink = [world.run("ip", "-4", "-o", "addr", "show", "dev", link).split()[3].split("/")[0]]
    for address in (*uplink, "198.19.255.254", "fe80::1%eth0"):
        assert value(inside, f"attempt(socket.create_connection, ('{address}', {HOST_PORT}), 5)") in REFUSALS


def test_udp_to_what_is_not_public_is_refused(inside: Client) -> None:
    for address in ("10.20.0.5", "169.254.169.254", HOST, "172.17.0.1"):
        assert value(inside, f"attempt(echo, '{address}')") in REFUSALS


def test_a_redirect_leads_nowhere_new(inside: Client) -> None:
    """A public site sends the code on to the private network."""
    assert value(inside, f"reach('{PUBLIC[0]}', path='/to/10.20.0.5')") in REFUSALS
    assert value(inside, f"reach('{PUBLIC[0]}', path='/to/169.254.169.254')") in REFUSALS


def test_a_name_for_a_private_address_gains_nothing(inside: Client) -> None:
    """Names are resolved; what is connected to is judged by its address."""
    assert value(inside, "socket.getaddrinfo('inside.test', 80, socket.AF_INET)[0][4][0]") == "10.20.0.5"
    assert value(inside, "reach('inside.test')") in REFUSALS
    assert value(inside, "reach('metadata.test')") in REFUSALS


def test_other_sandboxes_are_refused(served: Server, inside: Client) -> None:
    """Over IPv4 and IPv6, though both have links to the same place."""
    with session(served) as other:
        code = """
listener = socket.create_server(("", 9000)); listener6 = socket.create_server(("::", 9001), family=socket.AF_INET6)
def address(far):
    with socket.socket(socket.AF_INET6 if ":" in far else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((far, 9))
        return sock.getsockname()[0]
"""
        assert other.execute(code).is_ok
        theirs = [value(other, f"address('{each}')") for each in PUBLIC]
        assert value(other, f"attempt(socket.create_connection, ('{theirs[0]}', 9000), 5) != 'timeout'"), "it listens"
        for address, port in zip(theirs, (9000, 9001), strict=True):
            assert value(inside, f"attempt(socket.create_connection, ('{address}', {port}), 5)") in REFUSALS


def test_a_false_sender_address_goes_nowhere(inside: Client) -> None:
    """IPv6 lets anybody send from an address that is not theirs (IPV6_FREEBIND); it does not get past the sandbox's link."""
    code = f"""
def send(text, sender):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, 78, 1)
        sock.bind((sender, 0))
        sock.sendto(text.encode(), ("{PUBLIC[1]}", 7))
for sender in ("2606:dead::1", "{HOST6}", "fdca:44e1:0:1::7777"):
    attempt(send, "false-" + sender[-4:], sender)  # where the filter has not refused the option already
with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
    sock.sendto(b"true", ("{PUBLIC[1]}", 7))
"""
    assert inside.execute(code).is_ok
    seen = "fetch('93.184.216.34', path='/seen/{}')"
    assert eventually(lambda: value(inside, seen.format("true")) == "True")
    for text in ("false-ad::1", "false-0::2", "false-7777"):
        assert value(inside, seen.format(text)) == "False"


def test_raw_sockets_and_icmp_are_refused(inside: Client) -> None:
    """Neither raw nor packet nor ping sockets can be made: no packet is of the code's own making."""
    for kind in (
        "AF_INET, socket.SOCK_RAW, 1",
        "AF_INET, socket.SOCK_DGRAM, 1",
        "AF_INET6, socket.SOCK_RAW, 58",
        "AF_PACKET, socket.SOCK_RAW, 3",
    ):
        assert value(inside, f"attempt(socket.socket, socket.{kind})") in {"EPERM", "EACCES", "EAFNOSUPPORT"}


def test_the_code_cannot_change_its_link(inside: Client) -> None:
    """Addresses, routes and interfaces are the cell block's."""
    assert value(inside, "attempt(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, 0)") in {"EPERM", "EAFNOSUPPORT"}
    assert value(inside, "attempt(open, '/proc/sys/net/ipv4/ip_forward', 'w')") in {"EROFS", "EACCES"}


def test_connections_of_one_sandbox_are_bounded(inside: Client) -> None:
    """It can fill its own share of the connection table, not the host's."""
    code = f"""
import resource
held, refusal = [], ""
while len(held) < 700 and not refusal:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(("{PUBLIC[0]}", 7)); sock.settimeout(2)
    answer = attempt(lambda: sock.send(b"x") and sock.recv(9))
    refusal = answer if isinstance(answer, str) else ""
    held.append(sock)
"""
    assert inside.execute(code, timeout=100).is_ok
    assert 400 < value(inside, "len(held)") < 700
    assert value(inside, "refusal") in {*REFUSALS, "timeout"}


# ---- pools without egress ----------------------------------------------------------------------------------------------------------


def test_a_pool_without_egress_has_nothing_beside_one_that_has(served: Server) -> None:
    """No route, no DNS."""
    with session(served, "closed") as client:
        for address in (*PUBLIC, HOST, "10.20.0.5"):
            assert value(client, f"reach('{address}')") in {"ENETUNREACH", "EADDRNOTAVAIL"}
        assert value(client, "attempt(socket.getaddrinfo, 'public.test', 80)") == "gaierror"
        assert value(client, "[line.split(':')[0].strip() for line in open('/proc/net/dev')][2:]") == ["lo"]


@pytest.mark.parametrize("pool", ["python", "closed"])
def test_abstract_sockets_of_the_host_are_unreachable(served: Server, pool: str) -> None:
    with abstract_socket("carrel-test-abstract"), session(served, pool) as client:
        code = "attempt(socket.socket(socket.AF_UNIX).connect, '\\0carrel-test-abstract')"
        assert value(client, code) == "ECONNREFUSED"


# ---- what is made, and that it goes ------------------------------------------------------------------------------------------------


def _router(server: Server) -> list[str]:
    """Interfaces of the cell block's network namespace."""
    for pid in descendants(server.process.pid):
        with contextlib.suppress(OSError):
            names = [line.split(":")[0].strip() for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]]
            if "up" in names:
                return names
    return []


def test_a_sandboxs_link_goes_with_it(served: Server) -> None:
    """When the session ends, the kernel deletes both ends."""
    with session(served) as client:
        code = f"(lambda sock: (sock.connect(('{PUBLIC[0]}', 9)), sock.getsockname()[0])[1])(socket.socket(type=socket.SOCK_DGRAM))"
        number = int(ipaddress.ip_address(value(client, code))) - int(links.SANDBOXES[1])
        assert f"s{number}" in _router(served)

    assert eventually(lambda: f"s{number}" not in _router(served), timeout=15)


def test_nothing_is_sent_for_a_session_that_has_ended(served: Server) -> None:
    """Not what its connections had still to send either: a receiver that takes its time would keep the network of the dead alive for it."""
    with session(served) as client:
        code = f"""
held = [socket.create_connection(("{PUBLIC[0]}", 9)) for _ in range(3)]
for sock in held:
    sock.setblocking(False)
    while not isinstance(attempt(sock.send, b"x" * 100_000), str): pass
"""
        assert client.execute(code).is_ok
        code = f"(lambda sock: (sock.connect(('{PUBLIC[0]}', 9)), sock.getsockname()[0])[1])(socket.socket(type=socket.SOCK_DGRAM))"
        number = int(ipaddress.ip_address(value(client, code))) - int(links.SANDBOXES[1])
        assert f"s{number}" in _router(served)

    assert eventually(lambda: f"s{number}" not in _router(served), timeout=10)


def test_the_host_forgets_connections_that_nobody_uses(world: World, inside: Client) -> None:
    """After two hours, not after the kernel's five days: a killed session's would use up the server's share of the host's table."""
    table = Path("/proc/thread-self/net/nf_conntrack")
    if not world.is_root or not table.exists():
        pytest.skip("nothing of it is in the host's table, or that cannot be read")
    code = f"held = [socket.create_connection((far, 80)) for far in {PUBLIC!r}]"
    assert inside.execute(code).is_ok
    lines = [line.split() for line in table.read_text().splitlines() if "dport=80 " in line]
    left = {line[0]: int(line[4]) for line in lines if line[5] == "ESTABLISHED"}

    assert set(left) == {"ipv4", "ipv6"}
    assert max(left.values()) <= links.IDLE_S


@pytest.mark.thorough
def test_an_operator_may_open_a_private_range(world: World, slim_server: SlimServer) -> None:
    """That one, and of the host's own addresses only one that is named alone."""
    config = 'egress-allow-private = ["10.20.0.0/16", "172.16.0.0/12", "172.17.0.1"]\n' + POOLS
    with slim_server(config=config) as server, session(server) as client:
        assert value(client, "reach('10.20.0.5')").startswith("10.20.0.5")
        assert value(client, "reach('172.20.0.1')").startswith("172.20.0.1")
        assert value(client, f"reach('172.17.0.1', {HOST_PORT})").startswith("172.17.0.1")
        for address in ("192.168.77.5", "169.254.169.254", "fd12::5"):
            assert value(client, f"reach('{address}')") in REFUSALS
        assert value(client, f"reach('44.44.44.44', {HOST_PORT})") in REFUSALS


@pytest.mark.thorough
def test_a_range_does_not_open_the_host(world: World, slim_server: SlimServer) -> None:
    with slim_server(config='egress-allow-private = ["172.16.0.0/12"]\n' + POOLS) as server, session(server) as client:
        assert value(client, f"reach('172.17.0.1', {HOST_PORT})") in REFUSALS


@pytest.mark.thorough
def test_a_stop_takes_everything_back(world: World, slim_server: SlimServer, served: Server) -> None:
    """Link, rules, forwarding; what another server beside it needs stays, and that one goes on."""
    if not world.is_root:
        pytest.skip("an ordinary user's server makes nothing on the host")
    before = world.links()
    with slim_server(config=POOLS) as server, session(server) as client:
        assert len(world.links()) == len(before) + 1
        assert value(client, f"reach('{PUBLIC[0]}')").endswith(HOST)

    assert world.links() == before
    assert len(world.tables()) == len(before)
    assert world.forwards()
    with session(served) as client:
        assert value(client, f"reach('{PUBLIC[0]}')").endswith(HOST)


# ---- the doctor -------------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.usefixtures("world")
def test_the_doctor_tries_raw_egress() -> None:
    """Made, attacked from inside and taken back, in a world where it works."""
    command = [sys.executable, "-P", "-m", "carrel.cli", "doctor", "--json"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)

    (namespace,) = (each for each in report["levels"] if each["level"] == "namespace")
    assert {"network": "open", "works": True, "reason": ""} in namespace["networks"]
