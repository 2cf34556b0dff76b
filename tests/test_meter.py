"""What control groups have counted, read by open files: version 1 as this kernel has it, version 2 as its files look."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from carrel.backends import meter
from carrel.backends.base import Metered
from carrel.backends.cgroups import Limits, Tree, open_tree
from carrel.backends.meter import CgroupMeter
from carrel.models import MIB


@pytest.fixture
def tree() -> Iterator[Tree]:
    tree = open_tree()
    if tree is None:
        pytest.skip("this user may make no control groups here")
    yield tree
    tree.close()


def test_a_group_counts_what_joins_it(tree: Tree) -> None:
    """A child that joins as the code does: its processor time and the most memory it held; then nothing more, and nothing left."""
    group = tree.make("counted", Limits(256 * MIB, 16, 1.0))
    reader = CgroupMeter(group.version, group.open_counted())
    joins = group.open_joins()[len(group.agent_joins) :]
    reader.start()
    pid = os.fork()
    if pid == 0:
        for fd in joins:
            os.write(fd, b"0")
        held = b"x" * (64 * MIB)
        while os.times().user + os.times().system < 0.2:
            pass
        os._exit(len(held) % 2)
    os.waitpid(pid, 0)
    first = reader.stop()
    reader.start()
    second = reader.stop()

    assert first.cpu_ms is not None and 100 < first.cpu_ms < 2000
    assert first.peak_memory_bytes is not None and 64 * MIB <= first.peak_memory_bytes < 256 * MIB
    assert second.cpu_ms == 0
    assert reader.count_memory_kills() == 0
    reader.close()
    assert reader.stop() == Metered()
    for fd in joins:
        os.close(fd)
    tree.remove(group)
    assert not any(path.exists() for path in group.directories)


def test_version_2_is_read_by_its_names(tmp_path: Path) -> None:
    texts = {
        meter.PEAK: "73400320\n",
        meter.MEMORY: "1048576\n",
        meter.KILLS: "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n",
        meter.CPU: "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 0\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    reader = CgroupMeter(2, {name: os.open(tmp_path / name, os.O_RDONLY) for name in texts})
    reader.start()
    (tmp_path / meter.CPU).write_text("usage_usec 4000\nuser_usec 2500\n")

    assert reader.stop() == Metered(cpu_ms=2.5, peak_memory_bytes=73400320)
    assert reader.count_memory_kills() == 2
    assert reader.usage().memory_bytes == 1048576
    assert reader.memory_source == "cgroup v2 memory.peak since the session began"  # it cannot be set back here
    assert reader.cpu_source == "cgroup v2 cpu.stat"
    reader.close()


def test_what_a_kernel_does_not_count_is_none() -> None:
    reader = CgroupMeter(1, {})
    reader.start()

    assert reader.stop() == Metered()
    assert (reader.cpu_source, reader.memory_source, reader.count_memory_kills()) == ("", "", 0)
