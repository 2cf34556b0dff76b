"""What an image says of itself, in its own `image.json`: written last, from what was built and never from what was asked for.

Whoever has the folder needs nothing else to use it: the definition may have changed since, or be gone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from carrel.backends import debian
from carrel.backends.definitions import Definition
from carrel.backends.interpreters import Interpreter
from carrel.backends.nodejs import MODULES
from carrel.errors import SandboxStartFailed
from carrel.models import Software

FILE = "image.json"
IMAGE = Path("/opt/carrel/image")  # where it is mounted in a sandbox
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_VERSION_S = 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """`guest` as seen in a sandbox; `interpreter` is the name of its folder beside the image's; `content` a digest of all files, which two
    builds share that came to the same."""

    name: str
    runtime: str
    description: str
    guest: tuple[str, ...]
    preload: tuple[str, ...]
    environment: Mapping[str, str]
    interpreter: str
    python: str
    software: Software
    built_at: float
    size_bytes: int
    content: str


def write(definition: Definition, interpreter: Interpreter, archives: tuple[debian.Archive, ...], place: Path) -> None:
    """The last step of a build, when all files are as they will be."""
    guest = tuple(str(IMAGE / word) if (place / word).is_file() else word for word in definition.guest)
    if guest and not guest[0].startswith(f"{IMAGE}/"):
        raise SandboxStartFailed(f"image {definition.name}: its guest {guest[0]!r} is no file of the image")
    size, content = _weigh(place)
    found = Manifest(
        definition.name,
        definition.runtime,
        definition.description,
        guest,
        definition.preload,
        dict(definition.environment),
        interpreter.root.name,
        interpreter.version,
        _software(definition, interpreter, archives, place),
        time.time(),
        size,
        content,
    )
    (place / FILE).write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n")
    (place / FILE).chmod(0o644)


def read(root: Path) -> Manifest:
    """Raises SandboxStartFailed where `root` is no whole image."""
    try:
        fields = json.loads((root / FILE).read_text("utf-8"))
        software = fields.pop("software")
        pairs = {key: tuple((name, version) for name, version in software[key]) for key in ("runtimes", "packages")}
        typed = {"software": Software(**{**software, **pairs})}
        return Manifest(**{**fields, **typed, "guest": tuple(fields["guest"]), "preload": tuple(fields["preload"])})
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise SandboxStartFailed(f"the image in {root} is damaged: {error}; remove the folder") from error


# ---- what is in it -----------------------------------------------------------------------------------------------------------------


def _software(
    definition: Definition, interpreter: Interpreter, archives: tuple[debian.Archive, ...], place: Path
) -> Software:
    python, node = sorted(_distributions(interpreter.site_packages(place))), sorted(_modules(place / MODULES))
    system = [(archive.package, archive.version) for archive in archives]
    runtimes = dict(_runtimes(definition, interpreter, system, place))
    mine = [python, node, system] if definition.runtime != "node" else [node, python, system]
    if definition.runtime not in ("python", "node"):
        mine.reverse()
    packages = dict(pair for kind in reversed(mine) for pair in kind)  # of two of one name, the main kind's
    ordered = dict.fromkeys(name for kind in mine for name, _version in kind)
    return Software(
        definition.runtime,
        tuple(runtimes.items()),
        tuple((name, packages[name]) for name in ordered),
        definition.description,
    )


def _runtimes(
    definition: Definition, interpreter: Interpreter, system: list[tuple[str, str]], place: Path
) -> Iterator[tuple[str, str]]:
    """The image's own first; then what else can be run in it."""
    environment = {name: value.replace(str(IMAGE), str(place)) for name, value in definition.environment.items()}
    if definition.runtime == "shell":
        own = place / "bin" / "bash"
        yield "bash", _says(own if own.exists() else Path("/bin/bash"), environment)
    elif definition.guest:
        program = place / definition.guest[0]
        is_ours = definition.guest[0].startswith("guest/")  # would take a version's question for a session
        said = "" if is_ours else _says(program, environment)
        yield definition.runtime, said or dict(system).get(definition.runtime, "")
    yield "python", _says(interpreter.python, {})
    if (place / "bin" / "node").exists():
        yield "node", _says(place / "bin" / "node", environment)


def _says(program: Path, environment: Mapping[str, str]) -> str:
    """The version in a program's own words; empty where it has none."""
    try:
        done = subprocess.run(
            [program, "--version"],
            env=dict(environment),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_VERSION_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search(done.stdout or done.stderr)
    return found[0] if found else ""


def _distributions(site_packages: Path) -> Iterator[tuple[str, str]]:
    for found in metadata.distributions(path=[str(site_packages)]):
        yield found.name, found.version


def _modules(folder: Path) -> Iterator[tuple[str, str]]:
    for file in (*folder.glob("[!@.]*/package.json"), *folder.glob("@*/*/package.json")):
        try:
            fields = json.loads(file.read_text("utf-8"))
            yield str(fields["name"]), str(fields["version"])
        except (OSError, ValueError, LookupError, TypeError):
            continue  # not a package


def _weigh(place: Path) -> tuple[int, str]:
    """Size, and a digest of paths, modes and contents. Compiled Python is left out: it holds the time of its source's making."""
    size, digest = 0, hashlib.sha256()
    for folder, folders, names in os.walk(place):
        folders.sort()
        for path in (Path(folder, name) for name in sorted([*names, *(each for each in folders)])):
            if path.is_dir() and not path.is_symlink():
                continue
            found = path.lstat()
            size += found.st_size
            if path.parent.name == "__pycache__":
                continue
            is_link = path.is_symlink()
            content = os.fsencode(path.readlink()) if is_link else _digest(path)
            name = os.fsencode(path.relative_to(place))
            digest.update(b"%d %o %d " % (len(name), found.st_mode, len(content)) + name + content)
    return size, digest.hexdigest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
