"""What a host has counted, for whoever scrapes it: as it crosses hostlink. What is said of a pool can be added up over pools."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from carrel.observations import Histogram
from carrel.proc import Machine, Process

TIMES = ("start", "allocation", "first_call", "queue", "execution")  # of a pool (sessions/tally.py)


@dataclass(frozen=True, slots=True)
class PoolCounts:
    """The first block is as it stands now, the rest since the host began. `times` has a histogram for each of TIMES."""

    refused: int = 0  # 1 where it is not served
    warm: int = 0
    starting: int = 0
    live: int = 0
    callers: int = 0  # that wait for a sandbox
    queued: int = 0  # executions that wait for their session's interpreter
    ready: int = 0  # as the pool is defined
    maximum: int = 0

    failed: int = 0  # starts of sandboxes
    sessions: int = 0
    restarts: int = 0  # of interpreters
    bytes_in: int = 0
    bytes_out: int = 0
    made: Mapping[str, int] = field(default_factory=dict)  # sandboxes, by "RUNTIME LEVEL"
    ended: Mapping[str, int] = field(default_factory=dict)  # sessions, by why
    executions: Mapping[str, int] = field(default_factory=dict)  # by outcome
    times: Mapping[str, Histogram] = field(default_factory=lambda: {name: Histogram() for name in TIMES})

    def to_json(self) -> dict[str, Any]:
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {**fields, "times": {name: histogram.to_json() for name, histogram in self.times.items()}}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> PoolCounts:
        times = {name: Histogram.from_json(each) for name, each in fields["times"].items()}
        return cls(**{**fields, "times": times})


def added(counts: Iterable[PoolCounts]) -> PoolCounts:
    """Of many pools together."""
    return PoolCounts.from_json(_sum([each.to_json() for each in counts]))


def _sum(trees: list[Any]) -> Any:
    """Of numbers in dictionaries in dictionaries."""
    if not isinstance(trees[0], Mapping):
        return sum(trees)
    names = dict.fromkeys(name for tree in trees for name in tree)
    return {name: _sum([tree[name] for tree in trees if name in tree]) for name in names}


@dataclass(frozen=True, slots=True)
class Books:
    """What the pools of a host share."""

    sandboxes: int
    maximum_sandboxes: int  # 0: as many as there may be
    results_bytes: int
    maximum_results_bytes: int


@dataclass(frozen=True, slots=True)
class HostCounts:
    pools: Mapping[str, PoolCounts]
    books: Books
    process: Process
    machine: Machine

    def to_json(self) -> dict[str, Any]:
        return {
            "pools": {name: pool.to_json() for name, pool in self.pools.items()},
            **{name: dataclasses.asdict(getattr(self, name)) for name in ("books", "process", "machine")},
        }

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> HostCounts:
        return cls(
            {name: PoolCounts.from_json(pool) for name, pool in fields["pools"].items()},
            Books(**fields["books"]),
            Process(**fields["process"]),
            Machine(**fields["machine"]),
        )
