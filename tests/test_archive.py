"""Archives as the agent makes them, and what it sees of a folder that it watches: without a sandbox, step by step."""

from __future__ import annotations

import io
import json
import os
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carrel.guest import archive, watch
from carrel.guest.archive import Archive
from carrel.guest.files import Tree
from carrel.guest.paths import FileError
from carrel.guest.watch import Watch


def opened(folder: Path) -> Archive:
    return Archive(os.open(folder, os.O_RDONLY))


def whole(source: Archive, most: int = 65536) -> bytes:
    pieces = []
    while (piece := source.read(most)) is not None:
        assert len(piece) <= most
        pieces.append(piece)
    source.close()
    return b"".join(pieces)


def unpacked(data: bytes) -> dict[str, bytes | None]:
    """Names with contents; None for a directory. Everything is nobody's and gives no rights."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:", errors="surrogateescape") as packed:
        found = {}
        for entry in packed:
            assert (entry.uid, entry.gid, entry.mode & ~0o777) == (0, 0, 0)
            content = packed.extractfile(entry)
            found[entry.name] = None if content is None else content.read()
        return found


@pytest.fixture
def descriptors() -> Iterator[None]:
    """No descriptor is left open."""
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert len(set(Path("/proc/self/fd").iterdir())) == len(before)


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("most", [1000, 65536, 262144])
def test_an_archive_has_every_file_and_nothing_else(tmp_path: Path, most: int) -> None:
    """Any name, any size; links and pipes are left out."""
    names = ["plain", "with space", "grüße 日本", "x" * 255, "new\nline", "a" * 99, "b" * 100, "c" * 101, "-rf", "=1"]
    wanted: dict[str, bytes | None] = {}
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(wanted.setdefault(name, bytes([number]) * number * 51_111) or b"")
    (tmp_path / ("d" * 200) / ("e" * 200)).mkdir(parents=True)
    wanted |= {"d" * 200: None, f"{'d' * 200}/{'e' * 200}": None, f"{'d' * 200}/f": b"deep"}
    (tmp_path / ("d" * 200) / "f").write_bytes(b"deep")
    with open(os.fsencode(tmp_path) + b"/not\xffutf8", "wb") as file:  # noqa: PTH123
        file.write(b"bytes")
    wanted["not\udcffutf8"] = b"bytes"
    (tmp_path / "program").write_bytes(b"#!")
    (tmp_path / "program").chmod(0o6755)
    wanted["program"] = b"#!"
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")

    assert unpacked(whole(opened(tmp_path), most)) == wanted


@pytest.mark.usefixtures("descriptors")
def test_an_empty_archive_is_one(tmp_path: Path) -> None:
    assert unpacked(whole(opened(tmp_path))) == {}


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize("pieces", [0, 1, 3])
def test_an_archive_that_is_given_up_leaves_nothing_open(tmp_path: Path, pieces: int) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/c/big").write_bytes(bytes(500_000))
    source = opened(tmp_path)

    for _ in range(pieces):
        assert source.read(700)
    source.close()


@pytest.mark.usefixtures("descriptors")
def test_a_large_file_that_shrinks_breaks_the_archive_and_one_that_grows_does_not(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.write_bytes(b"a" * 500_000)
    source = opened(tmp_path)
    data = source.read(4096) or b""
    with big.open("ab") as file:
        file.write(b"more")
    while (piece := source.read(4096)) is not None:
        data += piece
    source.close()
    assert unpacked(data) == {"big": b"a" * 500_000}

    source = opened(tmp_path)
    source.read(4096)
    os.truncate(big, 10)
    with pytest.raises(FileError, match="cut while it was being read") as broken:
        whole(source)
    source.close()
    assert broken.value.code == "FileConflict"


@pytest.mark.usefixtures("descriptors")
@pytest.mark.parametrize(("bound", "value"), [("MAX_ENTRIES", 3), ("MAX_BYTES", 20), ("MAX_DEPTH", 1)])
def test_an_archive_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int) -> None:
    for path in ("a", "b", "c/d/e"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"ten bytes!")
    monkeypatch.setattr(archive, bound, value)
    source = opened(tmp_path)

    with pytest.raises(FileError) as refused:
        whole(source)
    source.close()
    assert refused.value.code == "ContentTooLarge"


def test_a_sparse_file_is_refused_at_its_head(tmp_path: Path) -> None:
    """What it claims counts, not what it holds: nothing of it is read."""
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(archive.MAX_BYTES + 1)
    began = time.monotonic()

    with pytest.raises(FileError, match="bytes at most"):
        whole(opened(tmp_path))
    assert time.monotonic() - began < 1


# ---- watching ------------------------------------------------------------------------------------------------------------------


def seen(source: Watch) -> list[tuple[str, str, bool]]:
    """What the next look tells."""
    found: list[dict[str, Any]] = []
    source.wake_at = 0.0
    while source.wake_at == 0.0:
        found += json.loads(source.read(1 << 20) or b"[]")
    return sorted(
        (each["kind"], f"{each['file']['directory']}/{each['file']['name']}", each["file"]["is_directory"])
        for each in found
        if each["kind"] != "watching"
    )


def test_a_watch_tells_what_came_changed_and_went(tmp_path: Path) -> None:
    """Files and directories, and something that took another's name."""
    (tmp_path / "old").mkdir()
    (tmp_path / "gone").write_bytes(b"x")
    (tmp_path / "same").write_bytes(b"x")
    (tmp_path / "old/in").write_bytes(b"x")
    source = Watch(Tree(str(tmp_path)), "", True)
    assert json.loads(source.read(0) or b"") == [{"kind": "watching"}]

    (tmp_path / "new").write_bytes(b"1")
    (tmp_path / "old/in").write_bytes(b"12")
    (tmp_path / "gone").unlink()
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert seen(source) == [("changed", "old/in", False), ("created", "/new", False), ("removed", "/gone", False)]
    assert seen(source) == []
    (tmp_path / "old/in").unlink()
    (tmp_path / "old").rmdir()
    (tmp_path / "old").write_bytes(b"now a file")
    assert seen(source) == [("created", "/old", False), ("removed", "/old", True), ("removed", "old/in", False)]


def test_a_watch_that_nobody_reads_holds_one_page(tmp_path: Path) -> None:
    """What happens meanwhile is told later, once, as it is then."""
    source = Watch(Tree(str(tmp_path)), "", False)
    source.read(0)
    for number in range(2000):
        (tmp_path / f"{number:04}").write_bytes(b"x")
    source.wake_at = 0.0
    page = source.read(0) or b""
    while len(page) <= 2:
        page = source.read(0) or b""
    assert len(page) < watch._PAGE + 1000
    for number in range(2000):
        (tmp_path / f"{number:04}").unlink()
    told = [each["kind"] for each in json.loads(page)]
    told += [kind for _ in range(2) for kind, *_ in seen(source)]

    assert told.count("created") == told.count("removed")


def test_a_folder_of_too_many_is_not_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MAX_ENTRIES", 3)
    for name in "abcd":
        (tmp_path / name).touch()

    with pytest.raises(FileError) as refused:
        seen(Watch(Tree(str(tmp_path)), "", False))
    assert refused.value.code == "ContentTooLarge"


def test_a_large_tree_is_looked_at_less_often(tmp_path: Path) -> None:
    """A look of many milliseconds is made in turns, and the next is the further away."""
    for number in range(4000):
        (tmp_path / str(number)).touch()
    source = Watch(Tree(str(tmp_path)), "", False)
    began = time.monotonic()
    turns = 0
    while source.wake_at == 0.0:
        turn = time.monotonic()
        source.read(0)
        turns += 1
        assert time.monotonic() - turn < 0.3
    took = time.monotonic() - began

    assert turns > 1
    assert source.wake_at - time.monotonic() >= min(0.2, 10 * took)
