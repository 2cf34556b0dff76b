"""Ways out of containers that have worked somewhere, each tried as its write-up has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fortress import Attacker
from security.test_system_calls import number

OWN_MOUNTS = "it has no mounts of its own: Landlock is what keeps files there"


def test_no_release_agent_can_be_set(probe: Attacker) -> None:
    """CVE-2022-0492: a control group file system, mounted or found, whose release_agent the host's root would run."""
    code = """
mounted = libc.mount(b'cgroup', b'/tmp', b'cgroup', 0, b'rdma')
found = [os.path.join(top, name) for root in ('/sys', '/run', '/tmp', '/mnt') for top, _, names in os.walk(root)
         for name in names if name in ('release_agent', 'notify_on_release', 'cgroup.procs')]
[mounted, [path for path in found if os.access(path, os.W_OK)]]
"""
    assert probe.value(code) == [-1, []]


def test_the_interpreters_program_cannot_be_overwritten(attacker: Attacker) -> None:
    """CVE-2019-5736: /proc/PID/exe opened for writing, at once or by way of a descriptor, while it runs or when it has ended."""
    code = """
answers = [refused(os.open, f'/proc/{who}/exe', os.O_WRONLY | os.O_TRUNC) for who in ('self', 1, os.getppid())]
fd = os.open('/proc/self/exe', getattr(os, 'O_PATH', 0))
answers += [refused(os.open, f'/proc/self/fd/{fd}', mode) for mode in (os.O_WRONLY, os.O_RDWR | os.O_APPEND)]
answers.append(refused(os.truncate, '/proc/self/exe', 0))
sleeping = subprocess.Popen(['sleep', '5']); sleeping.kill(); sleeping.wait()
answers.append(refused(os.open, f'/proc/{sleeping.pid}/exe', os.O_WRONLY))
answers
"""
    assert "" not in attacker.value(code)


def test_core_pattern_and_its_kind_name_no_program_of_the_codes(probe: Attacker) -> None:
    """Files by which the kernel's root starts a helper: neither there, nor by a second /proc."""
    names = ("core_pattern", "modprobe", "hotplug", "poweroff_cmd", "usermodehelper/bset", "core_pipe_limit")
    before = {name: _read(Path("/proc/sys/kernel") / name) for name in names}
    code = f"""
libc.mount(b'proc', b'/tmp', b'proc', 0, None)
[refused(lambda path: os.write(os.open(path, os.O_WRONLY), b'|/tmp/x'), f'{{root}}/sys/kernel/{{name}}') for name in {names}
 for root in ('/proc', '/tmp')]
"""
    assert "" not in probe.value(code)
    assert {name: _read(Path("/proc/sys/kernel") / name) for name in names} == before


@pytest.mark.not_at("restricted", reason=OWN_MOUNTS)
def test_no_mount_is_shared_with_the_host(probe: Attacker) -> None:
    """Propagation: a mount made inside would appear outside, and the other way round. All are private."""
    fields = probe.value("[line.split(' - ')[0].split()[6:] for line in open('/proc/self/mountinfo')]")

    assert fields
    assert not [
        each for each in fields if any(word.startswith(("shared:", "master:", "propagate_from:")) for word in each)
    ]


def test_descriptors_cannot_be_passed_to_another_session(attacker: Attacker, accomplice: Attacker) -> None:
    """SCM_RIGHTS needs a socket that both can name: by path and by abstract name each finds its own, or nobody."""
    attacker.run(
        "held = socket.socket(socket.AF_UNIX); held.bind('/mnt/data/meet' if os.path.isdir('/mnt/data') else 'meet'); held.listen()"
    )
    attacker.run("other = socket.socket(socket.AF_UNIX); other.bind(chr(0) + 'meet'); other.listen()")
    names = ("/mnt/data/meet", "meet", "\0meet", "/tmp/meet")

    assert "" not in accomplice.value(
        f"[refused(lambda: socket.socket(socket.AF_UNIX).connect(name)) for name in {names}]"
    )
    assert "" not in accomplice.value("[syscall(438, fd, n, 0) for fd in range(4) for n in range(4)]"), "pidfd_getfd"


def test_no_key_is_kept_where_another_session_finds_it(probe: Attacker) -> None:
    """The kernel's keyrings belong to users, not to namespaces: add_key, request_key and keyctl are refused."""
    numbers = [number(name) for name in ("add_key", "request_key", "keyctl")]
    read = "try: keys = open('/proc/keys').read()\nexcept OSError: keys = ''\nkeys"

    assert set(probe.value(f"[syscall(n, b'user', b'name', b'x', 1, -4) for n in {numbers}]")) <= {"EPERM", "ENOSYS"}
    assert probe.value(read) == ""


def test_namespaces_of_others_cannot_be_entered_again(probe: Attacker) -> None:
    """setns by every file of /proc/PID/ns, and the roots and folders of other processes."""
    code = """
answers = []
for pid in (1, os.getppid(), os.getpid()):
    for kind in ('user', 'mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup'):
        try: fd = os.open(f'/proc/{pid}/ns/{kind}', os.O_RDONLY)
        except OSError: continue
        answers.append(libc.setns(fd, 0)); os.close(fd)
reached = [path for path in ('/proc/1/root/root', '/proc/1/cwd/..') if os.path.isdir(path) and os.access(path, os.W_OK)]
[set(answers) <= {-1}, reached]
"""
    assert probe.value(code) == [True, []]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
