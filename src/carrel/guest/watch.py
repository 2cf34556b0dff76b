"""A directory watched for changes, by looking at it again and again: inotify would tell more, but is not there at every level.

Each look is compared with the one before, entry by entry, a few milliseconds at a time; while nobody takes what was found, the look
stands still, and what happens meanwhile is found by the next one. So a reader that stalls costs a page of memory, whatever the code does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator

from carrel.guest.files import Tree
from carrel.guest.paths import FileError, Info

PERIOD_S = 0.25
MAX_ENTRIES = 10_000
_SHARE = 20  # times as long as a look took the next one is away: a large tree must not eat the session's processor
_PAGE = 64 * 1024
_TURN_S = 0.003
_LOST = "\N{REPLACEMENT CHARACTER}"

Steps = Generator[str | float, None, None]


class Watch:
    """A source (fileops.py). What it reads are pages: JSON lists of {"kind": created, changed or removed, "file": …}.

    The first one ends with {"kind": "watching"}: from then on every change is told.
    """

    name = "changes"
    least_credit = 2 * _PAGE  # a page, and one entry more

    def __init__(self, tree: Tree, path: str, recursive: bool) -> None:
        self._tree, self._path, self._recursive = tree, path, recursive
        self._seen: dict[str, tuple[str, int]] = {}  # what to compare with, and the look that saw it
        self._look = 0
        self.wake_at = 0.0
        self._steps = self._run()

    def read(self, _most: int) -> bytes | None:
        """A page, b"" where nothing is to be told at the moment. Raises FileError."""
        until, size = time.monotonic() + _TURN_S, 0
        page: list[str] = []
        while size < _PAGE and time.monotonic() < until:
            step = next(self._steps)
            if isinstance(step, float):
                self.wake_at = step
                break
            if step:
                page.append(step)
                size += len(step)
        return f"[{','.join(page)}]".encode() if page else b""

    def close(self) -> None:
        self._steps.close()
        self._seen.clear()

    def _run(self) -> Steps:
        """Changes as JSON, "" for none at a step, a number for when the next look is due."""
        while True:
            began = time.monotonic()
            yield from self._compare()
            if self._look == 1:
                yield '{"kind":"watching"}'
            now = time.monotonic()
            yield now + max(PERIOD_S, _SHARE * (now - began))

    def _compare(self) -> Steps:
        self._look += 1
        for count, info in enumerate(self._tree.list(self._path, self._recursive)):
            if count == MAX_ENTRIES:
                raise FileError("ContentTooLarge", f"A directory that is watched has {MAX_ENTRIES} entries at most.")
            key, tag = _key(info), _tag(info)
            before = self._seen.get(key)
            self._seen[key] = (tag, self._look)
            if self._look == 1 or (before is not None and before[0] == tag):
                yield ""
            elif before is not None and (before[0][0] == "d") != info["is_directory"]:
                yield _change("removed", _gone(key, before[0]))
                yield _change("created", info)
            else:
                yield _change("created" if before is None else "changed", info)
        for key in [key for key, seen in self._seen.items() if seen[1] != self._look]:
            yield _change("removed", _gone(key, self._seen.pop(key)[0]))


def _key(info: Info) -> str:
    """Its path; of a name that is not UTF-8, which two may share as it is shown, its number as well."""
    path = f"{info['directory']}/{info['name']}"
    return f"{path}\0{info['etag'].split('-')[0]}" if _LOST in path else path


def _tag(info: Info) -> str:
    """What must be the same for nothing to have changed. Of a directory only which one it is: what changes in it is told by itself."""
    etag = str(info["etag"])
    return f"d{etag.split('-')[0]}" if info["is_directory"] else f"f{etag}"


def _gone(key: str, tag: str) -> Info:
    folder, _, name = key.partition("\0")[0].rpartition("/")
    is_directory = tag[0] == "d"
    return {"name": name, "directory": folder, "is_directory": is_directory, "size": 0, "modified_at": 0, "etag": "0"}


def _change(kind: str, info: Info) -> str:
    return json.dumps({"kind": kind, "file": info}, separators=(",", ":"))
