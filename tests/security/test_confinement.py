"""What a session's code is to the kernel: nobody, with nothing, in a place of its own. Looked at from outside where that is possible."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from carrel.backends import definitions
from carrel.backends.uv import DEFINITIONS
from carrel.models import Level
from fortress import PIDS, Attacker, real_uid


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


@pytest.mark.not_at(
    Level.GVISOR,
    reason="Linux sees gVisor's kernel only, which has a chroot's and a tracer's rights in a user namespace of its own",
)
def test_no_capability_no_new_privileges_and_a_seccomp_filter(attacker: Attacker) -> None:
    """The kernel's own word, read outside: every capability set is empty, no_new_privs is set, a filter is loaded."""
    status = status_of(attacker.host_pid())

    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000000"}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_never_real_root_and_one_host_uid_each(attacker: Attacker, accomplice: Attacker) -> None:
    """Every session has a host uid of its own, from a range nobody else uses as root, from the user's subordinate ids otherwise.

    Where an ordinary user has none, it is that user's.
    """
    first, second = status_of(attacker.host_pid()), status_of(accomplice.host_pid())
    uids = [{int(each) for each in status[kind].split()} for status in (first, second) for kind in ("Uid", "Gid")]

    assert all(len(ids) == 1 for ids in uids)
    assert not first["Groups"] or not attacker.has_own_uid
    if attacker.has_own_uid:
        assert all(min(ids) >= (0x40000000 if real_uid(attacker.server.process.pid) == 0 else 65536) for ids in uids)
        assert uids[0] != uids[2]
        assert uids[1] != uids[3]
    else:
        assert 0 not in set.union(*uids)


def _namespaces(attacker: Attacker, kinds: tuple[str, ...]) -> list[str]:
    """From outside, or where an ordinary user may not look at another id's process, by the code's own word."""
    try:
        return [os.readlink(f"/proc/{attacker.host_pid()}/ns/{kind}") for kind in kinds]  # noqa: PTH115
    except PermissionError:
        code = f"[os.readlink(f'/proc/self/ns/{{kind}}') for kind in {kinds}]"
        return [str(each) for each in attacker.value(code)]


@pytest.mark.not_at("restricted", reason="it has no namespaces")
def test_every_kind_of_namespace_is_its_own(attacker: Attacker, accomplice: Attacker) -> None:
    """User, pid, mount, net, ipc, uts and cgroup namespaces differ from the machine's and from another session's."""
    kinds = ("user", "pid", "mnt", "net", "ipc", "uts", "cgroup")
    here = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]  # noqa: PTH115
    one, two = (_namespaces(each, kinds) for each in (attacker, accomplice))

    for kind, *links in zip(kinds, here, one, two, strict=True):
        assert len(set(links)) == 3, kind


@pytest.mark.not_at("restricted", reason="its account is a number, and its folder one of the machine's")
def test_it_looks_like_an_ordinary_account(probe: Attacker) -> None:
    """User, home, host name, locale and time zone are a plain machine's, and say nothing of the host."""
    code = (
        "import getpass; [os.getuid(), getpass.getuser(), os.path.expanduser('~'), socket.gethostname(), os.getcwd()]"
    )

    assert probe.value(code) == [1000, "user", "/home/user", "session", "/mnt/data"]
    assert socket.gethostname() not in probe.value(
        "open('/proc/sys/kernel/hostname').read() + open('/etc/hosts').read()"
    )


@pytest.mark.of_python(reason="asked in tests/test_guests.py for programs; commands have what their shell gives them")
def test_only_stdio_and_the_result_socket_are_open(probe: Attacker) -> None:
    """Descriptors 0 to 3: nothing that a template held has come along, and a child program inherits three of them."""
    assert probe.value("sorted(int(n) for n in os.listdir('/proc/self/fd'))[:-1]") == [0, 1, 2, 3]
    if probe.server.level is not Level.RESTRICTED:  # where only the interpreter can open its own entry
        listing = "import os; print(*sorted(os.listdir('/proc/self/fd')))"  # ls fails here in gVisor
        child = f"subprocess.run([sys.executable, '-ISc', {listing!r}], capture_output=True, text=True).stdout.split()"
        assert probe.value(child) == ["0", "1", "2", "3"], "3 is the listing's own"
    links = probe.value("[os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in range(4)]")
    assert links == ["/dev/null", "pipe", "pipe", "socket"]


@pytest.mark.of_guests_at("restricted", reason="of /proc only the guest's own folder can be read there, by the guest")
def test_the_environment_is_the_images(probe: Attacker) -> None:
    """Not one variable of the server's, neither in Python's copy nor in the kernel's."""
    kernels = "[each.split('=')[0] for each in open('/proc/self/environ').read().split(chr(0)) if each]"
    names = {*probe.value("list(os.environ)"), *probe.value(kernels)}

    assert names <= {
        *("HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "PATH", "TMPDIR", "LC_CTYPE", "MPLBACKEND", "MPLCONFIGDIR"),
        *("BLIS_NUM_THREADS", "JE_ARROW_MALLOC_CONF", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS"),
        *(
            "OPENBLAS_NUM_THREADS",
            "PYTHONDONTWRITEBYTECODE",
            "PIP_USER",
            "PIP_DISABLE_PIP_VERSION_CHECK",
            "VIRTUAL_ENV",
            "ARROW_DEFAULT_MEMORY_POOL",
            "MALLOC_ARENA_MAX",
            "PYTHONUSERBASE",
        ),
        *("PYTHONPATH", "PYTHONNOUSERSITE", "PYTHONSAFEPATH"),  # at level restricted, where the image is not mounted
        *(
            () if probe.is_guest else ("PWD", "OLDPWD", "SHLVL", "_", "NODE_OPTIONS")
        ),  # a shell's, and Node's where memory is short
        *definitions.read(probe.server.pool, DEFINITIONS / probe.server.pool).environment,
    }
    values = set(probe.value("list(os.environ.values())"))
    assert not values & {
        value for name, value in os.environ.items() if len(value) > 8 and name not in ("SHELL", "LANG", "PATH")
    }


def test_limits_are_set_and_cannot_be_raised(probe: Attacker) -> None:
    """No dumps (1 stops a piped core_pattern too, 0 would not), a bounded number of processes and of descriptors; soft is hard."""
    limits = probe.value(
        "[list(resource.getrlimit(getattr(resource, 'RLIMIT_' + n))) for n in ('CORE', 'NPROC', 'NOFILE', 'MSGQUEUE')]"
    )

    processes = PIDS if probe.server.level is not Level.RESTRICTED or probe.has_own_uid else 16 * PIDS
    assert limits == [[1, 1], [processes, processes], [1024, 1024], [0, 0]]
    raised = "try: resource.setrlimit(resource.RLIMIT_NPROC, (4096, 4096)); r = 'raised'\nexcept ValueError: r = 'refused'\nr"
    assert probe.value(raised) == "refused"


@pytest.mark.not_at(
    Level.GVISOR,
    reason="gVisor's kernel has mounts of its own; the host's below them are read-only and nosuid all the same",
)
@pytest.mark.not_at("restricted", reason="it has no mounts of its own")
def test_every_mount_is_nosuid_and_only_the_sessions_own_are_writable(probe: Attacker) -> None:
    """Writable are /mnt/data, /tmp, the home, the packages, /dev/shm and the process's own entries of /proc; none can hold a device."""
    lines = [line.split(" - ")[0].split() for line in probe.value("open('/proc/self/mountinfo').read()").splitlines()]
    mounts = {fields[4]: set(fields[5].split(",")) for fields in lines}  # a later mount hides an earlier one

    assert all("nosuid" in options for options in mounts.values()), mounts
    assert {path for path, options in mounts.items() if "ro" not in options} == {
        *("/mnt/data", "/tmp", "/home/user", "/opt/carrel/packages", "/dev/shm", "/proc")
    }
    devices = {f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom", "tty")}
    may_hold_devices = {
        path for path, options in mounts.items() if "nodev" not in options and not path.startswith("/proc/")
    }
    assert may_hold_devices <= {"/", *devices}


@pytest.mark.not_at(Level.GVISOR, reason="what lies in /dev is gVisor's own: none of it is a device of the host")
@pytest.mark.not_at("restricted", reason="/dev is the machine's: six of it can be opened, and none listed")
def test_device_files_are_six_and_harmless(probe: Attacker) -> None:
    """null, zero, full, random, urandom, tty; no disk, no kvm, no fuse, no terminal multiplexer."""
    devices = probe.value(
        "import stat; sorted(n for n in os.listdir('/dev') if stat.S_IFMT(os.lstat(f'/dev/{n}').st_mode) in (0o020000, 0o060000))"
    )

    assert devices == ["full", "null", "random", "tty", "urandom", "zero"]


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/x",
            "/etc/passwd",
            "/etc/x",
            "/usr/bin/x",
            "/usr/lib/x",
            "/lib/x",
            "/root/x",
            "/run/x",
            "/var/tmp/x",
            "/sys/x",
        ),
        *(
            "/dev/x",
            "/mnt/x",
            "/home/x",
            "/opt/carrel/image/x",
            "/opt/carrel/lib/carrel/guest/agent.py",
            "/opt/carrel/python/x",
        ),
        *(
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/hostname",
            "/proc/sys/net/ipv4/ip_forward",
            "/proc/sysrq-trigger",
        ),
        *("/proc/1/oom_score_adj", "/proc/self/uid_map", "/proc/self/gid_map", "/proc/self/projid_map"),
    ],
)
def test_system_folders_cannot_be_written_to(probe: Attacker, path: str) -> None:
    """Neither made, nor opened for writing, nor renamed over, nor changed in mode."""
    code = f"""
def write(path):
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b'0 0 1')
open('mine', 'w').close()
[refused(write, {path!r}), refused(os.rename, 'mine', {path!r}), refused(os.chmod, {path!r}, 0o777)]
"""
    answers = probe.value(code)

    assert "" not in answers, answers
    assert set(answers) <= {"EROFS", "EACCES", "EPERM", "ENOENT", "EXDEV", "EINVAL"}


def test_setuid_programs_raise_nobody(attacker: Attacker) -> None:
    """no_new_privs and nosuid: su, the set-uid program that every system has, stays the session's user and gets nowhere."""
    code = """
shown = subprocess.run(['su', '-c', 'id -u'], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10)
[shown.returncode != 0, shown.stdout]
"""
    assert attacker.value(code) == [True, ""]


def test_a_set_uid_copy_of_ones_own_is_ignored(attacker: Attacker) -> None:
    """A shell with the set-uid bit on a writable mount gains nothing."""
    attacker.value("import shutil; shutil.copy('/bin/id', 'id'); os.chmod('id', 0o6755)")

    assert "euid" not in attacker.value("subprocess.run(['./id'], capture_output=True, text=True).stdout")
