"""Raw egress taken back, however a server ends, and refused where the host's own firewall does not let it through."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from carrel.cli.launch import LaunchError
from conftest import Server, SlimServer
from network.test_open import POOLS, session, value
from processes import alive, command, descendants, eventually
from world import PUBLIC, World

pytestmark = [pytest.mark.one_level, pytest.mark.thorough]


@pytest.fixture(autouse=True)
def as_root(world: World) -> None:
    if not world.is_root:
        pytest.skip("an ordinary user's server makes nothing on the host")


def _process(server: Server, words: str) -> int:
    """The topmost of those with `words` in their command line: forks have it too."""
    return next(pid for pid in descendants(server.process.pid) if words in command(pid))


def _is_clean(world: World) -> bool:
    files = [path for path in Path("/run").glob("carrel-forwarding-*") if path.name.endswith(f"-{_namespace()}.json")]
    return not (world.links() or world.tables() or world.forwards() or files)


def _table(world: World) -> str:
    (line,) = world.tables()
    return line.split()[-1]


def _namespace() -> int:
    return Path("/proc/self/ns/net").stat().st_ino


def test_a_stop_leaves_nothing(world: World, slim_server: SlimServer) -> None:
    with slim_server(config=POOLS):
        assert world.links()
        assert world.tables()
        assert world.forwards()

    assert _is_clean(world)


@pytest.mark.parametrize("victim", ["supervisor", "host", "carrel.host.spawner"])
def test_a_kill_leaves_nothing(world: World, slim_server: SlimServer, victim: str) -> None:
    """SIGKILL: whoever it hits, the process that made the way out takes it back."""
    with slim_server(config=POOLS) as server:
        keeper = _process(server, "carrel.host.uplink")
        os.kill(server.pids.get(victim) or _process(server, victim), signal.SIGKILL)
        assert eventually(lambda: not alive(keeper), timeout=20)
        if victim == "supervisor":
            assert eventually(lambda: _is_clean(world))


def test_a_host_that_ends_while_the_way_out_is_made_leaves_nothing(world: World) -> None:
    """Nobody is there to be told that it is ready: that is the word to take it back."""
    script = """
import os, runpy, socket, sys
from carrel.guest import linux
host, lifeline = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
own, users = (os.open(f"/proc/self/ns/{name}", os.O_RDONLY) for name in ("net", "user"))
linux.unshare(linux.CLONE_NEWNET)
block = os.open("/proc/self/ns/net", os.O_RDONLY)
linux.setns(own, linux.CLONE_NEWNET)
host[0].close()
sys.argv[1:] = [str(fd) for fd in (host[1].fileno(), lifeline[1].fileno(), block, users)]
runpy.run_module("carrel.host.uplink", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")
    assert _is_clean(world)


def test_what_a_killed_keeper_left_is_swept_and_made_anew(world: World, slim_server: SlimServer) -> None:
    """By the next sandbox of the same server; until then the rules stand."""
    with slim_server(config=POOLS) as server:
        first = world.links()
        keeper = _process(server, "carrel.host.uplink")
        os.kill(keeper, signal.SIGKILL)
        assert world.tables()
        with session(server) as client:
            assert client.execute("1").is_ok
        assert eventually(lambda: world.links() not in ([], first), timeout=20)
        assert len(world.links()) == len(world.tables()) == 1
        with session(server) as client:
            assert value(client, f"reach('{PUBLIC[0]}')").startswith(PUBLIC[0])

    assert _is_clean(world)


def test_a_firewall_that_drops_forwarded_packets_is_found_out(
    world: World, slim_server: SlimServer, capfd: pytest.CaptureFixture[str]
) -> None:
    """As Docker's does: the pool is refused with the reason and what to do, and everything is taken back."""
    rules = "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; }"
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        with pytest.raises(LaunchError), slim_server(config=POOLS.partition("[pools.closed]")[0]):
            pass
        assert "a firewall of this machine drops what is forwarded" in capfd.readouterr().err
        assert _is_clean(world)
    finally:
        world.run("nft", "delete", "table", "ip", "filter")


def test_a_host_that_becomes_a_router_meanwhile_stays_one(world: World, slim_server: SlimServer) -> None:
    """As by Docker, started after us: nothing of ours drops what it forwards, and nothing is switched off when we end."""
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    try:
        with slim_server(config=POOLS) as server:
            assert "drop" in world.run("nft", "list", "chain", "inet", _table(world), "guard")
            switch.write_text("1")
            assert eventually(lambda: "ipv4" not in world.run("nft", "list", "chain", "inet", _table(world), "guard"))
            with session(server) as client:
                assert value(client, f"reach('{PUBLIC[0]}')").startswith(PUBLIC[0])
        assert world.forwards()
        assert not (world.links() or world.tables())
    finally:
        switch.write_text("0")


def test_servers_with_the_same_pid_do_not_touch_each_others_links(world: World) -> None:
    """Containers that share the host's network have pids of their own, and often the same ones."""
    script = """
import os, sys
from carrel.guest import linux
from carrel.host.veth_way import Veth
own = os.open("/proc/self/ns/net", os.O_RDONLY)
linux.unshare(linux.CLONE_NEWNET)
block = os.open("/proc/self/ns/net", os.O_RDONLY)
linux.setns(own, linux.CLONE_NEWNET)
way = Veth(block, [])
way.make()
print(os.getpid(), flush=True)
sys.stdin.read()
way.close()
"""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", script]
    made = []
    for _ in range(2):
        made.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert made[-1].stdout is not None
        assert made[-1].stdout.readline() == "1\n"
    assert len(world.links()) == 2
    first, second = made
    first.communicate()
    assert len(world.links()) == 1
    second.communicate()

    assert _is_clean(world)


def test_a_host_that_is_a_router_already_is_left_as_it_is(world: World, slim_server: SlimServer) -> None:
    """Nothing is switched on, so nothing is switched off."""
    switch = Path("/proc/sys/net/ipv4/ip_forward")
    switch.write_text("1")
    try:
        with slim_server(config=POOLS) as server, session(server) as client:
            assert value(client, f"reach('{PUBLIC[0]}')").startswith(PUBLIC[0])
        assert world.forwards()
    finally:
        switch.write_text("0")
