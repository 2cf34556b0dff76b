"""Floods: of output, of results, of displays. What is over the cap is dropped as it comes and costs nobody's memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from carrel.client import Client
from fortress import Attacker

pytestmark = pytest.mark.of_python(
    reason="by the streams and values of Python's guest; those of others are in tests/contract/test_runtimes.py"
)

MANY = 150


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def test_150_megabytes_of_output_are_drained(attacker: Attacker, neighbour: Client) -> None:
    """On stdout and on stderr: 4096 characters of each come back, the code gets to its end, host and gateway do not grow."""
    before = {name: resident_mib(pid) for name, pid in attacker.server.pids.items()}
    began = time.monotonic()
    code = f"piece = b'x' * (1 << 20)\nfor n in range({MANY}): os.write(1, piece); os.write(2, piece)\n'done'"
    result = attacker.run(code, timeout=30)

    assert (result.status, result.result, result.stdout, result.stderr) == ("Succeeded", "done", "x" * 4096, "x" * 4096)
    assert time.monotonic() - began < 20
    for name, pid in attacker.server.pids.items():
        assert resident_mib(pid) - before[name] < 16, name


def test_an_endless_flood_ends_at_its_deadline(attacker: Attacker, neighbour: Client) -> None:
    """Printing without end is interrupted like anything else, by Python and by a child."""
    attacker.value("kept = 1")
    for code in ("while True: print('x' * 1000)", "!yes"):
        result = attacker.run(code, timeout=1)
        assert result.status == "Failed"
        assert len(result.stdout) == 4096
        assert "Request timed out" in result.stderr
    assert attacker.value("kept") == 1


def test_a_flood_from_behind_is_nobodys_output(attacker: Attacker) -> None:
    """What a process left running prints between calls is dropped; the next call has its own output."""
    attacker.value("flood = subprocess.Popen(['yes', 'from behind'])")
    time.sleep(0.5)
    attacker.value("flood.kill(); flood.wait()")

    assert attacker.run("print('mine')").stdout == "mine\n"


def test_a_flood_of_displays_is_capped(attacker: Attacker) -> None:
    """Ten thousand displayed objects are text like any other; of images the last one is the value."""
    result = attacker.run("for n in range(10_000): display({'n': n})", timeout=30)

    assert (result.status, len(result.stdout)) == ("Succeeded", 4096)


@pytest.mark.parametrize(
    "code",
    [
        "'x' * (100 << 20)",
        "b'x' * (50 << 20)",
        "list(range(2_000_000))",
        "{str(n): 'x' * 1000 for n in range(20_000)}",
        "[[[0] * 1000] * 100] * 100",
    ],
    ids=["text", "bytes", "list", "dict", "nested"],
)
def test_a_huge_result_is_bounded(attacker: Attacker, code: str) -> None:
    """It comes back cut, or is left out and says so; the interpreter and its variables stay."""
    attacker.value("kept = 1")
    result = attacker.run(code, timeout=2)

    assert result.status in ("Succeeded", "Failed")
    assert len(str(result.result)) < 32 << 20
    assert attacker.value("kept") == 1


def test_a_huge_traceback_is_capped(attacker: Attacker) -> None:
    result = attacker.run("raise ValueError('x' * (20 << 20))", timeout=20)

    assert (result.status, len(result.stderr)) == ("Failed", 4096)


def test_an_image_that_is_too_large_is_left_out(attacker: Attacker) -> None:
    """A display object that claims to be a picture of 100 MB."""
    code = "class P:\n    def _repr_png_(self): return b'\\x89PNG' + bytes(100 << 20)\nP()"
    result = attacker.run(code, timeout=30)

    assert result.status in ("Succeeded", "Failed")
    attacker.still_works()


def test_lines_without_end_and_zero_bytes(attacker: Attacker) -> None:
    """One line of ten million characters, NULs, invalid UTF-8, terminal codes: text within its cap."""
    result = attacker.run("os.write(1, b'\\0' * 1000 + b'\\xff\\xfe' * 1000 + b'\\x1b[2J' * 100 + b'x' * 10_000_000)")

    assert len(result.stdout) == 4096
    assert result.stdout.startswith("\0" * 1000 + "\ufffd" * 2000 + "\x1b[2J")
