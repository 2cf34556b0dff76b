"""A backup is one compressed tar file: the state folder's keys and certificates, the store as lines of JSON, and at its end a manifest.

The manifest has the digest of everything before it, so a file that was cut off or changed is no backup. Only names that we write are
unpacked, as plain files.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from carrel import __version__

MANIFEST, STORE = "carrel-backup.json", "store.jsonl"
FORMAT = 1

_NAME = re.compile(r"store\.jsonl|ca(-bundle)?\.pem|(keys|tls)(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,254}){1,4}")
_PUBLIC = ("ca.pem", "ca-bundle.pem")
_MOST_FILES, _MOST_BYTES = 10_000, 4 * 1024**3
_CHUNK = 1024 * 1024


class ArchiveError(Exception):
    """The file is no backup, or cannot be written. The message is for the operator."""


@dataclass(frozen=True, slots=True)
class Manifest:
    schema: str
    carrel: str
    made_at: str


def write(file: Path, state: Path, schema: str, lines: Iterable[str]) -> None:
    """Put a backup there, whole or not at all, for its owner alone. Raises ArchiveError."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{file.name}-", dir=file.parent)  # mode 0600
    except OSError as error:
        raise ArchiveError(f"{file} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w:gz") as tar:
                _fill(tar, state, schema, lines)
            stream.flush()
            os.fsync(descriptor)
        Path(name).replace(file)
    except OSError as error:
        raise ArchiveError(f"{file} cannot be written: {error.strerror}") from error
    finally:
        Path(name).unlink(missing_ok=True)


def unpack(file: Path, folder: Path) -> Manifest:
    """Unpack a backup into a folder that is ours alone, and check it. Raises ArchiveError."""
    try:
        with file.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:gz") as tar:
            manifest, digests = _unpack(file, tar, folder)
    except OSError as error:
        if isinstance(error, gzip.BadGzipFile):
            raise _damaged(file, str(error)) from error
        raise ArchiveError(f"{file} cannot be restored: {error.strerror or error}") from error
    except (tarfile.TarError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        raise _damaged(file, str(error)) from error
    if manifest.get("files") != digests or STORE not in digests:
        raise _damaged(file, "its contents are not those of its manifest")
    return Manifest(str(manifest["schema"]), str(manifest["carrel"]), str(manifest["made_at"]))


def _fill(tar: tarfile.TarFile, state: Path, schema: str, lines: Iterable[str]) -> None:
    digests: dict[str, str] = {}

    def add(name: str, content: bytes) -> None:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
        tar.addfile(entry, io.BytesIO(content))
        digests[name] = hashlib.sha256(content).hexdigest()

    for name in _kept(state):
        add(name, (state / name).read_bytes())
    add(STORE, "".join(lines).encode())
    about = {"format": FORMAT, "carrel": __version__, "schema": schema, "files": digests.copy()}
    made_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    add(MANIFEST, json.dumps(about | {"made_at": made_at}, indent=1).encode())


def _kept(state: Path) -> Iterator[str]:
    """The files of a state folder that a backup has, by name; without those that are being written."""
    folders = (state / "keys", state / "tls")
    for path in sorted([*(each for folder in folders for each in folder.rglob("*")), *state.glob("ca*.pem")]):
        name = path.relative_to(state).as_posix()
        if _NAME.fullmatch(name) and path.is_file() and not path.is_symlink():
            yield name


def _unpack(file: Path, tar: tarfile.TarFile, folder: Path) -> tuple[dict[str, object], dict[str, str]]:
    digests: dict[str, str] = {}
    left = _MOST_BYTES
    for entry in tar:
        left -= entry.size
        content = tar.extractfile(entry) if entry.isreg() else None
        if content is None or left < 0 or len(digests) >= _MOST_FILES or entry.name in digests:
            raise _damaged(file, f"{entry.name!r} does not belong there")
        if entry.name == MANIFEST:
            manifest = json.load(content)
            if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
                raise ArchiveError(f"{file} is of a newer Carrel: restore it with that version")
            return manifest, digests
        if not _NAME.fullmatch(entry.name):
            raise _damaged(file, f"{entry.name!r} does not belong there")
        digests[entry.name] = _put(content, folder, entry.name)
    raise _damaged(file, "it has no end")


def _put(content: IO[bytes], folder: Path, name: str) -> str:
    path = folder / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    digest = hashlib.sha256()
    mode = 0o644 if name in _PUBLIC else 0o600
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _damaged(file: Path, why: str) -> ArchiveError:
    return ArchiveError(f"{file} is no backup of Carrel's, or damaged: {why}")
