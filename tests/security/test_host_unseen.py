"""The host is not there: not its files, processes, network, secrets."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest

from carrel.models import Level
from conftest import Server
from fortress import Attacker

SHOWN_BY_GVISOR = pytest.mark.open_at(
    Level.GVISOR,
    reason="gVisor shows these to every process with the same effective user; none holds a secret, or can be written to",
)


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(name, marks=SHOWN_BY_GVISOR) for name in ("environ", "maps", "smaps", "auxv")),
        *("mem", "stack", "syscall", "io", "pagemap", "personality", "wchan", "timers"),
    ],
)
def test_the_agents_proc_files_cannot_be_read(probe: Attacker, name: str) -> None:
    """pid 1 of the sandbox is not dumpable: nothing that needs the right to trace it opens, for reading or for writing."""
    code = f"""
def look(flags):
    fd = os.open('/proc/1/{name}', flags)
    data = os.read(fd, 100)
    return data
def shown(flags):
    try: return repr(look(flags))
    except OSError as error: return errno.errorcode[error.errno]
[shown(os.O_RDONLY), shown(os.O_RDWR)]
"""
    reading, writing = probe.value(code)
    assert reading in ("EACCES", "EPERM", "ENOENT", "b'0'", "b''"), reading  # wchan is 0 for whoever may not trace
    assert writing in ("EACCES", "EPERM", "ENOENT", "EIO", "EINVAL"), writing


@pytest.mark.weaker(Level.GVISOR, reason="links can be read, and some do not exist; nothing opens")
def test_the_agents_links_and_descriptors_cannot_be_followed(probe: Attacker) -> None:
    """Behind /proc/1/fd, root, cwd, exe, ns and map_files nobody gets: the channel to the host is out of reach."""
    code = """
[refused(os.readlink, '/proc/1/fd/3'), refused(os.listdir, '/proc/1/map_files'), refused(os.readlink, '/proc/1/root'),
 refused(os.readlink, '/proc/1/cwd'), refused(os.readlink, '/proc/1/exe'), refused(os.open, '/proc/1/root/etc', os.O_RDONLY),
 refused(os.open, '/proc/1/fd/3', os.O_RDWR), refused(os.readlink, '/proc/1/ns/mnt'), refused(os.open, '/proc/1/task/1/mem', os.O_RDWR)]
"""
    refusals = {"EACCES", "EPERM"}
    if probe.level is Level.GVISOR:
        refusals |= {"ENOENT", "ENXIO"}
        assert probe.value(code)[6] in refusals
        refusals.add("")
    assert set(probe.value(code)) <= refusals


@pytest.mark.weaker(
    Level.GVISOR,
    reason="the nursery, which makes interpreters, is seen beside the agent; it can be neither signalled nor traced",
)
@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: /proc is the machine's, and closed")
@pytest.mark.of_python(reason="how many processes make up a session differs")
def test_no_other_process_is_in_sight(attacker: Attacker) -> None:
    """In /proc there are the agent, the interpreter and nobody else; pids of the host are not pids here."""
    assert (
        attacker.value("[int(n) for n in os.listdir('/proc') if n.isdigit() and int(n) != os.getpid()]")
        == attacker.beside
    )
    host = [pid for pid in (*attacker.server.pids.values(), os.getpid()) if pid > 500]
    assert attacker.value(f"[refused(os.kill, pid, 0) for pid in {host}]") == ["ESRCH"] * len(host)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "acpi",
            "asound",
            "config.gz",
            "driver",
            "fs",
            "iomem",
            "ioports",
            "kallsyms",
            "kcore",
            "key-users",
            "keys",
            "kmsg",
            "modules",
        ),
        *(
            "kpagecount",
            "kpageflags",
            "sched_debug",
            "scsi",
            "slabinfo",
            "timer_list",
            "vmallocinfo",
            "interrupts",
            "diskstats",
        ),
    ],
)
def test_the_kernels_own_files_are_masked(probe: Attacker, path: str) -> None:
    """What /proc tells of the machine as a whole is empty or absent."""
    code = f"""
def read(path):
    if os.path.isdir(path): return os.listdir(path)
    with open(path, 'rb') as file: return list(file.read(10))
try: found = read('/proc/{path}')
except OSError as error: found = errno.errorcode[error.errno]
found
"""
    assert probe.value(code) in ([], "ENOENT", "EACCES", "EPERM")


@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: files are there, and cannot be opened")
def test_the_hosts_files_are_absent(probe: Attacker) -> None:
    """No home, no /etc but a made-up one, no state folder, no checkout, no sockets of services, no /sys."""
    state = probe.server.state
    here = Path(__file__).resolve()
    paths = [*map(str, (state, state / "connection.json", here, here.parents[2], Path.home() / ".bashrc"))]
    paths += [
        "/etc/shadow",
        "/etc/ssh",
        "/etc/machine-id",
        "/root/.ssh",
        "/run/docker.sock",
        "/run/systemd",
        *([] if probe.level is Level.GVISOR else ["/sys/class"]),  # gVisor has a made-up one
        "/boot",
    ]
    paths += ["/var/log", "/var/lib", "/srv", "/usr/local/bin", "/.dockerenv", "/opt/carrel/images/python"]

    assert probe.value(f"[p for p in {paths} if os.path.lexists(p)]") == []
    assert probe.value("[os.listdir(f'/{n}') for n in ('root', 'run', 'home')]") == [[], [], ["user"]]
    assert probe.level is Level.GVISOR or probe.value("os.listdir('/sys')") == []
    assert probe.value("len(open('/etc/passwd').readlines())") == 3


def test_a_file_of_the_hosts_is_nowhere_in_the_tree(attacker: Attacker) -> None:
    """Files laid in the state folder and in the temporary folder are not found by walking all that a session can see.

    Whatever is mounted where: also a host's root in a place that nobody thought of.
    """
    name = f"marker-{os.urandom(8).hex()}"
    places = [attacker.server.state, Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/dev/shm")]
    for place in places:
        (place / name).touch()
        (place / name).chmod(0o644)
    try:
        walk = f"[folder for folder, _, names in os.walk('/') if {name!r} in names]"
        assert attacker.value(walk, timeout=60) == []
    finally:
        for place in places:
            (place / name).unlink()


@pytest.mark.not_at("restricted", reason="it has no such folder")
def test_only_the_expected_is_under_our_own_folder(attacker: Attacker) -> None:
    """/opt/carrel holds the interpreter, the image and the guest's files, and nothing of the machine's."""
    look = "{n: sorted(os.listdir(f'/opt/carrel/{n}')) for n in os.listdir('/opt/carrel')}"
    found = attacker.value(look)

    assert set(found) <= {"python", "image", "images", "lib", "bin", "packages", "wheels"}
    assert found.get("bin", []) == []
    assert set(found["python"]) <= {"bin", "lib", "lib64", "share", "include"}
    assert found.get("images", []) == []
    assert found["lib"] == ["carrel"]


@pytest.mark.of_guests_at("restricted", reason="of /proc only the guest's own folder can be read there, by the guest")
def test_the_mount_table_names_no_folder_of_the_hosts(probe: Attacker) -> None:
    """Not the state folder, not a home. One thing shows: where the images lie, since the kernel names what a mount is of."""
    told = probe.value(
        "''.join(open(f'/proc/self/{n}').read() for n in ('mountinfo', 'mounts', 'mountstats') if os.path.exists(f'/proc/self/{n}'))"
    )
    roots = {line.split()[3] for line in told.splitlines() if " - " in line}

    assert str(probe.server.state) not in told
    assert [root for root in roots if root.startswith(("/root", "/home")) and "/images" not in root] == []


@pytest.mark.of_guests_at("restricted", reason="of /proc only the guest's own folder can be read there, by the guest")
def test_the_control_group_path_names_nothing(probe: Attacker) -> None:
    """The own control groups look like the root of the tree, or a child of it: no name of the server's."""
    assert "carrel" not in probe.value("open('/proc/self/cgroup').read()")


@pytest.mark.of_guests_at("restricted", reason="of /proc only the guest's own folder can be read there, by the guest")
def test_no_secret_is_in_the_memory_of_a_session(attacker: Attacker) -> None:
    """Tokens, keys' headers and the state folder's name are nowhere in the interpreter's memory: a template has nothing worth reading.

    The needles travel in two halves, since the search itself would be found otherwise.
    """
    connection = attacker.server.connection
    needles = [connection[name] for name in ("token", "identity_header", "client_secret") if connection.get(name)]
    needles.append(str(attacker.server.state))
    halves = [(needle[: len(needle) // 2], needle[len(needle) // 2 :]) for needle in needles]
    code = f"""
import json, re
halves = [(a.encode(), b.encode()) for a, b in json.loads({json.dumps(json.dumps(halves))})]
found, looked = [], 0
with open('/proc/self/mem', 'rb', 0) as memory:
    for line in open('/proc/self/maps'):
        start, end = (int(n, 16) for n in line.split()[0].split('-'))
        if 'r' not in line.split()[1] or '[v' in line: continue
        try:
            memory.seek(start); data = memory.read(end - start)
        except (OSError, OverflowError, ValueError): continue
        looked += len(data)
        for n, (a, b) in enumerate(halves):
            at = data.find(a)
            while at >= 0:
                if data.startswith(b, at + len(a)): found.append(n)
                at = data.find(a, at + 1)
        del data
[found, looked > 10_000_000]
"""
    assert attacker.value(code, timeout=60) == [[], True]


# ---- network ----------------------------------------------------------------------------------------------------------------


def test_there_is_no_way_out(probe: Attacker) -> None:
    """Metadata addresses, the internet, private networks: unreachable at once, by TCP and by UDP."""
    began = time.monotonic()
    code = """
def tcp(host, port): socket.create_connection((host, port), 1)
def udp(host, port): socket.socket(socket.AF_INET6 if ':' in host else socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', (host, port))
hosts = ['169.254.169.254', '168.63.129.16', '1.1.1.1', '10.0.0.1', '192.168.0.1', '172.17.0.1', '255.255.255.255']
hosts += ['fd00:ec2::254', '2606:4700::1111']
sorted({refused(call, host, 80) for host in hosts for call in (tcp, udp)})
"""
    assert set(probe.value(code)) <= {"ENETUNREACH", "EADDRNOTAVAIL", "EACCES", "EHOSTUNREACH"}
    assert time.monotonic() - began < 5


def test_names_are_not_resolved(probe: Attacker) -> None:
    """Quickly: nobody waits for a name server that is not there."""
    began = time.monotonic()
    result = probe.run("socket.getaddrinfo('example.com', 80)")

    assert "gaierror" in result.stderr
    assert time.monotonic() - began < 6


@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: there are no sockets")
def test_the_hosts_loopback_is_another(attacker: Attacker) -> None:
    """The server's own ports and a listener of this test's are refused; the only interface is the sandbox's lo, which works."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = [int(attacker.server.connection[name].rsplit(":", 1)[1]) for name in ("http", "https")]
        ports, hosts = [listener.getsockname()[1], *ours], ["127.0.0.1", "::1", "localhost", "0.0.0.0"]  # noqa: S104 - to connect to
        code = f"[refused(socket.create_connection, (h, p), 1) for p in {ports} for h in {hosts}]"
        assert set(attacker.value(code)) <= {"ECONNREFUSED", "EADDRNOTAVAIL"}
    assert attacker.value("[l.split(':')[0].strip() for l in open('/proc/net/dev')][2:]") == ["lo"]
    own = "s = socket.create_server(('127.0.0.1', 8080)); refused(socket.create_connection, ('127.0.0.1', 8080))"
    assert attacker.value(own) == ""


@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: there are no sockets")
def test_abstract_unix_sockets_of_the_host_are_out_of_reach(attacker: Attacker) -> None:
    """They belong to a network namespace; D-Bus and its kind cannot be called."""
    name = f"carrel-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        assert attacker.value(f"refused(socket.socket(socket.AF_UNIX).connect, chr(0) + {name!r})") == "ECONNREFUSED"
    assert name not in attacker.value("open('/proc/net/unix').read()")


@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: there are no sockets")
def test_the_hostlink_cannot_be_called(probe: Attacker) -> None:
    path = str(probe.server.state / "run" / "hostlink.sock")

    assert probe.value(f"refused(socket.socket(socket.AF_UNIX).connect, {path!r})") == "ENOENT"


def test_the_state_folder_is_the_owners_alone(fortress: Server) -> None:
    """Nobody else on the machine can read keys and tokens or connect to the host: folders 0700, secrets 0600.

    `run` is passed through by the gateway, whose socket is in it, and so by a group that has nobody else in it.
    """
    assert (fortress.state / "keys").stat().st_mode & 0o77 == 0
    run, gateway = fortress.state / "run", Path(f"/proc/{fortress.pids['gateway']}").stat()
    if run.stat().st_mode & 0o77:
        assert run.stat().st_mode & 0o77 == 0o10
        assert run.stat().st_gid == gateway.st_gid
    assert (run / "hostlink.sock").stat().st_uid == gateway.st_uid
    for path in (
        fortress.state / "connection.json",
        fortress.state / "run" / "hostlink.sock",
        *(fortress.state / "keys").iterdir(),
    ):
        assert path.stat().st_mode & 0o77 == 0, path
