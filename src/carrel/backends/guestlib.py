"""The guest's own files, as a folder that a sandbox can be given: a copy, since the package may lie where only its owner
may read.
"""

from __future__ import annotations

import hashlib
import os
import py_compile
import tempfile
from pathlib import Path

import carrel.guest

_SOURCE = Path(carrel.guest.__file__).parent
_UNCHECKED = py_compile.PycInvalidationMode.UNCHECKED_HASH


def ensure(folder: Path) -> Path:
    """`<folder>/guest-<hash>`, holding `carrel/guest/*`, world-readable and byte-compiled; made when it is not there yet."""
    sources = sorted(path for path in _SOURCE.iterdir() if path.suffix in (".py", ".bash"))
    digest = hashlib.sha256(b"\0".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    target = folder / f"guest-{digest}"
    if target.is_dir():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".guest-") as temporary:
        package = Path(temporary) / "lib" / "carrel" / "guest"
        package.mkdir(parents=True)
        for path in sources:
            copy = package / path.name
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o644)
            if path.suffix == ".py":
                # Unchecked: the sandbox's tree is read-only and a change of the source changes the folder's name.
                py_compile.compile(str(copy), doraise=True, invalidation_mode=_UNCHECKED)
        for directory, _names, files in os.walk(Path(temporary) / "lib"):
            Path(directory).chmod(0o755)
            for name in files:
                (Path(directory) / name).chmod(0o644)
        try:
            (Path(temporary) / "lib").rename(target)
        except OSError:
            if not target.is_dir():  # else another server was quicker
                raise
    return target
