"""`carrel doctor` is right about the machine it runs on: as root, as an ordinary user, and where something is missing or broken.

Each situation is made for real: by another user, a mount namespace of its own, another runsc on PATH, or a jail like a container's.
"""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import jail
from carrel.backends import examination
from carrel.cli.banner import DOES_NOT_STOP, STOPS
from carrel.models import Level
from jail import Jail
from processes import PROC

pytestmark = pytest.mark.slow

DOCTOR = (sys.executable, "-P", "-m", "carrel.cli", "doctor", "--json")
IN_JAIL = pytest.mark.skipif(jail.why_not() is not None, reason=str(jail.why_not()))

# A machine whose control groups are not ours to use: read-only, as in a container without delegation.
_WITHOUT_GROUPS = """
import os, sys
from carrel.guest import linux
linux.unshare(linux.CLONE_NEWNS)
linux.mount("none", "/", None, linux.MS_REC | linux.MS_PRIVATE)
linux.restrict_mount("/sys", linux.MOUNT_ATTR_RDONLY)
os.execv(sys.argv[1], sys.argv[1:])
"""


def diagnosis(
    *options: str,
    command: Sequence[str] = DOCTOR,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    status: int | None = None,
) -> dict[str, Any]:
    """What the doctor says, in the environment of ours but for `environment`; its exit status is that of the report."""
    given = {**os.environ, **(environment or {})}
    account: dict[str, Any] = {}
    if user:
        entry = pwd.getpwnam(user)
        account = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        given["HOME"] = entry.pw_dir
    done = subprocess.run(
        [*command, *options], env=given, capture_output=True, text=True, timeout=150, check=False, **account
    )
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == (0 if report["holds"] else 1)
    assert status is None or done.returncode == status, done.stdout
    return report


def finding(report: Mapping[str, Any], level: Level) -> dict[str, Any]:
    return next(dict(each) for each in report["levels"] if each["level"] == level)


@pytest.fixture(scope="module")
def here() -> dict[str, Any]:
    """What it says of this machine as it is, for tests that only read."""
    return diagnosis()


@pytest.fixture(scope="module")
def ordinary() -> str:
    if os.geteuid() != 0:
        pytest.skip("the run is an ordinary user's already")
    return jail.ordinary_user()


# ---- what it says ----------------------------------------------------------------------------------------------------------------


def test_its_report_has_the_documented_shape(here: dict[str, Any]) -> None:
    """Every level, strongest first, with what it stops; every key that docs/reference/cli.md names."""
    report = here

    assert set(report) >= {"version", "kernel", "uid", "holds", "pools", "levels"}
    assert [each["level"] for each in report["levels"]] == ["gvisor", "namespace", "restricted", "process"]
    for each in report["levels"]:
        assert (each["stops"], each["does_not_stop"]) == (STOPS[each["level"]], DOES_NOT_STOP[each["level"]])
        assert set(each) >= {"works", "reason", "advice", "weaknesses", "seconds", "networks"}
        assert each["works"] or each["reason"], "what does not work has a reason"
        assert 0 <= each["seconds"] < examination.DEADLINE_S
    assert report["uid"] == os.geteuid()


@pytest.mark.parametrize("kind", ["listed", "open"])
def test_it_tries_the_network_too(kind: str, here: dict[str, Any]) -> None:
    """An allow list works wherever `namespace` does; raw egress where this machine has a way out to give; all else says why not."""
    levels = here["levels"]

    found = {
        each["level"]: (network["works"], network["reason"])
        for each in levels
        for network in each["networks"]
        if network["network"] == kind
    }
    assert set(found) == {each["level"] for each in levels if each["works"]} - {"process"}
    assert all(works or reason for works, reason in found.values())
    assert kind == "open" or found.get("namespace", (True, "")) == (True, "")


@pytest.mark.thorough
def test_json_is_the_same_in_both_spellings(here: dict[str, Any]) -> None:
    def shape(report: dict[str, Any]) -> list[tuple[str, bool]]:
        return [(each["level"], each["works"]) for each in report["levels"]]

    assert shape(here) == shape(diagnosis(command=[*DOCTOR[:-1], "-o", "json"]))


@pytest.mark.thorough
def test_its_text_says_what_is_stopped_and_what_is_not() -> None:
    done = subprocess.run(DOCTOR[:-1], capture_output=True, text=True, check=False)

    assert f"it stops      {STOPS[Level.PROCESS]}" in done.stdout
    assert "pool python would " in done.stdout


@pytest.mark.parametrize(
    ("options", "level"),
    [
        pytest.param(("--isolation", "process"), "process", marks=pytest.mark.thorough),
        (("--isolation", "process", "--minimum", "restricted"), None),
    ],
)  # fmt: skip
def test_its_exit_status_says_whether_the_minimum_holds(options: tuple[str, ...], level: str | None) -> None:
    report = diagnosis(*options, status=0 if level else 1)

    assert {pool["isolation"] for pool in report["pools"]} == {level}
    assert level or "below its minimum" in report["pools"][0]["reason"]


# ---- where ---------------------------------------------------------------------------------------------------------------------


def test_as_root_nothing_is_weaker_than_it_has_to_be(here: dict[str, Any]) -> None:
    """The level that the rest of the tests run at works; with control groups in reach it has no weakness."""
    if os.geteuid() != 0 or not _can_make_groups():
        pytest.skip("not root, or without control groups")
    found = finding(here, Level.NAMESPACE)

    assert (found["works"], found["weaknesses"]) == (True, [])


def test_as_an_ordinary_user(ordinary: str) -> None:
    """`namespace` works, with what is weaker named; `gvisor` needs root, and it says so."""
    report = diagnosis(user=ordinary)

    assert report["uid"] == pwd.getpwnam(ordinary).pw_uid
    found = finding(report, Level.NAMESPACE)
    assert found["works"], found["reason"]
    assert any("no control groups" in weakness for weakness in found["weaknesses"])
    gvisor = finding(report, Level.GVISOR)
    assert gvisor["works"] or "root" in gvisor["reason"] + gvisor["advice"]


@pytest.mark.thorough
def test_without_delegated_control_groups() -> None:
    """It works, and the weaker limits are named."""
    if os.geteuid() != 0:
        pytest.skip("only root can take them away")
    found = finding(diagnosis(command=[sys.executable, "-c", _WITHOUT_GROUPS, *DOCTOR]), Level.NAMESPACE)

    assert found["works"], found["reason"]
    assert any("no control groups" in weakness for weakness in found["weaknesses"])


@pytest.mark.thorough
@IN_JAIL
@pytest.mark.parametrize("is_root", [True, False], ids=["root", "ordinary"])
def test_in_a_default_container(is_root: bool, request: pytest.FixtureRequest) -> None:
    """New namespaces are refused there: it says so, what to start the container with, and which weaker level is left."""
    user = None if is_root else request.getfixturevalue("ordinary")
    report = diagnosis(command=Jail(user=user).command(*DOCTOR))

    namespace, restricted = finding(report, Level.NAMESPACE), finding(report, Level.RESTRICTED)
    assert not namespace["works"]
    assert "new namespaces are refused" in namespace["reason"]
    assert "--security-opt" in namespace["advice"]
    assert any("not full isolation" in weakness for weakness in restricted["weaknesses"])
    assert not finding(report, Level.GVISOR)["works"]
    assert restricted["works"], restricted["reason"]
    assert {pool["isolation"] for pool in report["pools"]} == {"restricted"}


@pytest.mark.thorough
@IN_JAIL
def test_a_minimum_that_a_container_cannot_hold() -> None:
    report = diagnosis("--minimum", "namespace", command=Jail().command(*DOCTOR), status=1)

    refused = {"minimum": "namespace", "isolation": None, "reason": "namespace: does not work here"}
    assert report["pools"] == [{"name": name, **refused} for name in ("python", "node", "shell")]


# ---- runsc ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def path_without_runsc(tmp_path: Path) -> Iterator[Path]:
    """A folder for PATH alone, with every program of ours but runsc."""
    for folder in reversed(os.environ["PATH"].split(os.pathsep)):
        for program in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if program.name != "runsc":
                (tmp_path / program.name).unlink(missing_ok=True)
                (tmp_path / program.name).symlink_to(program)
    tmp_path.chmod(0o755)
    yield tmp_path


def with_runsc(folder: Path, script: str) -> dict[str, Any]:
    """What is said of `gvisor` where `runsc` is this shell script."""
    (folder / "runsc").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "runsc").chmod(0o755)
    return finding(diagnosis(environment={"PATH": str(folder)}), Level.GVISOR)


@pytest.mark.thorough
def test_without_runsc(path_without_runsc: Path) -> None:
    """It says what to install; the other levels are as they were."""
    report = diagnosis(environment={"PATH": str(path_without_runsc)})

    found = finding(report, Level.GVISOR)
    assert not found["works"]
    assert "runsc" in found["reason"] + found["advice"]
    if os.geteuid() == 0:
        assert "install" in found["advice"]
    assert finding(report, Level.PROCESS)["works"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    "script",
    ["echo 'no such platform' >&2; exit 1", "exit 0", "kill -SEGV $$"],
    ids=["fails", "does-nothing", "crashes"],
)
def test_with_a_broken_runsc(path_without_runsc: Path, script: str) -> None:
    found = with_runsc(path_without_runsc, script)

    assert not found["works"]
    assert "runsc" in found["reason"] + found["advice"]


@pytest.mark.thorough
def test_with_a_runsc_that_hangs(path_without_runsc: Path) -> None:
    """The doctor's patience is bounded, and nothing of it hangs on afterwards."""
    mark = f"123{os.getpid()}"
    started = time.monotonic()
    found = with_runsc(path_without_runsc, f"exec sleep {mark}")

    assert not found["works"]
    assert "runsc" in found["reason"] + found["advice"]
    assert time.monotonic() - started < examination.DEADLINE_S + 30
    assert not [path for path in PROC.glob("[0-9]*/cmdline") if f"sleep\0{mark}" in _read(path)]


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _can_make_groups() -> bool:
    from carrel.backends.cgroups import open_tree

    tree = open_tree()
    if tree is not None:
        tree.close()
    return tree is not None
