"""What lies in the images' folder, for `carrel image`: definitions registered by users, builds, what is in use, and what may go.

    IMAGES/definitions/NAME/     a copy of the folder that somebody built an image from: so a pool can name it, here and tomorrow
    IMAGES/NAME-HASH/            a build; the definition's present one, or an earlier one

A server marks the builds of its pools as in use (`images.hold`) until it ends; those are left alone whatever is asked.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from carrel.backends import debian, definitions, images, manifests, uv
from carrel.backends.definitions import GUEST, REGISTERED
from carrel.backends.images import Image
from carrel.backends.interpreters import Progress
from carrel.backends.manifests import Manifest
from carrel.errors import SandboxStartFailed

_BUILD = re.compile(r"([a-z0-9][a-z0-9-]*)-([0-9a-f]{12})")
_INTERPRETER, _WHEELS = "interpreter", "wheels"  # folders of that shape that are no images


@dataclass(frozen=True, slots=True)
class Build:
    """A build, and whether it is what its name means now."""

    name: str
    digest: str
    root: Path
    manifest: Manifest | None  # None of one that an older Carrel made
    is_current: bool
    is_in_use: bool

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.digest}"


def register(folder: Path, name: str, where: Path, progress: Progress, *, newest: bool = False) -> Image:
    """Build what `folder` says and let pools call it `name`. Raises SandboxStartFailed; then the name means what it meant before."""
    if name in definitions.built_in():
        raise SandboxStartFailed(f"{name} is an image that came with Carrel: give yours another name (--name)")
    definitions.read(name, folder)  # refused before anything is copied
    with images.alone(where, progress):
        place = where / f"{images.BUILDING}definition-{os.getpid()}"
        _copy(folder, place)
    try:
        image = images.ensure_from(definitions.read(name, place), where, progress, newest=newest)
        with images.alone(where, progress, sweep=False):
            target = where / REGISTERED / name
            target.parent.mkdir(exist_ok=True)
            old = where / f"{images.BUILDING}old-{name}-{os.getpid()}"
            if target.exists():
                target.rename(old)
            place.rename(target)
            shutil.rmtree(old, ignore_errors=True)
        return image
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _copy(folder: Path, place: Path) -> None:
    """What belongs to a definition, and no more: the folder may hold anything besides."""
    place.mkdir()
    shutil.copyfile(folder / "image.toml", place / "image.toml")
    for file in definitions.read("copy", folder).files():
        target = place / file.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    if (folder / GUEST).is_dir():
        (place / GUEST).mkdir(exist_ok=True)


def builds(where: Path) -> list[Build]:
    """All that lie there, by name; the present one of each name first."""
    current = {root for name in definitions.known(where) if (root := _present(name, where)) is not None}
    found = []
    for root in where.glob("*-*"):
        match = _BUILD.fullmatch(root.name)
        if match and match[1] not in (_INTERPRETER, _WHEELS) and root.is_dir():
            found.append(Build(match[1], match[2], root, _manifest(root), root in current, is_in_use(root)))
    return sorted(found, key=lambda build: (build.name, not build.is_current, build.digest))


def not_built(where: Path) -> list[str]:
    """Names that pools may use and that no build is there for yet."""
    have = {build.name for build in builds(where) if build.is_current}
    return [name for name in definitions.known(where) if name not in have]


def remove(name: str, where: Path, progress: Progress, *, force: bool = False) -> list[str]:
    """Remove a registered image with its builds, or the one build of a reference; the references of what is gone.

    Of an image that came with Carrel the builds go, with `force` only: the next pool that wants it builds it again. Raises
    SandboxStartFailed where there is no such thing, or a running server uses it.
    """
    wanted = [build for build in builds(where) if name in (build.name, build.reference)]
    is_own = name in definitions.own(where)
    if not wanted and not is_own:
        raise SandboxStartFailed(f"there is no image {name!r} here; carrel image list shows what there is")
    if any(build.name in definitions.built_in() for build in wanted) and not force:
        raise SandboxStartFailed(f"{name} came with Carrel: with --force its build is removed, until a pool needs it")
    if used := [build.reference for build in wanted if build.is_in_use]:
        raise SandboxStartFailed(
            f"a running server uses {', '.join(used)}: move its pools to another image, and end or restart the server"
        )
    with images.alone(where, progress):
        gone = [build.reference for build in wanted if _remove(build.root, where)]
        if is_own:
            _discard(where / REGISTERED / name, where)
    return gone


def prune(where: Path, progress: Progress) -> tuple[list[str], int]:
    """Remove builds that no name means any more and nobody uses, and Debian archives that no choice names; what went, and its bytes."""
    old = [build for build in builds(where) if not build.is_current and not build.is_in_use]
    with images.alone(where, progress):
        freed = sum(build.manifest.size_bytes if build.manifest else 0 for build in old)
        gone = [build.reference for build in old if _remove(build.root, where)]
        for file in debian.unwanted(where):
            freed += file.stat().st_size
            file.unlink()
    return gone, freed


def is_in_use(root: Path) -> bool:
    """Whether a running server holds it. Of another user's, which may not be opened: yes."""
    try:
        with _exclusively(root):
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


@contextlib.contextmanager
def _exclusively(root: Path) -> Iterator[None]:
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _remove(root: Path, where: Path) -> bool:
    """Whether it is gone; not where a server has begun to use it meanwhile."""
    try:
        with _exclusively(root):
            _discard(root, where)
    except BlockingIOError:
        return False
    shutil.rmtree(images.SHARED / root.name, ignore_errors=True)  # root's links to it, for level restricted
    return True


def _discard(folder: Path, where: Path) -> None:
    """Gone at once, by a rename; a removal that is killed is finished by the next build."""
    doomed = where / f"{images.BUILDING}removed-{folder.name}-{os.getpid()}"
    folder.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _present(name: str, where: Path) -> Path | None:
    folder = uv.DEFINITIONS / name if name in definitions.built_in() else where / REGISTERED / name
    try:
        return images.present(definitions.read(name, folder), where)
    except SandboxStartFailed:  # damaged by hand; `show` says so
        return None


def _manifest(root: Path) -> Manifest | None:
    try:
        return manifests.read(root)
    except SandboxStartFailed:
        return None
