"""What an execution came to and what it used: the words and figures beside Azure's, on `executions` at every api-version."""

from __future__ import annotations

import time
from typing import Any

import pytest

from carrel.models import MIB, Level
from endpoint import V24_02, V25_10, VERSIONS, Endpoint
from fortress import DISK_MIB, MEMORY_MIB, Attacker

FIGURES = {"wallMs", "cpuMs", "peakMemoryBytes", "writtenBytes", "printedBytes"}


def result(endpoint: Endpoint, code: str, **fields: Any) -> dict[str, Any]:
    return dict(endpoint.run(code, **fields)["result"])


@pytest.mark.one_level
@pytest.mark.parametrize("version", VERSIONS)
def test_outcome_and_usage_stand_beside_azures_fields(shared: Endpoint, version: str) -> None:
    """Azure's four keys come first and as they were; ours follow, each figure with a source or null without."""
    told = result(shared, "6 * 7", version=version)

    assert list(told) == ["stdout", "stderr", "executionResult", "executionTimeInMilliseconds", "outcome", "usage"]
    usage = told["usage"]
    assert told["outcome"] == "ok"
    assert set(usage) == {*FIGURES, "sources"}
    assert set(usage["sources"]) == FIGURES
    assert all((usage[name] is None) == (usage["sources"][name] is None) for name in FIGURES)
    assert told["executionTimeInMilliseconds"] == round(usage["wallMs"])


def test_the_old_envelope_has_azures_fields_only(shared: Endpoint) -> None:
    assert set(shared.old("6 * 7")) == {
        "$id",
        "status",
        "stdout",
        "stderr",
        "result",
        "executionResult",
        "executionTimeInMilliseconds",
    }


def test_an_execution_that_runs_has_no_outcome_yet(endpoint: Endpoint) -> None:
    begun = endpoint.run("import time; time.sleep(0.5)", executionType="Asynchronous")
    assert "result" not in begun

    time.sleep(0.8)
    over = endpoint.send("GET", f"executions/{begun['id']}", version=V25_10).json()
    assert over["result"]["outcome"] == "ok"
    assert 500 <= over["result"]["usage"]["wallMs"] < 2000


@pytest.mark.parametrize(
    ("code", "outcome", "status"),
    [
        ("1", "ok", "Succeeded"),
        ("try: raise MemoryError\nexcept MemoryError: pass", "ok", "Succeeded"),
        ("1/0", "error", "Failed"),
        ("if:", "error", "Failed"),
        ("raise SystemExit(4)", "error", "Failed"),
        ("import socket\na, b = socket.socketpair(); a.setblocking(False); a.recv(1)", "error", "Failed"),
        ("raise KeyboardInterrupt", "interrupted", "Failed"),
        ("raise MemoryError", "memory", "Failed"),
        ("try: raise MemoryError\nexcept MemoryError as e: raise ValueError('wrapped') from e", "memory", "Failed"),
        ("import os; os._exit(3)", "exited", "Failed"),
        ("import os; os._exit(0)", "exited", "Failed"),
        ("import os; os.kill(os.getpid(), 9)", "killed", "Failed"),
        ("import ctypes; ctypes.string_at(0)", "killed", "Failed"),
    ],
)
def test_an_uncaught_cause_has_its_word(endpoint: Endpoint, code: str, outcome: str, status: str) -> None:
    body = endpoint.run(code)

    assert (body["result"]["outcome"], body["status"]) == (outcome, status), body["result"]["stderr"]


@pytest.mark.parametrize(
    "code", ["while True: pass", "import signal; signal.signal(2, signal.SIG_IGN)\nwhile True: pass"]
)
def test_a_deadline_has_its_word(endpoint: Endpoint, code: str) -> None:
    """Whether the code could be interrupted or its interpreter had to be killed."""
    told = result(endpoint, code, timeoutInSeconds=1)

    assert told["outcome"] == "timeout"
    assert 1000 <= told["usage"]["wallMs"] < 4000


def _spun(ms: float, level: Level) -> float:
    """What is measured at least of code that spins for `ms` of its own clock: gVisor's clock goes on while the host runs something else."""
    return ms / 5 if level is Level.GVISOR else ms


def test_processor_time_is_not_waiting(endpoint: Endpoint) -> None:
    """A second asleep costs next to none of it, a busy half second costs that."""
    asleep = result(endpoint, "import time; time.sleep(1)")["usage"]
    busy = result(endpoint, "begin = time.process_time()\nwhile time.process_time() - begin < 0.5: pass")["usage"]

    assert asleep["wallMs"] >= 1000 and asleep["cpuMs"] < 200
    assert _spun(480, endpoint.server.level) <= busy["cpuMs"] < 900


def test_what_is_printed_is_counted_beyond_what_is_kept(endpoint: Endpoint) -> None:
    told = result(endpoint, "print('x' * 100_000)\nimport os; os.write(2, b'y' * 50_000); None")

    assert told["usage"]["printedBytes"] == 150_001
    assert len(told["stdout"]) == 4096


def test_what_is_written_is_counted(endpoint: Endpoint) -> None:
    """By the interpreter and, as Linux counts it, by children that it has waited for; what an earlier call wrote is not in it."""
    mine = result(endpoint, "open('f', 'wb').write(bytes(3 << 20))")["usage"]["writtenBytes"]
    childs = result(endpoint, "!head -c 2000000 /dev/zero > g")["usage"]["writtenBytes"]
    nothing = result(endpoint, "1")["usage"]["writtenBytes"]

    assert 3 * MIB <= mine < 3 * MIB + 10_000
    if endpoint.server.level is not Level.GVISOR:
        assert 2_000_000 <= childs < 2_010_000
    assert nothing < 10_000


# ---- with limits to run into ---------------------------------------------------------------------------------------------------


def test_memory_has_its_word(attacker: Attacker) -> None:
    """Killed at the limit, or told by Python first."""
    assert attacker.run("hoard = []\nwhile True: hoard.append(b'x' * (1 << 20))").outcome == "memory"


def test_a_full_disk_has_its_word(attacker: Attacker) -> None:
    assert attacker.run(f"open('flood', 'wb').write(bytes({DISK_MIB + 1} << 20))").outcome == "disk"
    if attacker.server.level is not Level.RESTRICTED:  # where files are counted by nobody
        assert attacker.run("for n in range(20_000): open(f'{n}', 'w').close()").outcome == "disk"


@pytest.mark.parametrize(
    "code",
    [
        "while True: threading.Thread(target=time.sleep, args=(60,)).start()",
        "while True:\n    if os.fork() == 0: time.sleep(60); os._exit(0)",
        "held = []\nwhile True: held.append(subprocess.Popen(['sleep', '60']))",
    ],
    ids=["threads", "forks", "children"],
)
def test_too_many_processes_have_their_word(attacker: Attacker, code: str) -> None:
    words = {"processes", "memory"} if attacker.server.level is Level.GVISOR else {"processes"}
    assert attacker.run(code).outcome in words  # there each fork costs the sandbox's own kernel memory too


def test_the_peak_is_of_this_execution(attacker: Attacker) -> None:
    """64 MiB that the one call takes and gives back are not in the figure of the next; null where nobody counts them."""
    large = attacker.run("hoard = b'x' * (64 << 20); del hoard").usage
    small = attacker.run("1").usage

    if large.peak_memory_bytes is None or small.peak_memory_bytes is None:
        assert not large.sources["cpu_ms"].startswith("cgroup"), (
            "a machine that counts time in groups counts memory too"
        )
    else:
        assert 64 * MIB < large.peak_memory_bytes < 2 * MEMORY_MIB * MIB
        assert small.peak_memory_bytes < large.peak_memory_bytes - 32 * MIB


def test_processor_time_of_children_counts_with_control_groups(attacker: Attacker) -> None:
    """Without them it is the interpreter's own, and the source says so."""
    code = "subprocess.run([sys.executable, '-c', 'import time\\nwhile time.process_time() < 0.5: pass'])"
    usage = attacker.run(code).usage

    assert usage.cpu_ms is not None
    if usage.sources["cpu_ms"].startswith("cgroup v"):
        assert usage.cpu_ms >= _spun(450, attacker.server.level)
    else:
        assert usage.cpu_ms < 300 and usage.sources["cpu_ms"] == "clock of the interpreter's process"


@pytest.mark.one_level
def test_levels_of_this_run(shared: Endpoint) -> None:
    """The strongest level runs: a run that measured nothing would pass the comparisons with null."""
    assert shared.server.level is not Level.PROCESS
    assert result(shared, "1", version=V24_02)["usage"]["printedBytes"] == 0
