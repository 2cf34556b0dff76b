"""How a restored state takes the place of what is there, so that it is never half the one and half the other.

    STATE/restoring       being unpacked and checked; worth nothing until it is
    STATE/restore.ready   complete, on the disk: from here on the restore goes to its end, by whoever holds the folder next
        new/…             what has not taken its place yet
        old/…             what has given it up
    STATE/before-restore-TIME   what was there before, kept

Renaming the first to the second is the one step that decides.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

PARTS = ("keys", "tls", "store", "ca.pem", "ca-bundle.pem")
_AUDIT = "audit"


def is_taken(state: Path) -> bool:
    """Whether a folder holds a server's state."""
    return any((state / name).exists() for name in PARTS)


def begin(state: Path) -> Path:
    """An empty folder to unpack into."""
    staged = state / "restoring"
    shutil.rmtree(staged, ignore_errors=True)
    for folder in (staged, staged / "new", staged / "old"):
        folder.mkdir(mode=0o700)
    return staged


def forget(state: Path) -> None:
    shutil.rmtree(state / "restoring", ignore_errors=True)


def commit(state: Path) -> Path | None:
    """What `begin` made is complete: put it in its place. The folder with what was there, None where there was nothing."""
    staged = state / "restoring"
    for path in (staged, *staged.rglob("*")):
        _sync(path)
    staged.rename(state / "restore.ready")
    _sync(state)
    return finish(state)


def finish(state: Path) -> Path | None:
    """Go on with a restore that was decided; nothing where there is none. Called with the folder held, before anything in it is read."""
    ready = state / "restore.ready"
    if not ready.is_dir():
        return None
    if (ready / "new" / "keys").exists() and (state / _AUDIT).exists():
        (state / _AUDIT).rename(_free(ready / "old", _AUDIT))  # to the key that it can be checked with
    for name in PARTS:
        if (ready / "new" / name).exists():
            if (state / name).exists():
                (state / name).rename(_free(ready / "old", name))
            (ready / "new" / name).rename(state / name)
    _sync(state)
    if not any((ready / "old").iterdir()):
        shutil.rmtree(ready)
        return None
    kept = _free(state, f"before-restore-{time.strftime('%Y%m%d-%H%M%S')}")
    ready.rename(kept)
    return kept / "old"


def _free(folder: Path, name: str) -> Path:
    """A name there that nothing has yet."""
    path, number = folder / name, 1
    while path.exists():
        path, number = folder / f"{name}.{number}", number + 1
    return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
