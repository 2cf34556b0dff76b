"""What a host counts of a pool: quantiles that are near the truth, minutes that pass, sums that add up."""

from __future__ import annotations

import random

import pytest

from carrel.counts import HostCounts, PoolCounts, added
from carrel.models import ExecutionSpec, Outcome, Status
from carrel.observations import MINUTES, Histogram, Report
from carrel.server.metrics import exposition
from carrel.server.metrics.table import METRICS
from carrel.sessions.executions import Order, Record
from carrel.sessions.tally import LOST, Tally


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def over(outcome: Outcome | None = Outcome.OK, ms: float = 10.0, first_ms: float | None = None) -> Record:
    """An execution that is over; None for one whose session ended first."""
    spec = ExecutionSpec("1")
    record = Record(spec, Order.of(spec), 0.0)
    record.outcome, record.wall_ms, record.first_call_ms = outcome, ms, first_ms
    record.status = {Outcome.OK: Status.SUCCEEDED, Outcome.CANCELED: Status.CANCELED}.get(
        outcome or Outcome.ERROR, Status.FAILED
    )
    return record


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_quantile_is_within_five_per_cent(part: float, seed: int) -> None:
    dice = random.Random(seed)  # noqa: S311 - no secret
    times = sorted(dice.lognormvariate(2, 2) + 0.1 for _ in range(5000))
    histogram = Histogram()
    for each in times:
        histogram.add(each)

    assert histogram.quantile(part) == pytest.approx(times[round(part * len(times)) - 1], rel=0.05)
    assert histogram.count == 5000
    assert histogram.sum_ms == pytest.approx(sum(times))


def test_a_bucket_ends_where_it_says() -> None:
    """What took exactly 8 ms took 8 ms at the most; a little more did not. Nothing is too small or too large to be counted."""
    histogram = Histogram()
    for each in (8.0, 8.001, 0.0, -1.0, 1e12):
        histogram.add(each)

    assert [histogram.up_to(doublings) for doublings in (-4, 2, 3, 4, 24)] == [2, 2, 3, 4, 5]


def test_no_time_has_no_quantile() -> None:
    assert Histogram().quantiles() is None
    assert Histogram().quantile(0.5) == 0.0


def test_minutes_pass_also_those_without_anything() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.begun()
    tally.executed(over(first_ms=20.0))
    clock.now += 180
    tally.executed(over(Outcome.ERROR))
    minutes = tally.report().minutes

    assert [(each.executions, each.failures, each.sessions) for each in minutes] == [
        (1, 0, 1),
        (0, 0, 0),
        (0, 0, 0),
        (1, 1, 0),
    ]
    assert minutes[0].first_call is not None
    assert minutes[1].execution is None
    assert minutes[3].first_call is None


def test_an_hour_is_kept() -> None:
    clock = Clock()
    tally = Tally(clock)
    for _ in range(200):
        tally.executed(over())
        clock.now += 60
    report = tally.report()

    assert len(report.minutes) == MINUTES
    assert report.totals.executions == 200
    assert sum(each.executions for each in report.minutes) == MINUTES - 1, "the newest has nothing yet"


def test_a_clock_that_is_set_back_loses_nothing() -> None:
    clock = Clock()
    tally = Tally(clock)
    tally.executed(over())
    clock.now -= 3600
    tally.executed(over())

    assert tally.report().totals.executions == 2
    assert len(tally.report().minutes) <= MINUTES


@pytest.mark.parametrize("ahead_s", [30, 90, 7200, 86_400 * 365])
def test_a_clock_that_was_ahead_hides_no_minute(ahead_s: float) -> None:
    """As on a machine that learns the time only after it has started: the last minute has what was done last."""
    clock = Clock()
    clock.now += ahead_s
    tally = Tally(clock)
    tally.executed(over())
    clock.now -= ahead_s
    for _ in range(3):
        tally.executed(over())
    clock.now += 180
    tally.executed(over())
    minutes = tally.report().minutes

    assert (minutes[-1].at, minutes[-1].executions) == (clock.now // 60 * 60, 1)
    assert sum(each.executions for each in minutes) >= 4


def test_what_counts_as_a_failure() -> None:
    """Not what its caller canceled; but what its session ended under."""
    tally = Tally()
    for outcome in (Outcome.OK, Outcome.CANCELED, Outcome.ERROR, Outcome.TIMEOUT, Outcome.MEMORY, None):
        tally.executed(over(outcome))

    assert tally.report().totals.failures == 4
    assert tally.outcomes[LOST] == 1
    assert tally.execution.count == 4, "of one that was canceled or lost the time says nothing"


def test_counts_come_through_as_they_went() -> None:
    tally = Tally()
    tally.executed(over(first_ms=3.0))
    fields = {"totals": {"executions": 1, "failures": 0, "sessions": 0, "bytes_in": 0, "bytes_out": 0}, "minutes": []}
    assert Report.from_json(fields).totals == tally.report().totals
    counts = PoolCounts(live=2, executions={"ok": 1}, times={"start": tally.execution})

    assert PoolCounts.from_json(counts.to_json()).to_json() == counts.to_json()


def test_pools_are_added_up() -> None:
    one, two = Histogram(), Histogram()
    one.add(1.0)
    two.add(1.0)
    two.add(9.0)
    sum_of = added(
        [
            PoolCounts(live=1, executions={"ok": 1}, times={"start": one}),
            PoolCounts(live=2, executions={"ok": 2, "error": 5}, times={"start": two}),
        ]
    )

    assert (sum_of.live, sum_of.executions) == (3, {"ok": 3, "error": 5})
    assert (sum_of.times["start"].count, sum_of.times["start"].sum_ms) == (3, 11.0)


def test_more_pools_than_have_series_are_one_series() -> None:
    """However many there are, the answer has a bound, and nothing is left out of its sums."""
    pools = {f"pool-{number:04}": PoolCounts(sessions=1) for number in range(1000)}
    machine = {"memory_bytes": 1, "available_bytes": 1}
    process = {"cpu_s": 1.0, "memory_bytes": 1, "open_files": 1, "maximum_files": 1, "started_at": 1.0}
    books = {"sandboxes": 1, "maximum_sandboxes": 1, "results_bytes": 1, "maximum_results_bytes": 1}
    told = {name: pool.to_json() for name, pool in pools.items()}
    counts = HostCounts.from_json({"pools": told, "books": books, "process": process, "machine": machine})
    families = {each.name: each for each in exposition.of_host(counts)}
    samples = families["carrel_sessions_started"].samples

    assert len(samples) == exposition.MOST_POOLS + 1
    assert sum(each.value for each in samples) == 1000
    assert {each.labels["pool"]: each.value for each in samples}[exposition.OTHER_POOLS] == 800


def test_names_follow_prometheus_rules() -> None:
    """Counters end in _total, units are base units and come last."""
    for metric in METRICS:
        assert metric.name.startswith("carrel_")
        assert metric.name.endswith("_total") is (metric.type == "counter")
        assert not metric.name.endswith(("_ms", "_mib", "_minutes"))
