"""docs/reference/limits.md is whole and true: every setting that limits has its row, with the default and range that the parser has."""

from __future__ import annotations

import re
import resource
from pathlib import Path

import pytest

from carrel.backends import capacity, policy
from carrel.config import SETTINGS
from carrel.guest import archive, commander, fileops, run, values, watch
from carrel.models import MIB, PoolSpec
from carrel.pool_settings import FIELDS
from carrel.server import upload
from carrel.sessions import budget, executions, link_files, runner, store, streams
from carrel.wire import environments, names
from carrel.wire import programs as wire

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reference/limits.md").read_text()
SETTINGS_PAGE = (ROOT / "docs/reference/settings.md").read_text()

# Fields that choose something, and limit nothing. A new field stands here or on the page.
NO_LIMITS = {
    "containerType",
    "poolManagementType",
    "scaleConfiguration.readySessionInstances",
    "dynamicPoolConfiguration.lifecycleConfiguration.lifecycleType",
    "sessionNetworkConfiguration.status",
    "carrel.egress.allow",
    "carrel.packages.index",
    "carrel.packages.wheels",
    "carrel.expiryNotice",
    "carrel.logs.records",
    "carrel.logs.retention",
    "carrel.webhook.url",
    "carrel.webhook.secret",
    "carrel.secrets",
    "carrel.image",
    "carrel.isolation",
    "carrel.minimum",
    "mcpServerSettings.isMcpServerEnabled",
    "mcpServerSettings.isMcpServerApiKeyDisabled",
}
RLIMITS = {
    "RLIMIT_NOFILE": ("open files of a process", "{:d}"),
    "RLIMIT_MEMLOCK": ("locked memory of a process", "{:d} MiB"),
    "RLIMIT_MSGQUEUE": ("POSIX message queues", "{:d} bytes"),
    "RLIMIT_SIGPENDING": ("signals waiting", "{:d}"),
}
ELSEWHERE = {
    "RLIMIT_CORE",
    "RLIMIT_NPROC",
    "RLIMIT_AS",
}  # "core dumps: none", `carrel.pids`, `carrel.memory` without control groups


def row(first: str) -> list[str]:
    """The cells of the row that begins so."""
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and cells[0] == first:
            return cells
    raise AssertionError(f"docs/reference/limits.md has no row {first}")


@pytest.mark.parametrize("path", [path for path in FIELDS if path not in NO_LIMITS])
def test_every_field_that_limits_has_its_row(path: str) -> None:
    """Default and range as in settings.md and in the parser; what code and caller see, and a test that is there."""
    cells = row(f"`{path}`")
    assert len(cells) == 7
    assert cells[2] == FIELDS[path].allowed
    assert f"| {cells[0]} | {cells[1]} | {cells[2]} |" in SETTINGS_PAGE
    assert cells[4], "what the caller sees"


def test_defaults_are_those_of_the_model() -> None:
    spec = PoolSpec("x")
    shown = {
        "carrel.memory": f"{spec.memory_bytes // MIB}MiB",
        "carrel.cpu": str(spec.cpu),
        "carrel.pids": str(spec.pids),
        "carrel.disk": f"{spec.data_bytes // MIB}MiB",
        "carrel.inodes": str(spec.data_inodes),
        "carrel.tmp": f"{spec.tmp_bytes // MIB}MiB",
        "carrel.execution": str(spec.maximum_execution),
        "scaleConfiguration.maxConcurrentSessions": str(spec.maximum),
        "dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds": str(spec.cooldown),
    }

    assert {path: row(f"`{path}`")[1] for path in shown} == {path: f"`{text}`" for path, text in shown.items()}


def test_every_row_names_a_test_that_is_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", PAGE)
    assert len(named) >= 10
    for file, name in named:
        assert re.search(rf"^(async )?def {name}\b", (ROOT / file).read_text(), re.MULTILINE), f"{file} has no {name}"


def test_every_limit_of_a_process_is_on_the_page() -> None:
    """Whatever `policy.py` sets, with its number."""
    limits = policy.rlimits(PoolSpec("x"), has_memory_cgroup=False)
    for name, value in limits.items():
        assert hasattr(resource, name)
        if name not in ELSEWHERE:
            what, form = RLIMITS[name]
            assert row(what)[1] == form.format(value // MIB if "MiB" in form else value)
    assert limits["RLIMIT_AS"] - PoolSpec("x").memory_bytes == 3 * 1024 * MIB


def test_the_fixed_limits_are_the_codes() -> None:
    assert runner.CODE_BYTES == wire.MAX_CODE_BYTES == int(row("code of a call")[1].split()[0]) * MIB
    assert row("an uploaded file")[1] == f"{upload.MAX_CONTENT:,} bytes"
    assert f"{wire.NEW_STREAM:,} characters" in row("stdout, stderr")[1]
    assert f"goes to {wire.MAX_STREAM:,}" in row("stdout, stderr")[1]
    shown = [runner.VALUE_CAP // MIB, values.MAX_TEXT // MIB, values.MAX_JSON // MIB, values.MAX_DEPTH]
    assert [int(number) for number in re.findall(r"\d+", row("the value")[1])] == shown
    waiting = f"{runner.QUEUE}, and {runner.QUEUE_BYTES // MIB} MiB of code and variables together"
    assert row("calls that wait for a session")[1] == waiting
    assert row("calls under way in a session")[1] == str(link_files.MAX_STREAMS)
    assert row("results kept of a session")[1] == f"{store.KEPT} and {store.KEPT_BYTES // MIB} MiB"
    assert (
        row("results of asynchronous calls that nobody has read")[1] == f"{store.KEPT} or {store.KEPT_BYTES // MIB} MiB"
    )
    assert f"before {store.UNREAD_BYTES // MIB} MiB" in PAGE
    bounds = f"from {budget.LEAST_BYTES // MIB} MiB to {budget.MOST_BYTES // MIB // 1024} GiB"
    assert row("results kept of all sessions of a host")[1].endswith(bounds) and budget.SHARE == 16
    displays = f"{streams.MAX_DISPLAYS}, and {runner.DISPLAY_CAP // MIB} MiB together"
    assert row("displays of an execution")[1] == displays and streams.MAX_DISPLAYS == run.MAX_DISPLAYS
    assert row("variables given to a call")[1] == f"{runner.CODE_BYTES // MIB} MiB of JSON"
    told = [values.MAX_JSON // MIB, commander.MAX_VARIABLES // MIB, runner.VALUE_CAP // MIB]
    assert [int(n) for n in re.findall(r"(\d+) MiB", row("variables that come back from a call")[1])] == told
    assert row("readers that follow an execution")[1] == str(executions.WATCHERS)
    archive_bounds = f"{archive.MAX_BYTES // 1024**3} GiB, {archive.MAX_ENTRIES:,} entries, {archive.MAX_DEPTH} levels"
    assert row("an archive of a directory")[1] == f"{archive_bounds}; {fileops.ARCHIVES} at once in a session"
    assert row("a directory that is watched")[1] == f"{watch.MAX_ENTRIES:,} entries; {fileops.WATCHES} in a session"
    environment = f"{environments.MAX_ENTRIES} entries, {environments.MAX_BYTES // 1024} KiB together"
    assert row("the environment of a session")[1] == environment
    lengths = f"{names.MAX_PATH_BYTES:,} bytes, {names.MAX_SEGMENT_BYTES} a name, {names.MAX_DEPTH} levels"
    assert row("a path")[1] == lengths


def test_the_host_has_its_row() -> None:
    (setting,) = [each for each in SETTINGS if each.name == "maximum-sandboxes"]

    assert row("`maximum-sandboxes`")[1] == f"`{setting.default}`"
    assert f"by {capacity.BYTES_EACH // MIB} MiB" in PAGE
    assert f"every {capacity.DESCRIPTORS_EACH} descriptors" in PAGE


def test_what_is_asked_for_is_what_a_host_holds() -> None:
    """Without a number it is by memory and descriptors: more than the pools of an example need, less than anything could be."""
    assert capacity.sandboxes(7) == 7
    assert 4 <= capacity.sandboxes(0) <= capacity.memory_bytes() // capacity.BYTES_EACH + 4
