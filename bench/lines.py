"""A line of the table, and the table in its three forms: for a terminal, as JSON, as a page of the documentation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.machine import Machine


@dataclass(frozen=True, slots=True)
class Line:
    """One promise. `floor` and `ratio` are "" where the budget is absolute; `detail` is for the JSON and whoever looks for the reason."""

    what: str
    measured: str
    floor: str
    ratio: str
    budget: str
    is_met: bool | None  # None: the rounds of this run disagree, so it says neither
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "NO", None: "unclear"}[self.is_met]

    @property
    def cells(self) -> tuple[str, ...]:
        return (self.what, self.measured, self.floor, self.ratio, self.budget, self.verdict)


HEADINGS = ("line", "measured", "floor", "ratio", "budget", "met?")


def percentile(samples: Iterable[float], share: float) -> float:
    """The sample that `share` of all do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def p50(samples: Iterable[float]) -> float:
    return percentile(samples, 0.5)


def holds(rounds: Sequence[float], *, at_most: float = math.inf, at_least: float = -math.inf) -> bool | None:
    """Whether the rounds keep within the bound; None where their quartiles lie on both sides of it.

    Product and floor of one round saw the same machine. One number over a whole run can be decided by a noisy phase that met only one of
    the two: so a verdict needs at least the middle half of the rounds to agree.
    """
    verdicts = {at_least <= percentile(rounds, share) <= at_most for share in (0.25, 0.5, 0.75)}
    return verdicts.pop() if len(verdicts) == 1 else None


def both(first: bool | None, second: bool | None) -> bool | None:
    """Of a budget with two parts: missed where one is, unclear where one is."""
    if first is False or second is False:
        return False
    return None if first is None or second is None else True


def summary(samples: Sequence[float]) -> dict[str, float]:
    shares = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(samples, share), 3) for name, share in shares.items()} | {"count": len(samples)}


def ms(value: float) -> str:
    return f"{value:.2f} ms" if value < 10 else f"{value:.1f} ms"


def as_table(lines: Sequence[Line]) -> str:
    rows = [HEADINGS, *(line.cells for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_json(lines: Sequence[Line], machine: Machine) -> str:
    return json.dumps({"machine": asdict(machine), "lines": [asdict(line) for line in lines]}, indent=1) + "\n"


_PAGE = """# Benchmarks

`make bench` measures each budget beside its floor in the same run, in turns, and prints this table; `make bench ARGS=--write-docs` writes
this page. A floor does the same work with no product in between (`bench/floors/`): a raw ASGI application on the same server stack, one
Unix socket, IPython's `run_cell`; a plain process with the same imports that forks; the same relay into a file on a tmpfs. Compare ratios:
absolute times say more about a machine, and about what else ran on it, than about Carrel. A ratio is the median over the rounds of a run;
*unclear* means that the middle half of the rounds lies on both sides of the budget, so that this run decides nothing.

Measured {machine}.

{table}

- *first call*: a new identifier, allocated from the warm pool, against the same call on a running session.
- *a write in a session*: from the time that the code wrote down to its arrival at a raw socket, with 30 ms between two writes.
- *new sandbox*: fully isolated, from nothing to an interpreter that says it is ready; the floor is fork, exit and wait of a plain process
  that imported the same list. *per second* is four at a time, as a pool makes them.
- *idle session*: the fall of MemAvailable (agent, interpreter, what the kernel and the host keep for them) for each session; each has run
  `1+1` once. The floor is an idle child of the plain process.
- *shell session*: the same of a Shell pool, with the command `echo 1`. Each command has a `bash` of its own, and an `env` that brings back
  what it exported; the floor is that `bash` alone, started by a small process.
- *growth*: the peak of resident memory during a transfer over what it was before, gateway and host together.
"""


def as_page(lines: Sequence[Line], machine: Machine) -> str:
    rows = [HEADINGS, ("---",) * len(HEADINGS), *(line.cells for line in lines)]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    return _PAGE.format(machine=machine, table=table)
