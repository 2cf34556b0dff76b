"""Images: what a sandbox's Python can import, built once by uv from a hashed lock and shared by all servers of a user.

An image is data: `images/NAME/image.toml` and `requirements.lock`. It is built to `IMAGES/NAME-HASH`, where the hash covers all that went
into it, on top of a copy of the running interpreter, `IMAGES/interpreter-HASH`. A build happens in a folder of its own under a lock and
appears by a rename, whole or not at all; what a build that was killed left is swept by the next one. Folders with other hashes belong to
other versions of Carrel and are left alone.

Inside a sandbox the interpreter is mounted at INTERPRETER and the image at IMAGE, and the image's own files say so: built anywhere, it
works there. On the host (level `process`) the same files are used through PYTHONPATH, which needs no path inside them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from carrel.backends import interpreters, uv
from carrel.backends.interpreters import Interpreter, Progress
from carrel.errors import SandboxStartFailed

INTERPRETER = Path("/opt/carrel/python")
IMAGE = Path("/opt/carrel/image")
FONT_CACHE = "share/matplotlib"  # guest/interpreter.py reads it there

_FORMAT = "2"  # part of every hash: raise it when what is built changes and no lock does
_BUILDING = ".building-"
_inspected = cache(interpreters.inspect)  # a third of a second, and each image asks

# Only matplotlib's own fonts: what the builder's system has besides is not what a sandbox's has, and a missing file makes
# matplotlib throw its list away.
_BAKE_FONTS = """
import matplotlib.font_manager as manager
found = manager.findSystemFonts
manager.findSystemFonts = lambda fontpaths=None, fontext="ttf": found(fontpaths, fontext) if fontpaths else []
manager._load_fontmanager(try_read_cache=False)
"""


@dataclass(frozen=True, slots=True)
class Image:
    """An image on disk. `python` is its interpreter's path inside a sandbox."""

    name: str
    root: Path
    interpreter: Interpreter
    preload: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def python(self) -> Path:
        return IMAGE / "bin" / "python3"

    @property
    def site_packages(self) -> Path:
        return self.root / "lib" / f"python{self.interpreter.version}" / "site-packages"

    @property
    def host_python(self) -> Path:
        """The image's Python on the host itself, for the level without isolation; needs host_environment()."""
        return self.interpreter.python

    def host_environment(self, *extra_paths: Path) -> dict[str, str]:
        """The whole environment that host_python needs; what is in `extra_paths` can be imported too."""
        paths = [str(path) for path in (self.site_packages, *extra_paths)]
        return {
            **self.environment,
            "PYTHONPATH": ":".join(paths),
            "PYTHONNOUSERSITE": "1",
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "MPLCONFIGDIR": str(self.root / FONT_CACHE),
        }


def facts(python: Path | None = None) -> interpreters.Facts:
    """What `python`, by default the running one, says of itself; asked once. Raises SandboxStartFailed."""
    return _inspected(python or Path(sys.executable))


def names() -> list[str]:
    """The images that came with Carrel."""
    return sorted(path.parent.name for path in uv.DEFINITIONS.glob("*/image.toml"))


def ensure(name: str, images: Path, progress: Progress, python: Path | None = None) -> Image:
    """The image, built first where it is not there yet (a minute or two). `python` is the CPython to build on, by default the running one.

    Blocks; safe to call from several processes at once. Raises SandboxStartFailed with the reason and uv's own last words.
    """
    folder = uv.DEFINITIONS / name
    if name not in names():
        raise SandboxStartFailed(f"there is no image {name!r}; there are: {', '.join(names())}")
    described = tomllib.loads((folder / "image.toml").read_text())
    interpreter = _interpreter(images, progress, python)
    lock = folder / "requirements.lock"
    root = images / f"{name}-{_digest(lock.read_bytes(), interpreter.root.name.encode())}"
    if not root.is_dir():
        with build(images, root, progress) as place:
            if place is not None:
                _build_image(name, interpreter, lock, place, progress)
    return Image(name, root, interpreter, tuple(described["preload"]), dict(described["environment"]))


def ensure_python(images: Path, progress: Progress, python: Path | None = None) -> Path:
    """The folder of the interpreter's copy, made first where it is not there yet (some seconds). As `ensure` otherwise."""
    return _interpreter(images, progress, python).root


def _interpreter(images: Path, progress: Progress, python: Path | None) -> Interpreter:
    found = facts(python)
    built = found.executable.stat()
    digest = _digest(
        str(found.executable).encode(), found.build.encode(), f"{built.st_size} {built.st_mtime_ns}".encode()
    )
    root = images / f"interpreter-{digest}"
    if not root.is_dir():
        with build(images, root, progress) as place:
            if place is not None:
                interpreters.copy(found, place, progress)
    return Interpreter(root, found.version)


def _build_image(name: str, interpreter: Interpreter, lock: Path, place: Path, progress: Progress) -> None:
    began = time.monotonic()
    progress(f"building image {name} (once; needs the package index)")
    uv.run(
        ["venv", "--no-project", "--relocatable", "--python", interpreter.python, place], purpose=f"making image {name}"
    )
    uv.install(
        lock,
        ["--compile-bytecode", "--python", place / "bin" / "python"],
        purpose=f"installing the packages of image {name}",
    )
    if any(place.glob("lib/*/site-packages/matplotlib")):
        progress("listing fonts")
        _run(place, _BAKE_FONTS, {"MPLCONFIGDIR": str(place / FONT_CACHE)})
    _make_neutral(place, interpreter)
    interpreters.open_to_all(place)
    progress(f"built image {name} in {time.monotonic() - began:.0f} s")


def _run(place: Path, code: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [place / "bin" / "python", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SandboxStartFailed(f"the image's Python failed: {done.stderr.strip()[-1000:]}")


def _make_neutral(place: Path, interpreter: Interpreter) -> None:
    """Let the environment refer to the paths inside a sandbox, which say nothing of the host. The last step: after it, it runs only there.

    With system site-packages (the copy has none) Python looks at the user's too, and that is where pip goes when the image is read-only.
    """
    home = INTERPRETER / "bin"
    settings = {
        "home": home,
        "implementation": "CPython",
        "version_info": interpreter.version,
        "include-system-site-packages": "true",
    }
    (place / "pyvenv.cfg").write_text("".join(f"{key} = {value}\n" for key, value in settings.items()))
    binaries = place / "bin"
    for file in [
        *binaries.glob("python*"),
        *binaries.glob("[aA]ctivate*"),
        *binaries.glob("deactivate*"),
        *binaries.glob("pydoc*"),
    ]:
        file.unlink()
    for name in ("python", "python3", f"python{interpreter.version}"):
        (binaries / name).symlink_to(home / f"python{interpreter.version}")
    for leftover in (".gitignore", "CACHEDIR.TAG", ".lock"):
        (place / leftover).unlink(missing_ok=True)


@contextmanager
def build(images: Path, target: Path, progress: Progress) -> Iterator[Path | None]:
    """A folder to build in that becomes `target` at the end; None where another process built it while we waited for the lock."""
    try:
        images.mkdir(parents=True, exist_ok=True, mode=0o755)
        with _locked(images / ".lock", progress):
            for left in images.glob(f"{_BUILDING}*"):
                shutil.rmtree(left, ignore_errors=True)  # whoever made it is gone: we hold the lock
            if target.is_dir():
                yield None
                return
            # With our pid: a uv that outlived its killed builder may still write into that one's folder.
            place = images / f"{_BUILDING}{target.name}-{os.getpid()}"
            try:
                place.mkdir()
                yield place
                place.rename(target)
            finally:
                shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise SandboxStartFailed(f"cannot build {target.name} in {images}: {error.strerror or error}") from error


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
