"""A pool's own wheels for installs without a network: verified, copied below the images, and read-only in every sandbox.

The operator's folder may change, lie under a home that nobody else may enter, or hold half a download; what sandboxes see is a copy,
`IMAGES/wheels-HASH`, where the hash covers names and contents. It is made before the pool's first sandbox, so a broken wheel is an
operator's error at the start and not a user's in the middle. Another content is another folder; old ones are left alone, as images are.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from carrel.backends import images
from carrel.backends.interpreters import Progress, open_to_all
from carrel.errors import SandboxStartFailed

_MAX_METADATA = 1024 * 1024


def ensure(folder: Path, image_folder: Path, progress: Progress) -> Path:
    """The copy of `folder`, made first where it is not there yet. Blocks. Raises SandboxStartFailed naming the wheel that is broken."""
    try:
        wheels = sorted(folder.glob("*.whl"))
        if not wheels:
            raise SandboxStartFailed(f"carrel.packages.wheels: {folder} holds no wheels (*.whl)")
        digest = _digest(wheels)
        target = image_folder / f"wheels-{digest}"
        if not target.is_dir():
            with images.build(image_folder, target, progress) as place:
                if place is not None:
                    _copy(wheels, place, progress)
                    if _digest(sorted(place.glob("*.whl"))) != digest:
                        raise SandboxStartFailed(f"carrel.packages.wheels: {folder} changed while it was copied")
    except OSError as error:
        raise SandboxStartFailed(f"carrel.packages.wheels: cannot read {folder}: {error.strerror or error}") from error
    return target


def _digest(wheels: list[Path]) -> str:
    digest = hashlib.sha256()
    for wheel in wheels:
        with wheel.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(wheel.name.encode() + b"\0" + content)
    return digest.hexdigest()[:12]


def _copy(wheels: list[Path], place: Path, progress: Progress) -> None:
    progress(f"copying {len(wheels)} wheels")
    for wheel in wheels:
        copy = place / wheel.name
        shutil.copyfile(wheel, copy)
        _verify(copy)  # the copy, which nobody changes any more
    open_to_all(place)


def _verify(wheel: Path) -> None:
    """A whole archive whose metadata says what its name says."""
    try:
        name, version, _build, _tags = parse_wheel_filename(wheel.name)
        with zipfile.ZipFile(wheel) as archive:
            if (damaged := archive.testzip()) is not None:
                raise SandboxStartFailed(f"carrel.packages.wheels: {wheel.name} is damaged ({damaged})")
            found = HeaderParser().parsestr(_metadata(archive))
    except (InvalidWheelFilename, zipfile.BadZipFile, LookupError, ValueError, EOFError) as error:
        raise SandboxStartFailed(f"carrel.packages.wheels: {wheel.name} is not a wheel: {error}") from error
    if (canonicalize_name(found["Name"] or ""), found["Version"]) != (name, str(version)):
        said = f"{found['Name']} {found['Version']}"
        raise SandboxStartFailed(f"carrel.packages.wheels: {wheel.name} says of itself that it is {said}")


def _metadata(archive: zipfile.ZipFile) -> str:
    names = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith(".dist-info/METADATA")]
    if len(names) != 1 or archive.getinfo(names[0]).file_size > _MAX_METADATA:
        raise ValueError("it has no METADATA")
    return archive.read(names[0]).decode("utf-8", "replace")
