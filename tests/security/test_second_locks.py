"""What holds where another lock fails: Landlock behind mounts and modes, nosuid behind no_new_privs, masks behind namespaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from carrel.guest import landlock
from fortress import Attacker
from processes import command, descendants

WITH_FILES_AND_LINKS, WITH_SCOPES = 2, 6
OWN_KERNEL = "gVisor's kernel has no Landlock; the sentry itself is the lock"

needs_landlock = pytest.mark.skipif(landlock.version() < WITH_FILES_AND_LINKS, reason="needs Landlock's ABI 2")
needs_scopes = pytest.mark.skipif(landlock.version() < WITH_SCOPES, reason="needs Landlock's ABI 6")


@needs_landlock
@pytest.mark.not_at("gvisor", reason=OWN_KERNEL)
def test_what_modes_would_allow_is_refused_by_landlock(probe: Attacker) -> None:
    """The process's own files in /proc are its user's to write, and no mount makes them read-only: EACCES is Landlock's."""
    names = ("comm", "oom_score_adj", "coredump_filter", "timerslack_ns", "clear_refs")
    paths = [path for name in names for path in (f"/proc/self/{name}", f"/proc/thread-self/{name}")]
    code = f"[refused(os.open, path, os.O_WRONLY) for path in {paths} if os.path.exists(path)]"

    assert set(probe.value(code)) == {"EACCES"}


@needs_landlock
@pytest.mark.not_at("gvisor", reason=OWN_KERNEL)
def test_landlock_is_with_children_and_after_a_restart(attacker: Attacker) -> None:
    """Whatever the code starts has it, and so has the interpreter that follows one that died."""
    write = "open('/proc/self/oom_score_adj', 'w').write('0')"
    child = f"subprocess.run([sys.executable, '-c', {write!r}], capture_output=True, text=True).stderr"
    assert "PermissionError" in attacker.value(child)
    attacker.run("os._exit(1)")

    assert "PermissionError" in attacker.run(write).stderr


@pytest.mark.not_at(
    "restricted", reason="it has one folder, no network and no shared memory: what works there is asked elsewhere"
)
def test_what_landlock_must_not_break(attacker: Attacker) -> None:
    """Links and renames between folders, devices, terminals' names, pipes by name, anonymous files, sockets with a name, nameless files."""
    code = """
import multiprocessing, shutil, tempfile
os.makedirs('a/b'); open('a/f', 'w').write('x')
os.rename('a/f', 'a/b/f'); os.link('a/b/f', 'g'); os.symlink('g', 'h'); shutil.move('g', '/tmp/g'); shutil.rmtree('a')
os.mkfifo('fifo'); socket.socket(socket.AF_UNIX).bind('named'); socket.socket(socket.AF_UNIX).bind(chr(0) + 'nameless')
open('/dev/null', 'w').write('x'); open('/dev/shm/x', 'w').write('x'); open('/dev/stdout', 'a').write('')
with tempfile.TemporaryFile() as file: file.write(b'x'); file.truncate(0)
shared = multiprocessing.get_context('fork').Queue(); shared.put(1)
child = subprocess.Popen(['sleep', '60']); child.kill()
[child.wait(), shared.get(timeout=5), os.readlink('h')]
"""
    assert attacker.value(code) == [-9, 1, "g"]


@needs_scopes
@pytest.mark.not_at("gvisor", reason=OWN_KERNEL)
@pytest.mark.not_at("restricted", reason="the agent's signals are asked about elsewhere")
def test_no_signal_leaves_the_codes_own_processes(probe: Attacker) -> None:
    """pid 1 ignored them all; with Landlock's scope none is even sent, not by kill, by a pidfd or by a thread's number."""
    code = (
        "[refused(os.kill, 1, n) for n in (0, 2, 15, 17)] + [refused(signal.pidfd_send_signal, os.pidfd_open(1), 15)]"
    )

    assert set(probe.value(code)) == {"EPERM"}


SET_ID = """
import stat
mounts = {}
for line in open('/proc/self/mountinfo'):
    fields = line.split(' - ')[0].split()
    mounts[fields[4]] = fields[5].split(',')
def is_ignored(path):
    while path not in mounts: path = os.path.dirname(path)
    return 'nosuid' in mounts[path]
looked, wrong = 0, []
for top, folders, names in os.walk('/'):
    if top == '/': folders.remove('proc')
    for name in names:
        path = os.path.join(top, name)
        try: mode = os.lstat(path).st_mode
        except OSError: continue
        if not stat.S_ISREG(mode): continue
        looked += 1
        try: raises = bool(mode & 0o6000) or 'security.capability' in os.listxattr(path)
        except OSError: raises = bool(mode & 0o6000)
        if raises and not is_ignored(path): wrong.append(path)
[looked, wrong]
"""


@pytest.mark.not_at(
    "gvisor", reason="its mounts have no nosuid; the sentry honours no bit after no_new_privs, as another test asks"
)
@pytest.mark.not_at(
    "restricted", reason="it has no mounts of its own: no_new_privs alone holds there, as another test asks"
)
def test_no_program_in_the_tree_raises_anybody(probe: Attacker) -> None:
    """The whole tree is walked: what has a set-uid or set-gid bit, or file capabilities, lies on a mount where they count for nothing."""
    looked, wrong = probe.value(SET_ID, timeout=60)

    assert looked > 1000
    assert wrong == []


# What programs ask a machine for: its processors, memory, load, time and file systems. Everything else in /proc is masked or one's own.
MACHINE = {"cgroups", "cpuinfo", "devices", "filesystems", "loadavg", "meminfo", "stat", "swaps", "uptime", "version"}


@pytest.mark.not_at("gvisor", reason="its /proc is its own kernel's and says nothing of the host")
@pytest.mark.not_at(
    "restricted", reason="a pid namespace and a /proc of one's own need a right that level does without"
)
def test_proc_shows_this_and_no_more(probe: Attacker) -> None:
    """The list of readable files is held, so that a kernel that adds one is noticed."""
    code = """
found = []
for name in os.listdir('/proc'):
    if name.isdigit() or name in ('self', 'thread-self', 'mounts', 'net'): continue
    try: shows = os.listdir(f'/proc/{name}') if os.path.isdir(f'/proc/{name}') else open(f'/proc/{name}', 'rb').read(1)
    except OSError: continue
    if shows: found.append(name)
sorted(found)
"""
    assert set(probe.value(code)) <= {*MACHINE, "bus", "irq", "sys", "tty"}
    assert probe.value("open('/proc/sys/kernel/random/boot_id').read()") == "", (
        "a name of the machine that all sessions would share"
    )


@pytest.mark.not_at("gvisor", reason="its agent is a process of the sentry's kernel")
@pytest.mark.not_at("restricted", reason="its agent is made otherwise")
def test_the_agent_has_a_filter_of_its_own(attacker: Attacker) -> None:
    """Fewer system calls than the code's: what reads hostile frames may neither start a program nor open a socket. Read outside."""
    marked = attacker.host_pid()
    namespace = Path(f"/proc/{marked}/ns/pid").readlink()
    family = [pid for pid in descendants(attacker.server.process.pid) if _namespace(pid) == namespace]
    agent = min(family)  # the first process of its namespace
    assert "'bare'" in command(agent)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{agent}/status").read_text().splitlines())

    assert (status["NoNewPrivs"], status["Seccomp"], status["Seccomp_filters"]) == ("1", "2", "1")
    assert status["CapBnd"] == "0000000000000000"


def _namespace(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink()
    except OSError:
        return None
