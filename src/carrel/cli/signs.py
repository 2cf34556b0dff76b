"""Whether files have changed, by what `stat` says of them: cheap enough to ask several times a second, on any file system.

The times of files are as coarse as the kernel's ticks, so what was written a moment ago may be written again without a sign: for a
second after the last change it counts as changed each time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path

_SETTLED_NS = 1_000_000_000


class Signs:
    """Of files, and of folders with all that is directly in them. Links are followed: they are how many programs renew a certificate."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._seen: list[tuple[str, int, int, int]] | None = None
        self._is_settled = False

    def have_changed(self) -> bool:
        """Since the last call, or perhaps; true for the first."""
        before, was_settled = self._seen, self._is_settled
        self._seen = sorted(each for place in self._places for each in _signs(place))
        age_ns = time.time_ns() - max((modified for _, modified, _, _ in self._seen), default=0)
        self._is_settled = not 0 <= age_ns < _SETTLED_NS
        return self._seen != before or not was_settled

    def forget(self) -> None:
        """What has changed could not be read: it counts as changed at the next look too."""
        self._seen = None


def _signs(place: Path) -> Iterator[tuple[str, int, int, int]]:
    try:
        status = place.stat()
        yield str(place), status.st_mtime_ns, status.st_size, status.st_ino
        if place.is_dir():
            for each in place.iterdir():
                if not each.name.startswith("."):
                    status = each.stat()
                    yield str(each), status.st_mtime_ns, status.st_size, status.st_ino
    except OSError:
        yield str(place), 0, 0, 0
