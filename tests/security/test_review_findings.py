"""Holes that a review found once, each held shut by the attack that showed it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carrel.models import Level
from fortress import Attacker
from processes import descendants


@pytest.mark.not_at("restricted", reason="it has no such folder, and no mounts of its own")
def test_the_hosts_root_is_not_among_the_mounts(probe: Attacker) -> None:
    """What lies at /opt/carrel is an interpreter, an image and the guest's own files, and nothing of the host."""
    found = probe.value(
        "{name: sorted(os.listdir('/opt/carrel/' + name)) for name in sorted(os.listdir('/opt/carrel'))}"
    )

    assert set(found) <= {"bin", "image", "images", "lib", "packages", "python", "wheels"}
    assert [found.get(name, []) for name in ("bin", "wheels")] == [[], []]
    assert found["python"] == ["bin", "lib"]
    assert found["images"] == []
    assert found["lib"] == ["carrel"]


def test_what_the_host_does_with_shared_files_cannot_be_watched(probe: Attacker) -> None:
    """inotify and F_NOTIFY on /usr/bin would tell which programs the host runs; leases would hold them up."""
    found = probe.value(
        "import fcntl; folder = os.open('/usr/bin', os.O_RDONLY); "
        "[syscall(294, 0), refused(fcntl.fcntl, folder, 1026, 1), refused(fcntl.fcntl, folder, 1024, 0)]"
    )

    assert all(found)


def test_another_processes_limits_cannot_be_changed(probe: Attacker) -> None:
    """prlimit on pid 1 would reach the agent: the kernel asks for the same ids only, not whether it is dumpable."""
    assert probe.value("refused(resource.prlimit, 1, resource.RLIMIT_NOFILE, (3, 3))") == "EPERM"


def test_the_dump_limit_cannot_be_set_to_start_the_hosts_helper(probe: Attacker) -> None:
    """A piped core_pattern starts a root process on the host for each crash, unless the limit is 1; so it is, and stays."""
    changed = probe.value(
        "try:\n    resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); done = True\n"
        "except (OSError, ValueError): done = False\n[done, *resource.getrlimit(resource.RLIMIT_CORE)]"
    )

    assert changed == [False, 1, 1]


def test_programs_get_signals_as_they_expect(probe: Attacker) -> None:
    """What the server's own processes ignore is not ignored by the code's programs."""
    assert probe.value("child = subprocess.Popen(['sleep', '30']); child.terminate(); child.wait(5)") == -15


@pytest.mark.of_python(reason="by IPython's own shell escape")
def test_standard_streams_can_be_opened_by_name(probe: Attacker) -> None:
    """`> /dev/stderr` works, though the pipe was made by another user."""
    result = probe.run("!echo seen > /dev/stderr")

    assert result.stderr == "seen\n"


def test_an_interrupt_of_the_agent_is_nothing(probe: Attacker) -> None:
    """SIGINT to pid 1 does not end the session."""
    probe.value("refused(os.kill, 1, signal.SIGINT)")

    probe.still_works()


def test_an_empty_forged_frame_is_nothing(probe: Attacker) -> None:
    """A value frame without content is dropped by the agent."""
    probe.run('import struct; head = b\'{"value": 1}\'; os.write(3, struct.pack(">II", len(head), 0) + head); 1')

    probe.still_works()


@pytest.mark.not_at(Level.GVISOR, reason="the image's template is inside the sandbox there")
@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: its templates are other processes")
def test_templates_hold_no_descriptor_of_the_servers(probe: Attacker) -> None:
    """A template has its socket to the host, its poll set and stdio: not the spawner's socket, not a log, not a lock."""
    templates = [
        pid for pid in descendants(probe.server.process.pid) if b"template" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]
    assert templates
    if os.geteuid() != 0:
        pytest.skip("an ordinary user may not look at the descriptors of a process in another user namespace")
    sockets = [
        [link for fd in Path(f"/proc/{pid}/fd").iterdir() if (link := str(fd.readlink())).startswith("socket:")]
        for pid in templates
        if pid == _eldest(pid, templates)
    ]

    assert all(len(set(links)) == 1 for links in sockets)


def _eldest(pid: int, templates: list[int]) -> int:
    """The process itself where it is a template, its parent where it is what a template forked."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return parent if parent in templates else pid
