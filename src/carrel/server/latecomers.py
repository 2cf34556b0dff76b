"""Modules that are imported after the right to read them has gone.

A gateway that was root becomes a user of its own before the first byte from anybody, and that user may not pass a closed folder on the
way to the interpreter's and our own files (a checkout or a pyenv below /root). What everybody needs is imported before. What hardly
anybody needs and costs much memory is imported late, through descriptors of the folders on the module path: from there on only the
files' own modes count. They are O_PATH, and lead to nothing that is not readable for everybody but for that closed folder.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path


class Latecomers:
    """Made while the folders can be reached; `admit` before the first late import."""

    def __init__(self, uid: int | None) -> None:
        """`uid` is whom the process will be, None where it stays who it is."""
        self._is_changing = uid is not None and uid != os.geteuid()
        folders = [] if not self._is_changing else [path for path in sys.path if path and not _is_open(Path(path))]
        self._moved = {path: _descriptor(path) for path in folders if Path(path).is_dir()}

    def reaches(self, package: str) -> bool:
        """Whether the files themselves can be read then. An installation with a strict umask is its owner's alone."""
        found = find_spec(package) if self._is_changing else None
        if found is None or found.origin is None:
            return True
        file = Path(found.origin)
        folders = (file.parent, file.parent.parent)
        return bool(file.stat().st_mode & 0o004) and all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)

    def admit(self) -> None:
        """From now on modules are looked for by the descriptors, also those inside packages that are imported already. Can be repeated."""
        sys.path[:] = [self._where(path) for path in sys.path]
        for module in list(sys.modules.values()):
            places = getattr(module, "__path__", None)
            if isinstance(places, list):
                places[:] = [self._where(place) for place in places]

    def _where(self, path: str) -> str:
        for folder in sorted(
            self._moved, key=len, reverse=True
        ):  # a module path may hold another: lib and lib/site-packages
            if path == folder or path.startswith(f"{folder}/"):
                return self._moved[folder] + path[len(folder) :]
        return path


def _descriptor(folder: str) -> str:
    return f"/proc/self/fd/{os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}"


def _is_open(path: Path) -> bool:
    """Whether everybody may pass the folders on the way there."""
    try:
        return all(folder.stat().st_mode & 0o001 for folder in path.resolve().parents)
    except OSError:
        return False
