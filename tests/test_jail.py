"""The jail that stands in for a default container does to a program what Docker does, so that what passes in it means something."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyseccomp
import pytest

import jail
from carrel.cli import launch
from carrel.guest import landlock
from jail import Jail

pytestmark = pytest.mark.skipif(jail.why_not() is not None, reason=str(jail.why_not()))

USER = "nobody"  # every machine has it
# Says as JSON what its attempts came to: an errno's name, or "" for success.
_PROBE = """
import ctypes, errno, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    ctypes.set_errno(0)
    done = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return errno.errorcode[ctypes.get_errno()] if done == -1 else ""
def opened(path, flags):
    try:
        os.close(os.open(path, flags))
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""
found = {code: eval(code) for code in json.loads(sys.argv[1])}
print(json.dumps(found))
"""


def found(which: Jail, *attempts: str) -> list[Any]:
    """What each attempt, an expression, came to inside."""
    command = which.command(sys.executable, "-c", _PROBE, json.dumps(attempts))
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answers = json.loads(done.stdout)
    return [answers[attempt] for attempt in attempts]


def number(name: str) -> int:
    return int(pyseccomp.resolve_syscall(pyseccomp.system_arch(), name))


@pytest.mark.parametrize("user", [None, USER])
def test_no_namespace_can_be_made_and_nothing_mounted(user: str | None) -> None:
    """As root and as an ordinary user, by unshare, clone and setns; clone3 is not there."""
    flags = [1 << bit for bit in (7, 17, 25, 26, 27, 28, 29, 30)]
    unshared = [f"call({number('unshare')}, {flag})" for flag in flags]
    cloned = [f"call({number('clone')}, {flag} | 17, 0, 0, 0, 0)" for flag in flags]
    others = [f"call({number(name)}, 0, 0, 0, 0, 0)" for name in ("setns", "mount", "umount2", "pivot_root", "fsopen")]
    others += [f"call({number(name)}, 0, 0, 0, 0, 0)" for name in ("bpf", "keyctl", "userfaultfd", "io_uring_setup")]

    assert set(found(Jail(user=user), *unshared, *cloned, *others)) == {"EPERM"}
    assert found(Jail(user=user), f"call({number('clone3')}, 0, 0)") == ["ENOSYS"]


@pytest.mark.parametrize("user", [None, USER])
def test_settings_and_control_groups_are_read_only(user: str | None) -> None:
    """Root has dac_override, and still cannot write them."""
    paths = ("/proc/sys/kernel/domainname", "/sys/fs/cgroup/cgroup.procs", "/sys/kernel/mm/ksm/run")
    present = [path for path in paths if Path(path).exists()]
    answers = found(Jail(user=user), *(f"opened({path!r}, os.O_WRONLY)" for path in present))

    assert set(answers) <= {"EROFS", "EACCES"}
    assert user or set(answers) == {"EROFS"}


def test_root_has_dockers_capabilities_and_a_user_has_none() -> None:
    read = "[line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapBnd'))]"

    assert found(Jail(), read) == [["00000000a80425fb"] * 2]  # as `docker run debian cat /proc/self/status` shows it
    assert found(Jail(user=USER), read) == [["0" * 16, "00000000a80425fb"]]
    assert found(Jail(capabilities=()), read) == [["0" * 16] * 2]


def test_only_the_jail_is_to_be_seen() -> None:
    """Its first process is the command itself, and /dev holds what Docker puts there."""
    answers = found(
        Jail(), "os.getpid()", "[n for n in os.listdir('/proc') if n.isdigit()]", "sorted(os.listdir('/dev'))"
    )

    assert answers[:2] == [1, ["1"]]
    assert answers[2] == sorted([*jail.DEVICES, "fd", "shm", "stderr", "stdin", "stdout"])


def test_landlock_and_privileges_are_as_asked_for() -> None:
    """Old container engines refuse Landlock; Kubernetes can forbid new privileges."""
    version, privileges = f"call({number('landlock_create_ruleset')}, 0, 0, 1)", "libc.prctl(39, 0, 0, 0, 0)"

    assert found(Jail(), version, privileges) == found(Jail(), "''", "0")
    assert found(Jail(landlock=False, no_new_privileges=True), version, privileges) == ["EPERM", 1]


@pytest.mark.skipif(landlock.version() < 4, reason="this kernel's Landlock is no newer than what is claimed")
def test_an_older_kernels_landlock_can_be_claimed() -> None:
    """The question is answered so; everything else of Landlock works as it does."""
    asked = f"libc.syscall({number('landlock_create_ruleset')}, 0, 0, 1)"
    made = f"libc.syscall({number('landlock_create_ruleset')}, (ctypes.c_uint64 * 1)(1), 8, 0) > 2"

    assert found(Jail(landlock_abi=3), asked, made) == [3, True]


def test_signals_and_exit_status_pass_through() -> None:
    """As `docker stop` does: pid 1 gets SIGTERM, which it has to have a handler for."""
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
    with subprocess.Popen(Jail().command(sys.executable, "-c", code), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 7


@pytest.mark.slow
@pytest.mark.parametrize("is_root", [True, False], ids=["root", "ordinary"])
def test_the_namespace_level_has_no_chance(is_root: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """A server that insists on it ends with the reason, and leaves nothing."""
    user = None if is_root else jail.ordinary_user()
    with tempfile.TemporaryDirectory(prefix="carrel-state-") as state:
        with pytest.raises(launch.LaunchError), jail.serve(Jail(user=user), Path(state), "--isolation", "namespace"):
            pass

        assert not Path(state, "connection.json").exists()
    assert "new namespaces are refused" in capfd.readouterr().err
