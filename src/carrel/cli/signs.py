"""Whether files have changed, by what `stat` says of them: cheap enough to ask several times a second, on any file system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path


class Signs:
    """Of files, and of folders with all that is directly in them. Links are followed: they are how many programs renew a certificate."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._seen: list[tuple[str, int, int, int]] | None = None

    def have_changed(self) -> bool:
        """Since the last call; true for the first."""
        before, self._seen = self._seen, sorted(each for place in self._places for each in _signs(place))
        return self._seen != before


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
