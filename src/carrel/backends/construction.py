"""The steps from a definition to an image's folder. Every image is a Python environment, so that any sandbox has `python3`; on top of it
come the packages of its locks, Node where a package brought it, Debian's programs below usr/, and the guest's own files.

Inside a sandbox the interpreter is mounted at INTERPRETER and the image at IMAGE, and the image's own files say so: built anywhere, it
works there. On the host (level `process`) the same files are used through PYTHONPATH, which needs no path inside them.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from carrel.backends import debian, interpreters, manifests, nodejs, userland, uv
from carrel.backends.definitions import GUEST, LOCK, Definition
from carrel.backends.interpreters import Interpreter, Progress
from carrel.errors import SandboxStartFailed

INTERPRETER = Path("/opt/carrel/python")
FONT_CACHE = "share/matplotlib"  # guest/interpreter.py reads it there

# Only matplotlib's own fonts: what the builder's system has besides is not what a sandbox's has, and a missing file makes
# matplotlib throw its list away.
_BAKE_FONTS = """
import matplotlib.font_manager as manager
found = manager.findSystemFonts
manager.findSystemFonts = lambda fontpaths=None, fontext="ttf": found(fontpaths, fontext) if fontpaths else []
manager._load_fontmanager(try_read_cache=False)
"""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an image is built from."""

    definition: Definition
    interpreter: Interpreter
    archives: tuple[debian.Archive, ...]  # Debian's, in the store below `images`
    images: Path


def construct(parts: Parts, place: Path, progress: Progress) -> None:
    """Build in `place`, an empty folder. Raises SandboxStartFailed."""
    definition, interpreter = parts.definition, parts.interpreter
    began = time.monotonic()
    progress(f"building image {definition.name} (once{'; needs the package index' if definition.file(LOCK) else ''})")
    _python(definition, interpreter, place)
    nodejs.lift(place, interpreter.site_packages(place))
    if definition.file("package-lock.json"):
        progress("installing Node packages")
        nodejs.install(definition, place)
    if parts.archives:
        progress(f"unpacking {len(parts.archives)} Debian packages")
        _userland(parts, place)
    if any(place.glob("lib/*/site-packages/matplotlib")):
        progress("listing fonts")
        _run(place, _BAKE_FONTS, {"MPLCONFIGDIR": str(place / FONT_CACHE)})
    if (definition.folder / GUEST).is_dir():
        shutil.copytree(definition.folder / GUEST, place / GUEST)
    _make_neutral(place, interpreter)
    interpreters.open_to_all(place)
    manifests.write(definition, interpreter, parts.archives, place)
    progress(f"built image {definition.name} in {time.monotonic() - began:.0f} s")


def _python(definition: Definition, interpreter: Interpreter, place: Path) -> None:
    """The environment, and what requirements.lock says."""
    uv.run(
        ["venv", "--no-project", "--relocatable", "--python", interpreter.python, place],
        purpose=f"making image {definition.name}",
    )
    if lock := definition.file(LOCK):
        uv.install(
            lock,
            ["--compile-bytecode", "--python", place / "bin" / "python"],
            purpose=f"installing the packages of image {definition.name}",
        )


def _userland(parts: Parts, place: Path) -> None:
    unpacked = place / ".unpacked"
    debian.unpack(parts.archives, parts.images, unpacked)
    userland.move_in(unpacked, place, parts.definition.links)
    shutil.rmtree(unpacked)
    userland.find_own_libraries(place)


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
