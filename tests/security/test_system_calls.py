"""System calls: an allow list, so that what is not on it is refused whatever it is."""

from __future__ import annotations

import platform

import pyseccomp
import pytest

from carrel.backends import arguments
from carrel.backends.policy import ALLOWED_SYSCALLS
from carrel.models import Level
from fortress import Attacker

CLONE_NEW = {
    "NEWTIME": 0x80,
    "NEWNS": 0x20000,
    "NEWCGROUP": 0x2000000,
    "NEWUTS": 0x4000000,
    "NEWIPC": 0x8000000,
    "NEWUSER": 0x10000000,
    "NEWPID": 0x20000000,
    "NEWNET": 0x40000000,
}
# Every one of these has been part of a way out of somebody's sandbox.
FORBIDDEN = (  # noqa: SIM905 - as a list it would fill two screens
    "add_key bpf chroot delete_module fanotify_init finit_module fsconfig fsmount fsopen fspick get_kernel_syms init_module io_uring_enter "
    "io_uring_register io_uring_setup ioperm iopl kcmp kexec_file_load kexec_load keyctl landlock_create_ruleset lookup_dcookie "
    "migrate_pages modify_ldt mount mount_setattr move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at open_tree "
    "perf_event_open personality pidfd_getfd pivot_root process_madvise process_vm_readv process_vm_writev ptrace quotactl reboot "
    "request_key seccomp sethostname setdomainname setns settimeofday swapoff swapon syslog umount2 unshare userfaultfd uselib vhangup"
).split()


def number(name: str) -> int:
    return int(pyseccomp.resolve_syscall(pyseccomp.system_arch(), name))


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_dangerous_call_is_refused(probe: Attacker, name: str) -> None:
    """EPERM by the filter, or ENOSYS, whatever the arguments."""
    if number(name) < 0:
        pytest.skip(f"this architecture has no {name}")
    assert probe.value(f"syscall({number(name)}, 0, 0, 0, 0, 0, 0)") in ("EPERM", "ENOSYS")


def test_every_call_that_is_not_allowed_is_refused(probe: Attacker) -> None:
    """All numbers up to 600 that are not on the list, those of kernels to come included."""
    partly = (
        *("clone", "clone3", "socket", "socketpair", "setsockopt", "prlimit64", "setrlimit", "io_uring_setup"),
        *arguments.BY_NUMBER,
        *arguments.WITHOUT_FLAG,
    )
    allowed = {number(name) for name in (*ALLOWED_SYSCALLS, *partly)}
    # uretprobe and uprobe are the kernel's own trampolines: it lets them past every filter and kills who calls them from elsewhere.
    probes = {335, 336} if platform.machine() == "x86_64" else set()
    others = sorted(set(range(600)) - allowed - probes)

    answers = probe.value(f"[syscall(n, 0, 0, 0, 0, 0, 0) for n in {others}]")
    assert {n: answer for n, answer in zip(others, answers, strict=True) if answer not in ("EPERM", "ENOSYS")} == {}


@pytest.mark.parametrize("name", sorted(CLONE_NEW))
def test_clone_makes_no_namespace(probe: Attacker, name: str) -> None:
    """By clone's flags, by unshare, or by clone3, whose flags no filter can see and which is therefore not there."""
    flag = CLONE_NEW[name]
    code = f"""
packed = (ctypes.c_uint64 * 11)({flag}, 0, 0, 0, 17)
cloned, unshared = syscall({number("clone")}, {flag} | 17, 0, 0, 0, 0), syscall({number("unshare")}, {flag})
[cloned, unshared, syscall({number("clone3")}, ctypes.byref(packed), 88)]
"""
    assert probe.value(code) == ["EPERM", "EPERM", "ENOSYS"]


@pytest.mark.parametrize("family", [3, 9, 16, 17, 29, 31, 38, 40, 44])
def test_sockets_are_unix_and_internet_only(probe: Attacker, family: int) -> None:
    """No AX25, X25, NETLINK, PACKET, CAN, BLUETOOTH, ALG, VSOCK, XDP."""
    answers = probe.value(f"[refused(socket.socket, {family}, kind) for kind in (1, 2, 3, 5)]")

    assert set(answers) <= {"EPERM", "EAFNOSUPPORT"}


def test_raw_and_packet_sockets_are_refused(probe: Attacker) -> None:
    """The rights of root in a network namespace are nobody's: no forged packets, not even on the own loopback."""
    code = "[refused(socket.socket, family, socket.SOCK_RAW, p) for family in (socket.AF_INET, socket.AF_INET6) for p in (1, 6, 255)]"

    assert set(probe.value(code)) in ({"EPERM"}, {"ENETUNREACH"})


def test_nothing_can_be_typed_into_a_terminal(probe: Attacker) -> None:
    """TIOCSTI and TIOCLINUX are refused on every descriptor, also with bits above the 32 that the kernel looks at; there is no terminal."""
    ioctl = number("ioctl")
    code = f"""
c = ctypes.create_string_buffer(b'x')
requests = (0x5412, 0x541C, 0x1_0000_5412, 0xFFFFFFFF_00005412 - (1 << 64))
[syscall({ioctl}, fd, request, ctypes.byref(c)) for fd in range(4) for request in requests]
"""
    assert set(probe.value(code)) == {"EPERM"}
    assert probe.value("refused(os.open, '/dev/tty', os.O_RDWR)") in ("ENXIO", "EIO")


def test_the_filter_cannot_be_taken_off(attacker: Attacker) -> None:
    """no_new_privs stays, strict mode and a friendlier filter change nothing, and children have it too."""
    code = f"""
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 38, 22
cleared = libc.prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)
allow = (ctypes.c_ubyte * 8)(6, 0, 0, 0, 0, 0, 0xFF, 0x7F)
program = (ctypes.c_void_p * 2)(1, ctypes.addressof(allow))
libc.prctl(PR_SET_SECCOMP, 2, ctypes.byref(program), 0, 0)
again = 'import ctypes; print(ctypes.CDLL(None).unshare(0x10000000))'
child = subprocess.run([sys.executable, '-c', again], capture_output=True, text=True)
[cleared, syscall({number("unshare")}, 0x10000000), child.stdout.strip()]
"""
    assert attacker.value(code) == [-1, "EPERM", "-1"]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64's other ways into the kernel")
@pytest.mark.parametrize(
    "way",
    [
        "b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3'",  # mov eax, 20 (i386 getpid); int 0x80; ret
        "b'\\xb8\\x27\\x00\\x00\\x40\\x0f\\x05\\xc3'",  # mov eax, 0x40000027 (x32 getpid); syscall; ret
    ],
    ids=["i386", "x32"],
)
def test_other_architectures_system_calls_are_no_way_in(attacker: Attacker, way: str) -> None:
    """The numbers mean other calls there: the filter kills, or refuses, and never lets one through."""
    code = f"""
import mmap
page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
page.write({way})
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
pid = os.fork()
if pid == 0:
    os._exit(7 if call() == os.getpid() else 0)
os.waitpid(pid, 0)[1]
"""
    status = attacker.value(code)
    assert status >> 8 != 7, "the call went through"


SOL_SOCKET, SOL_TCP = 1, 6


@pytest.mark.parametrize(
    ("call", "arguments_"),
    [
        ("prctl", (22, 2, 0)),  # PR_SET_SECCOMP: a program of the code's in the kernel
        ("prctl", (62, 1, 0, 0)),  # PR_SCHED_CORE
        ("prctl", (67, 1, 0, 0)),  # PR_SET_MEMORY_MERGE
        ("prctl", ((1 << 32) | 67, 1, 0, 0)),  # the kernel looks at 32 bits of it
        ("madvise", (0, 0, 12)),  # MADV_MERGEABLE
        ("madvise", (0, 0, 21)),  # MADV_PAGEOUT
        ("fadvise64", (0, 0, 0, 4)),  # POSIX_FADV_DONTNEED
        ("setsockopt", (0, SOL_SOCKET, 26, 0, 0)),  # SO_ATTACH_FILTER
        ("setsockopt", (0, SOL_SOCKET, 50, 0, 0)),  # SO_ATTACH_BPF
        ("setsockopt", (0, (1 << 32) | SOL_SOCKET, 26, 0, 0)),
        ("setsockopt", (0, SOL_TCP, 31, 0, 0)),  # TCP_ULP
        ("setsockopt", (0, 0, 64, 0, 0)),  # IPT_SO_SET_REPLACE
        ("mmap", (0, 2 << 20, 3, 0x40022, -1, 0)),  # MAP_HUGETLB
        ("memfd_create", (b"x", 4)),  # MFD_HUGETLB
        ("sync", ()),
        ("syncfs", (0,)),
        ("vmsplice", (0, 0, 0, 0)),
    ],
)
def test_a_use_of_a_call_that_reaches_others_is_refused(
    probe: Attacker, call: str, arguments_: tuple[object, ...]
) -> None:
    """Page caches, memory reserves, cores, flushes, programs in the kernel: shared by all sandboxes, and needed by none."""
    assert probe.value(f"syscall({number(call)}, *{arguments_})") == "EPERM"


@pytest.mark.not_at("restricted", reason="there is no network, not even a loopback")
def test_what_programs_ask_of_these_calls_goes_through(attacker: Attacker) -> None:
    """Names of threads, options of sockets, advice, anonymous files: the everyday uses."""
    code = """
import mmap
server = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(server.getsockname())
options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE), (socket.IPPROTO_TCP, socket.TCP_NODELAY), (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)]
refusals = [refused(client.setsockopt, *option, 1) for option in options]
refusals.append(refused(socket.socket(socket.AF_INET6).setsockopt, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1))
with open('f', 'wb') as file:
    file.write(b'x' * 8192); file.flush()
    refusals += [refused(os.posix_fadvise, file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL), refused(os.fsync, file.fileno())]
area = mmap.mmap(-1, 1 << 22)
refusals += [refused(area.madvise, advice) for advice in (mmap.MADV_DONTNEED, mmap.MADV_HUGEPAGE, mmap.MADV_FREE)]
os.sync()
refusals.append(libc.prctl(15, b'name', 0, 0, 0))
refusals
"""
    assert set(attacker.value(code)) <= {"", 0, "EINVAL"}


def test_real_programs_still_work(attacker: Attacker) -> None:
    """The list is not so short that ordinary code breaks: threads, processes, pipes, files, sockets on loopback, sqlite, ssl, tar."""
    code = """
import asyncio, concurrent.futures, hashlib, multiprocessing, shutil, sqlite3, ssl, tarfile, tempfile, zipfile
done = []
with concurrent.futures.ThreadPoolExecutor(4) as pool: done.append(sum(pool.map(int, range(10))))
fork = multiprocessing.get_context('fork')
queue = fork.Queue()
child = fork.Process(target=queue.put, args=(5,)); child.start(); done.append(queue.get(timeout=5)); child.join()
done.append(subprocess.run('echo x | tr x y', shell=True, capture_output=True, text=True).stdout.strip())
if has_sockets: server = socket.create_server(('127.0.0.1', 0)); client = socket.create_connection(server.getsockname())
database = sqlite3.connect('d.sqlite'); database.execute('create table t (n)'); database.execute('insert into t values (3)')
database.commit()
done.append(database.execute('select n from t').fetchone()[0])
ssl.create_default_context()
with tarfile.open('t.tgz', 'w:gz') as archive: archive.add('d.sqlite')
with tempfile.NamedTemporaryFile() as file: file.write(b'x')
done.append(await asyncio.wait_for(asyncio.sleep(0.01, 'slept'), 1))
done
"""
    has_sockets = attacker.server.level is not Level.RESTRICTED
    assert attacker.value(f"has_sockets = {has_sockets}\n{code}") == [45, 5, "y", 3, "slept"]
