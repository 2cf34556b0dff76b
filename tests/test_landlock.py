"""Landlock as this kernel does it, and as older ones would: a process of its own is restricted, and what that can still do is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from carrel.guest import landlock
from fortress import REFUSED

ABIS = range(1, 8)
# Gets rules and options as JSON, restricts itself, runs the code and prints what `found` is then.
_CHILD = f"""{REFUSED}
import errno, json, os, signal, socket, subprocess, sys
from carrel.guest import landlock, linux
rules, options, code = json.load(sys.stdin)
linux.no_new_privileges()
used = landlock.restrict(rules, **options)
found = {{}}
exec(code)
print(json.dumps([used, found]))
"""
_SYSTEM = [["/usr", "execute"], ["/lib", "execute"], ["/lib64", "execute"], ["/dev/null", "device"]]

needs_landlock = pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")


def confined(code: str, rules: list[list[str]], **options: Any) -> tuple[int, Any]:
    """The ABI that was used, and `found` as the restricted `code` left it."""
    given = json.dumps([[*_SYSTEM, *rules], options, code])
    done = subprocess.run([sys.executable, "-c", _CHILD], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    used, found = json.loads(done.stdout)
    return used, found


def needs(abi: int) -> pytest.MarkDecorator:
    return pytest.mark.skipif(landlock.version() < abi, reason=f"this kernel's Landlock is older than ABI {abi}")


@needs_landlock
@pytest.mark.parametrize("abi", ABIS)
def test_only_what_the_rules_name_can_be_opened(tmp_path: Path, abi: int) -> None:
    """With every ABI: the own folder is open, another one is not, reading is not writing, and device files are nobody's to make."""
    own, other, shared = (tmp_path / name for name in ("own", "other", "shared"))
    for folder in (own, other, shared):
        folder.mkdir()
        (folder / "file").write_text("x")
    code = f"""
found = [
    refused(open, {str(own / "new")!r}, "w"), refused(os.listdir, {str(own)!r}), refused(os.mkdir, {str(own / "folder")!r}),
    refused(open, {str(shared / "file")!r}), refused(open, {str(shared / "file")!r}, "r+"), refused(open, {str(shared / "new")!r}, "w"),
    refused(os.unlink, {str(shared / "file")!r}), refused(os.mknod, {str(own / "pipe")!r}, 0o010600),
    refused(open, {str(other / "file")!r}), refused(os.listdir, {str(other)!r}), refused(os.mkdir, {str(other / "folder")!r}),
    refused(os.mknod, {str(own / "device")!r}, 0o020666, os.makedev(1, 3)),
    subprocess.run(["cat", {str(other / "file")!r}], capture_output=True).returncode,
]
"""
    used, found = confined(code, [[str(own), "write"], [str(shared), "read"]], abi=abi)

    assert used == min(abi, landlock.version())
    assert found[:8] == ["", "", "", "", "EACCES", "EACCES", "EACCES", ""]
    assert set(found[8:11]) == {"EACCES"}
    assert found[11] in ("EACCES", "EPERM")  # EPERM for who may make none anyway
    assert found[12] == 1


@needs(2)
def test_files_move_between_folders_of_their_owner(tmp_path: Path) -> None:
    """From ABI 2 a rename may cross folders; before, Landlock refuses it whatever the rules."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "file").touch()
    code = f"found = refused(os.rename, {str(tmp_path / 'a' / 'file')!r}, {str(tmp_path / 'b' / 'file')!r})"

    assert confined(code, [[str(tmp_path), "write"]], abi=1) == (1, "EXDEV")
    assert confined(code, [[str(tmp_path), "write"]]) == (landlock.version(), "")


@needs(3)
def test_a_file_that_may_only_be_read_is_not_cut(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    code = f"found = refused(os.truncate, {str(file)!r}, 0)"

    assert confined(code, [[str(file), "read"]]) == (landlock.version(), "EACCES")
    assert file.read_text() == "x"


def test_null_takes_output(tmp_path: Path) -> None:
    """What a rule says of a device serves what programs do with it: open, truncate, write."""
    assert confined("found = refused(open, '/dev/null', 'w')", [])[1] == ""


@needs(4)
def test_tcp_is_refused_where_asked_for() -> None:
    """No port is bound and none connected to."""
    code = """
import contextlib
with socket.socket() as there, socket.socket() as here:
    found = [refused(there.bind, ("127.0.0.1", 0)), refused(here.connect, ("127.0.0.1", 9))]
"""
    assert confined(code, [], tcp=True)[1] == ["EACCES", "EACCES"]
    assert confined(code, [], tcp=True, abi=3)[1] == ["", "ECONNREFUSED"]
    assert confined(code, [])[1] == ["", "ECONNREFUSED"]


@needs(6)
def test_signals_and_abstract_sockets_reach_nobody_outside() -> None:
    """The parent is out of reach, an own child is not; with an older ABI, or unasked, both are reached."""
    code = """
child = subprocess.Popen(["sleep", "60"])
found = [refused(os.kill, os.getppid(), 0), refused(child.kill)]
child.wait()
"""
    assert confined(code, [], scopes=True)[1] == ["EPERM", ""]
    assert confined(code, [], scopes=True, abi=5)[1] == ["", ""]
    assert confined(code, [])[1] == ["", ""]


@needs(6)
def test_who_made_the_restriction_reaches_all_that_a_further_one_holds() -> None:
    """A process in the outer domain signals those in an inner one and is out of their reach: kill(-1) ends exactly a session."""
    code = """
inner = subprocess.Popen([sys.executable, "-c", '''
import os, sys, time
from carrel.guest import landlock
landlock.restrict([["/", "execute"]], scopes=True)
try:
    os.kill(os.getppid(), 0)
except PermissionError:
    print("refused", flush=True)
time.sleep(60)
'''], stdout=subprocess.PIPE, text=True)
found = [inner.stdout.readline().strip()]
os.kill(-1, signal.SIGKILL)
found += [inner.wait()]
"""
    code_root = str(Path(landlock.__file__).parents[2])
    rules = [[path, "execute"] for path in (code_root, sys.prefix, sys.base_prefix)]

    assert confined(code, rules, scopes=True)[1] == ["refused", -9]


@needs_landlock
def test_a_path_that_is_not_there_allows_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    code = f"found = refused(open, {str(tmp_path / 'file')!r}, 'w')"

    assert confined(code, [["/nowhere/at/all", "write"]])[1] == "EACCES"


def test_without_landlock_nothing_is_promised() -> None:
    """0 is the answer, and nothing is refused: the caller has to mind it."""
    assert confined("found = refused(os.listdir, '/etc')", [], abi=0) == (0, "")
