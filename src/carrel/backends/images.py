"""Images: what a sandbox's programs are and can import, built once from hashed locks and shared by all servers of a user.

An image is data: a folder (`definitions.py`). It is built to `IMAGES/NAME-HASH`, where the hash covers all that went
into it, on top of a copy of the running interpreter, `IMAGES/interpreter-HASH`. A build happens in a folder of its own under a lock and
appears by a rename, whole or not at all; what a build that was killed left is swept by the next one. Folders with other hashes belong to
other versions of Carrel and are left alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from carrel.backends import debian, definitions, interpreters, manifests
from carrel.backends.construction import FONT_CACHE, Parts, construct
from carrel.backends.definitions import Definition
from carrel.backends.interpreters import Interpreter, Progress
from carrel.backends.manifests import IMAGE
from carrel.errors import SandboxStartFailed
from carrel.models import Software

_FORMAT = "3"  # part of every hash: raise it when what is built changes and no lock does
_SHAPE = "2"  # the same of images alone
_DIGEST = re.compile(r"[0-9a-f]{12}")
BUILDING = ".building-"
SHARED = Path(
    "/var/lib/carrel/images"
)  # as root: links to images that lie where only root may enter, for level restricted
_inspected = cache(interpreters.inspect)  # a third of a second, and each image asks


@dataclass(frozen=True, slots=True)
class Image:
    """An image on disk. `python` is its interpreter's path inside a sandbox, `guest` the program that an interpreter of it becomes there
    (empty where that is Carrel's own)."""

    name: str
    root: Path
    interpreter: Interpreter
    preload: tuple[str, ...]
    environment: Mapping[str, str]
    runtime: str
    guest: tuple[str, ...]
    software: Software

    @property
    def reference(self) -> str:
        """The name and which build of it: leads to this very image as long as it is there."""
        return f"{self.name}@{self.root.name.removeprefix(self.name + '-')}"

    @property
    def python(self) -> Path:
        return IMAGE / "bin" / "python3"

    @property
    def site_packages(self) -> Path:
        return self.interpreter.site_packages(self.root)

    @property
    def is_python(self) -> bool:
        return self.runtime == "python"

    @property
    def host_python(self) -> Path:
        """The image's Python on the host itself, for the levels without a root of their own; needs host_environment()."""
        return self.interpreter.python

    @property
    def host_guest(self) -> tuple[str, ...]:
        """`guest` for a level that mounts nothing."""
        return tuple(self._on_the_host(word) for word in self.guest)

    def host_environment(self, *extra_paths: Path) -> dict[str, str]:
        """What code needs in its environment on the host. Python finds the image's packages by it, and what is in `extra_paths`."""
        own = {name: self._on_the_host(value) for name, value in self.environment.items()}
        folders = [self.root / "bin", self.root / "usr" / "bin", self.interpreter.root / "bin"]
        own.setdefault("PATH", ":".join([*map(str, folders), "/usr/local/bin:/usr/bin:/bin"]))
        if not self.is_python:
            return own
        paths = [str(path) for path in (self.site_packages, *extra_paths)]
        return {
            **own,
            "PYTHONPATH": ":".join(paths),
            "PYTHONNOUSERSITE": "1",
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLCONFIGDIR": str(self.root / FONT_CACHE),
        }

    def _on_the_host(self, value: str) -> str:
        return value.replace(str(IMAGE), str(self.root))


def facts(python: Path | None = None) -> interpreters.Facts:
    """What `python`, by default the running one, says of itself; asked once. Raises SandboxStartFailed."""
    return _inspected(python or Path(sys.executable))


def ensure(reference: str, images: Path, progress: Progress, python: Path | None = None) -> Image:
    """The image of a name, built first where it is not there yet (a minute or two), or the very one of a reference (NAME@HASH).

    `python` is the CPython to build on, by default the running one. Blocks; safe to call from several processes at once. Raises
    SandboxStartFailed with the reason and the last words of uv, npm or apt.
    """
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return load(images, name, digest)
    return ensure_from(definitions.find(reference, images), images, progress, python)


def ensure_from(
    definition: Definition, images: Path, progress: Progress, python: Path | None = None, *, newest: bool = False
) -> Image:
    """The same of a definition that lies anywhere; `newest` with Debian's packages as they are today."""
    archives = _archives(definition, images, progress, newest=newest)
    parts = Parts(definition, _interpreter(images, progress, python), archives, images)
    root = _root(parts)
    if not root.is_dir():
        with build(images, root, progress) as place:
            if place is not None:
                construct(parts, place, progress)
    return _image(root)


def present(definition: Definition, images: Path) -> Path | None:
    """Where the build of this definition lies, if it is there. Builds nothing."""
    archives = debian.chosen(definition, images) if definition.system else ()
    if archives is None:
        return None
    root = _root(Parts(definition, Interpreter(_interpreter_root(images, facts()), facts().version), archives, images))
    return root if root.is_dir() else None


def load(images: Path, name: str, digest: str) -> Image:
    """The image NAME@DIGEST. Raises SandboxStartFailed where there is none."""
    if not definitions.is_name(name) or not _DIGEST.fullmatch(digest):
        raise SandboxStartFailed(f"{name}@{digest} is no reference to an image")
    root = images / f"{name}-{digest}"
    if not root.is_dir():
        raise SandboxStartFailed(f"the image {name}@{digest} is not there any more")
    return _image(root)


def hold(root: Path) -> int:
    """Mark an image as in use, for as long as the descriptor is open: `store.remove` leaves it alone. Raises OSError."""
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        root.stat()  # it was not removed between the two
    except OSError:
        os.close(fd)
        raise
    return fd


def _root(parts: Parts) -> Path:
    inputs = [
        _SHAPE,
        parts.definition.digest,
        parts.interpreter.root.name,
        *(archive.sha256 for archive in parts.archives),
    ]
    return parts.images / f"{parts.definition.name}-{_digest(*map(str.encode, inputs))}"


def _archives(definition: Definition, images: Path, progress: Progress, *, newest: bool) -> tuple[debian.Archive, ...]:
    """Debian's packages as they were chosen; chosen first where they were not, or where their archives are gone and needed."""
    if not definition.system:
        return ()
    if not newest and (found := debian.stored(definition, images)) is not None:
        return found
    with alone(images, progress):
        if not newest and (found := debian.stored(definition, images)) is not None:
            return found
        return debian.choose(definition, images, progress, newest=newest)


def _image(root: Path) -> Image:
    found = manifests.read(root)
    return Image(
        found.name,
        root,
        Interpreter(root.parent / found.interpreter, found.python),
        found.preload,
        found.environment,
        found.runtime,
        found.guest,
        found.software,
    )


def ensure_python(images: Path, progress: Progress, python: Path | None = None) -> Path:
    """The folder of the interpreter's copy, made first where it is not there yet (some seconds). As `ensure` otherwise."""
    return _interpreter(images, progress, python).root


def _interpreter(images: Path, progress: Progress, python: Path | None) -> Interpreter:
    found = facts(python)
    root = _interpreter_root(images, found)
    if not root.is_dir():
        with build(images, root, progress) as place:
            if place is not None:
                interpreters.copy(found, place, progress)
    return Interpreter(root, found.version)


def _interpreter_root(images: Path, found: interpreters.Facts) -> Path:
    built = found.executable.stat()
    parts = (str(found.executable), found.build, f"{built.st_size} {built.st_mtime_ns}")
    return images / f"interpreter-{_digest(*map(str.encode, parts))}"


@contextmanager
def build(images: Path, target: Path, progress: Progress) -> Iterator[Path | None]:
    """A folder to build in that becomes `target` at the end; None where another process built it while we waited for the lock."""
    with alone(images, progress):
        if target.is_dir():
            yield None
            return
        # With our pid: a uv that outlived its killed builder may still write into that one's folder.
        place = images / f"{BUILDING}{target.name}-{os.getpid()}"
        try:
            place.mkdir()
            yield place
            place.rename(target)
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def alone(images: Path, progress: Progress, *, sweep: bool = True) -> Iterator[None]:
    """Nobody else builds here meanwhile. What a killed build left is swept; not by somebody in the middle of his own."""
    try:
        images.mkdir(parents=True, exist_ok=True, mode=0o755)
        with _locked(images / ".lock", progress):
            for left in images.glob(f"{BUILDING}*") if sweep else ():
                if not _is_of_another(left):
                    shutil.rmtree(left, ignore_errors=True)
            yield
    except OSError as error:
        raise SandboxStartFailed(f"cannot build in {images}: {error.strerror or error}") from error


def _is_of_another(left: Path) -> bool:
    """A definition that waits for its image to be built lies here without the lock, by the pid of who put it there."""
    pid = left.name.rpartition("-")[2]
    return left.name.startswith(f"{BUILDING}definition-") and pid.isdigit() and Path("/proc", pid).exists()


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("waiting for another build")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256(_FORMAT.encode())
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()[:12]
