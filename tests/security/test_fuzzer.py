"""Random system calls with random and with interesting arguments, for a bounded time: nobody but the one who makes them notices.

CARREL_FUZZ_SECONDS and CARREL_FUZZ_SEED make it longer, and do one run again.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from fortress import Attacker
from processes import alive

SECONDS = float(os.environ.get("CARREL_FUZZ_SECONDS", "5"))
SEED = int(os.environ.get("CARREL_FUZZ_SEED", random.randrange(1 << 20)))  # noqa: S311 - to be told, not to be secret
PROGRAM = (Path(__file__).parent / "fuzz.py").read_text()
TAINTED = Path("/proc/sys/kernel/tainted")  # set by the kernel's own oopses and warnings


@pytest.mark.thorough
@pytest.mark.slow
def test_random_system_calls_harm_nobody_else(attacker: Attacker, accomplice: Attacker) -> None:
    """Server and kernel stay as they were, another session works meanwhile and after, and this one can be made to work again."""
    before, kernel = attacker.server.pids, TAINTED.read_text()
    accomplice.value("kept = 1")
    # A call has an end: a longer run is several calls, and what one leaves the next one finds.
    calls, left = 0, SECONDS
    while left > 0:
        share = min(left, 30.0)
        result = attacker.run(f"SECONDS, SEED = {share}, {SEED + calls}\n{PROGRAM}", timeout=60)
        # It may kill its interpreter, or wait for ever in a call that it hit on: both end in a result.
        assert result.is_ok or result.outcome in ("killed", "exited", "memory", "processes", "timeout"), result.stderr
        if result.is_ok:
            print(f"seed {SEED + calls}: calls, children, numbers that succeeded: {result.result}")
            assert result.result[0] > 10 * share, "the fuzzer did not get to work"
        assert accomplice.value("kept + 1") == 2, f"seed {SEED + calls}"
        calls, left = calls + 1, left - share

    assert attacker.server.pids == before
    assert all(alive(pid) for pid in before.values())
    assert TAINTED.read_text() == kernel, f"seed {SEED}: the kernel complains: see dmesg"
    attacker.run("1")  # at worst a fresh interpreter comes first
    attacker.still_works()
