"""Signals stay inside, and the agent shrugs them off."""

from __future__ import annotations

import os
import signal
import time

import pyseccomp
import pytest

from carrel.models import Level
from fortress import Attacker
from processes import alive, eventually

EVERY = [int(number) for number in signal.valid_signals()]


def test_no_signal_reaches_the_agent(attacker: Attacker) -> None:
    """pid 1 ignores all that code may send it: files still work and the variables are still there."""
    attacker.value("kept = 1")
    attacker.value(f"for n in {EVERY}: refused(os.kill, 1, n)\ntime.sleep(0.3)")

    assert attacker.value("kept + 1") == 2
    assert attacker.client.upload("after.txt", b"x").size == 1
    assert attacker.client.list_files()[0].name == "after.txt"


def test_a_flood_of_signals_at_the_agent_changes_nothing(attacker: Attacker) -> None:
    """Neither thousands of SIGCHLD nor queued real-time signals."""
    attacker.value("kept = 1")
    attacker.value("for n in range(20_000): refused(os.kill, 1, signal.SIGCHLD); refused(os.kill, 1, 40)")

    assert attacker.value("kept + 1") == 2


@pytest.mark.parametrize("target", ["0", "-1"])
def test_killing_everybody_kills_oneself_only(attacker: Attacker, target: str) -> None:
    """kill(0) and kill(-1) with SIGKILL: no process outside of the sandbox gets it, also where all sessions share a host uid."""
    result = attacker.run(f"child = subprocess.Popen(['sleep', '60'])\nos.kill({target}, 9)\nos.kill(os.getpid(), 9)")

    assert result.status == "Failed"
    assert attacker.has_died(result)
    attacker.still_works()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGSTOP, signal.SIGHUP, signal.SIGCHLD])
def test_signals_to_groups_and_strangers_stay_inside(attacker: Attacker, number: signal.Signals) -> None:
    """To the own group, to every pid that might exist, to process groups by number: the neighbour and the template never notice."""
    code = f"""
import signal
for n in set(signal.valid_signals()) - {{9, 19}}: signal.signal(n, signal.SIG_IGN)
targets = [0, -1, *(p for p in range(-3000, 3000) if p not in (0, -1, os.getpid(), -os.getpid()))]
for target in targets: refused(os.kill, target, {int(number)})
"""
    attacker.run(code, timeout=1)

    attacker.still_works()


@pytest.mark.not_at("restricted", reason="asked in test_restricted.py: the machine's processes have numbers there")
def test_signals_by_every_other_road(attacker: Attacker) -> None:
    """tgkill, rt_sigqueueinfo, pidfd, a socket's owner, a parent-death signal: none leaves the sandbox."""
    queue = pyseccomp.resolve_syscall(pyseccomp.system_arch(), "rt_sigqueueinfo")
    tgkill = pyseccomp.resolve_syscall(pyseccomp.system_arch(), "tgkill")
    host = list(attacker.server.pids.values())
    code = f"""
import fcntl, struct
info = ctypes.create_string_buffer(struct.pack('iii', 9, 0, -1), 128)
answers = [syscall({queue}, p, 9, info) for p in {host}] + [syscall({tgkill}, p, p, 9) for p in {host}]
answers += [refused(os.pidfd_open, p).replace("ENOSYS", "ESRCH") for p in {host}]  # gVisor knows no pidfd
pair = socket.socketpair()
answers += [refused(fcntl.fcntl, pair[0], fcntl.F_SETOWN, p) for p in {host}]
sorted(set(answers))
"""
    assert attacker.value(code) == ["ESRCH"]


@pytest.mark.weaker(Level.GVISOR, reason="gVisor takes any priority, and schedules its own processes all the same")
def test_priorities_of_others_cannot_be_changed(attacker: Attacker) -> None:
    """By user (whom all sessions may share), by group, by pid: only what is in the sandbox is slowed."""
    attacker.value(
        "for who in (0, 1000): refused(os.setpriority, os.PRIO_USER, who, 19)\nrefused(os.setpriority, os.PRIO_PROCESS, 1, 19)"
    )

    own = os.getpriority(os.PRIO_PROCESS, 0)  # handed down to whatever this run starts
    assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in attacker.server.pids.values()} == {own}
    if attacker.level is not Level.GVISOR:
        assert attacker.value("refused(os.setpriority, os.PRIO_PROCESS, 0, -20)") in ("EACCES", "EPERM")


@pytest.mark.parametrize(
    "setting",
    [
        "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
        "signal.signal(signal.SIGINT, lambda *_: None)",
    ],
    ids=["blocked", "handled"],
)
@pytest.mark.of_python(reason="what is killed has to be the guest")
def test_a_loop_that_will_not_be_interrupted_is_killed(attacker: Attacker, setting: str) -> None:
    """First SIGINT, then SIGKILL, a second later."""
    began = time.monotonic()
    result = attacker.run(f"{setting}\nwhile True: pass", timeout=1)

    assert result.status == "Failed"
    assert "Request timed out" in result.stderr
    assert time.monotonic() - began < 4
    attacker.still_works()


@pytest.mark.of_python(reason="what is restored is Python's guest")
def test_signal_games_do_not_outlast_a_call(attacker: Attacker) -> None:
    """SIGINT ignored, handled or blocked by one call interrupts the next one all the same."""
    attacker.value(
        "kept = 1; signal.signal(signal.SIGINT, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, {2}); 0"
    )
    began = time.monotonic()

    assert attacker.run("while True: pass", timeout=1).status == "Failed"
    assert time.monotonic() - began < 1.9
    assert attacker.value("kept") == 1


@pytest.mark.of_python(reason="what is stopped has to be the guest")
def test_a_stopped_interpreter_is_replaced(attacker: Attacker) -> None:
    """SIGSTOP on oneself: no interrupt wakes it, the kill does."""
    result = attacker.run("os.kill(os.getpid(), signal.SIGSTOP)", timeout=1)

    assert result.status == "Failed"
    attacker.still_works()


def test_a_sigterm_handler_that_stays_saves_nobody(attacker: Attacker) -> None:
    """Ending a session asks nothing: its processes are gone."""
    pid = attacker.host_pid()
    attacker.value("for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)")
    attacker.client.end()

    assert eventually(lambda: not alive(pid))


@pytest.mark.of_guests_at(
    "gvisor", reason="beside a guest it is the coprocess that ends, and nobody tells it apart from one that works"
)
@pytest.mark.parametrize("error", ["RuntimeError('late')", "KeyboardInterrupt", "SystemExit(3)"])
def test_a_timer_that_fires_between_calls_harms_one_session(attacker: Attacker, error: str) -> None:
    """A handler that raises inside our own loop: at worst the interpreter is replaced."""
    code = f"def late(*_): raise {error}\nsignal.signal(signal.SIGALRM, late); signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05); 0"
    attacker.value(code)
    time.sleep(0.4)

    for _ in range(3):
        result = attacker.run("signal = __import__('signal'); signal.setitimer(signal.ITIMER_REAL, 0); 1 + 1")
        if result.is_ok:
            break
    assert result.result == 2
