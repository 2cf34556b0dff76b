"""What an execution came to and what it used, from what three have to say: the host's clock, the kernel's counters, the agent.

The interpreter is believed about its own exception only, which nobody else can know; a death, a deadline and every figure are seen from
outside of it.
"""

from __future__ import annotations

import signal

from carrel.backends.base import Death, Meter, Metered
from carrel.models import Outcome, Usage
from carrel.sessions.streams import Run

_BY_WORD = {
    "ok": Outcome.OK,
    "error": Outcome.ERROR,
    "interrupted": Outcome.INTERRUPTED,
    "memory": Outcome.MEMORY,
    "processes": Outcome.PROCESSES,
    "disk": Outcome.DISK,
}
_SIGKILLED = 128 + signal.SIGKILL  # a command's exit code; a shell passes on that of its last program
HOST_CLOCK, AGENT = "host clock", "agent"
INTERPRETER_CLOCK = "clock of the interpreter's process"  # its children are not in it
INTERPRETER_IO = "io of the interpreter's process"  # with the children that it has waited for


def of_run(run: Run, meter: Meter, kills: int | None) -> Outcome:
    """Of one that came to its end. `kills` for memory were counted at its beginning; None where that was not looked at."""
    if run.status == _SIGKILLED and kills is not None and meter.count_memory_kills() > kills:
        return Outcome.MEMORY
    return _BY_WORD.get(run.cause or run.outcome, Outcome.ERROR)


def of_death(death: Death) -> Outcome:
    """Of one whose interpreter ended under it."""
    if death.was_out_of_memory:
        return Outcome.MEMORY
    return Outcome.EXITED if death.exit_code is not None else Outcome.KILLED


def death(told: Death, run: Run) -> Death:
    """The kernel's word by the backend, or else by the agent, where the interpreter was its child."""
    return Death(run.exit_code, run.signal) if told == Death() else told


def usage(wall_ms: float, metered: Metered, meter: Meter, run: Run) -> Usage:
    """Control groups count all processes of the code; where there are none, the agent's view of the interpreter is the next best."""
    cpu_ms, cpu_source = metered.cpu_ms, meter.cpu_source
    if cpu_ms is None and run.cpu_us is not None:
        cpu_ms, cpu_source = run.cpu_us / 1000, INTERPRETER_CLOCK
    figures = {
        "cpu_ms": (cpu_ms, cpu_source),
        "peak_memory_bytes": (metered.peak_memory_bytes, meter.memory_source),
        "written_bytes": (run.written, INTERPRETER_IO),
        "printed_bytes": (run.printed, AGENT),
    }
    sources = {name: source for name, (figure, source) in figures.items() if figure is not None}
    return Usage(
        wall_ms,
        cpu_ms,
        metered.peak_memory_bytes,
        run.written,
        run.printed,
        {"wall_ms": HOST_CLOCK, **sources},
    )
