"""Debian packages for an image: chosen by apt, verified by apt, unpacked without root and without running anything of theirs.

    IMAGES/system-HASH.json      what apt chose for a list of packages on this release: names, versions, digests (the machine's own lock:
                                 Debian's mirrors keep no old versions, so none can come with Carrel)
    IMAGES/archives/SHA256.deb   the archives, so that an image can be built anew without the mirror
    IMAGES/apt/                  apt's state, cache and lists, apart from the system's

apt resolves as if nothing were installed but the essential packages and what those need: every machine of this release has them, sandboxes
see its /usr, and a second C library beside it could only disagree with it. An essential package that is asked for by name comes too.
The machine's sources and keys hold; its lists do where they have what is needed, else lists of our own are fetched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from carrel.backends.definitions import Definition
from carrel.backends.interpreters import Progress
from carrel.errors import SandboxStartFailed
from carrel.guest import linux

STATUS = Path("/var/lib/dpkg/status")
_RELEASE = Path("/etc/os-release")
_LISTS = Path("/var/lib/apt/lists")
_LAST_LINES = 12
_APT_TIMEOUT_S = 900

# Hooks of the machine's configuration would change the machine; hashes and signatures are checked as apt always does.
_CONFIGURATION = """
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg;
#clear Dir::Cache::pkgcache;
#clear Dir::Cache::srcpkgcache;
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Get::Assume-Yes "true";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "2";
Dir::State::status "{place}/status";
Dir::State::extended_states "{place}/extended_states";
Dir::State "{place}/state";
Dir::State::lists "{lists}";
Dir::Cache "{place}/cache";
Dir::Log "{place}/log";
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """One package as it was chosen."""

    package: str
    version: str
    sha256: str


class _AptFailed(Exception):
    """apt's last words."""


def chosen(definition: Definition, images: Path) -> tuple[Archive, ...] | None:
    """What was chosen for this list before, or None."""
    try:
        return tuple(Archive(**fields) for fields in json.loads(_lock(definition, images).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def stored(definition: Definition, images: Path) -> tuple[Archive, ...] | None:
    """The same, or None where not all of the archives are at hand."""
    found = chosen(definition, images)
    return found if found is not None and all(_file(images, archive).is_file() for archive in found) else None


def unwanted(images: Path) -> Iterator[Path]:
    """Archives that no choice names."""
    wanted = set()
    for lock in images.glob("system-*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError, LookupError):
            wanted |= {f"{fields['sha256']}.deb" for fields in json.loads(lock.read_text("utf-8"))}
    for file in _store(images).glob("*.deb"):
        if file.name not in wanted:
            yield file


def choose(definition: Definition, images: Path, progress: Progress, *, newest: bool = False) -> tuple[Archive, ...]:
    """Choose, download and remember; `newest` with lists of today. Under the images' lock. Raises SandboxStartFailed."""
    _require_apt(definition)
    progress(f"choosing Debian packages for image {definition.name}")
    lists = _LISTS if not newest and any(_LISTS.glob("*_Packages*")) else None
    try:
        try:
            found = _download(definition, images, lists, progress)
        except _AptFailed:
            if lists is None:
                raise
            found = _download(definition, images, None, progress)
    except _AptFailed as error:
        raise SandboxStartFailed(
            f"installing Debian packages of image {definition.name} failed; apt said:\n{error}"
        ) from error
    text = json.dumps([asdict(archive) for archive in found], indent=1)
    part = images / f".system-{os.getpid()}"
    part.write_text(text + "\n")
    part.rename(_lock(definition, images))
    return found


def unpack(archives: Sequence[Archive], images: Path, target: Path) -> None:
    """The files of the packages, below `target`. Raises SandboxStartFailed."""
    for archive in archives:
        file = _file(images, archive)
        if _digest(file) != archive.sha256:
            file.unlink(missing_ok=True)
            raise SandboxStartFailed(f"{file} is damaged; it is removed, and the next build fetches it again")
        done = subprocess.run([_program("dpkg-deb"), "-x", file, target], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SandboxStartFailed(f"cannot unpack {archive.package}: {done.stderr.strip()[-1000:]}")


def _store(images: Path) -> Path:
    return images / "archives"


def _file(images: Path, archive: Archive) -> Path:
    return _store(images) / f"{archive.sha256}.deb"


def _lock(definition: Definition, images: Path) -> Path:
    """By what apt is asked for, and on which release."""
    asked = [definition.system, definition.without, release(), platform.machine()]
    return images / f"system-{hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:12]}.json"


def release() -> str:
    """Such as `debian 12`."""
    try:
        fields = dict(line.split("=", 1) for line in _RELEASE.read_text("utf-8").splitlines() if "=" in line)
    except OSError:
        return ""
    return f"{fields.get('ID', '')} {fields.get('VERSION_ID', '')}".replace('"', "")


def _require_apt(definition: Definition) -> None:
    missing = [name for name in ("apt-get", "apt-cache", "dpkg-deb") if shutil.which(name) is None]
    if missing or not STATUS.is_file():
        raise SandboxStartFailed(
            f"image {definition.name} takes Debian packages ({', '.join(definition.system[:3])} …), and this machine has no "
            f"{missing[0] if missing else STATUS}: run Carrel on Debian or Ubuntu, or give the pool an image without 'system'"
        )


# ---- apt ---------------------------------------------------------------------------------------------------------------------------


def _download(definition: Definition, images: Path, lists: Path | None, progress: Progress) -> tuple[Archive, ...]:
    (images / "apt").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=images / "apt", prefix="run-") as name:
        place = Path(name)
        for folder in ("state/lists/partial", "cache/archives/partial", "log"):
            (place / folder).mkdir(parents=True)
        own = images / "apt" / "lists"
        configuration = place / "apt.conf"
        configuration.write_text(_CONFIGURATION.format(place=place, lists=lists or own))
        base = essential(STATUS.read_text("utf-8", "replace"))
        (place / "status").write_text("")
        if lists is None:
            (own / "partial").mkdir(parents=True, exist_ok=True)
            progress("fetching lists of Debian packages")
            with contextlib.suppress(
                _AptFailed
            ):  # one source of many; what is missing is said when something is wanted of it
                _apt(configuration, "apt-get", "update")
        left_out = {**base, **_candidates(configuration, definition)}
        for package in definition.system:
            left_out.pop(package, None)
        (place / "status").write_text("".join(_installed(stanza) for stanza in left_out.values()))
        progress(f"downloading Debian packages for image {definition.name}")
        _apt(configuration, "apt-get", "install", "--download-only", "--", *definition.system)
        return tuple(sorted(_keep(place / "cache" / "archives", images, set(left_out)), key=lambda each: each.package))


def _keep(downloaded: Path, images: Path, left_out: set[str]) -> Iterator[Archive]:
    """Move what was downloaded to the store; what apt wanted newer than the machine has it stays out all the same."""
    store = _store(images)
    store.mkdir(exist_ok=True)
    for file in downloaded.glob("*.deb"):
        said = _output(["dpkg-deb", "-f", str(file), "Package", "Version"])
        fields = _fields(said)
        if fields["Package"] not in left_out:
            digest = _digest(file)
            shutil.move(file, store / f"{digest}.deb")
            yield Archive(fields["Package"], fields["Version"], digest)


def _candidates(configuration: Path, definition: Definition) -> dict[str, dict[str, str]]:
    """What apt knows of the packages to leave out."""
    found = {}
    for package in definition.without:
        said = _apt(configuration, "apt-cache", "show", "--no-all-versions", "--", package)
        found[package] = _fields(said.split("\n\n")[0])
    return found


def _apt(configuration: Path, program: str, *arguments: str) -> str:
    return _output([program, "-qq", "-c", str(configuration), *arguments])


def _program(name: str) -> str:
    return shutil.which(name) or name


def _output(command: Sequence[str]) -> str:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    environment.pop("APT_CONFIG", None)
    try:
        done = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_APT_TIMEOUT_S,
            preexec_fn=linux.die_with_parent,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _AptFailed(str(error)) from error
    if done.returncode != 0:
        raise _AptFailed("\n".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:]))
    return done.stdout


# ---- dpkg's status -----------------------------------------------------------------------------------------------------------------


def essential(status: str) -> dict[str, dict[str, str]]:
    """The essential packages of a dpkg status and all that they need, by name."""
    installed: dict[str, dict[str, str]] = {}
    provided: dict[str, str] = {}
    for text in status.split("\n\n"):
        fields = _fields(text)
        if fields.get("Status") == "install ok installed":
            installed.setdefault(fields["Package"], fields)
            for virtual in _alternatives(fields.get("Provides", "")):
                provided.setdefault(virtual[0], fields["Package"])
    todo = [name for name, fields in installed.items() if fields.get("Essential") == "yes"]
    found: dict[str, dict[str, str]] = {}
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found[name] = installed[name]
        for field in ("Pre-Depends", "Depends"):
            for names in _alternatives(installed[name].get(field, "")):
                present = [each if each in installed else provided.get(each, "") for each in names]
                todo.extend([each for each in present if each][:1])
    return found


def _alternatives(relation: str) -> list[list[str]]:
    """`a (>= 1) | b:any, c` as [[a, b], [c]]."""
    groups = [[re.sub(r"[:(\[<\s].*", "", each.strip()) for each in group.split("|")] for group in relation.split(",")]
    return [[name for name in group if name] for group in groups if any(group)]


def _fields(stanza: str) -> dict[str, str]:
    return {match[1]: match[2] for match in re.finditer(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE)}


def _installed(fields: Mapping[str, str]) -> str:
    """A stanza of dpkg's status that says no more than that the package is there."""
    kept = {
        name: fields[name]
        for name in ("Package", "Version", "Architecture", "Multi-Arch", "Provides")
        if name in fields
    }
    lines = {**kept, "Status": "install ok installed", "Maintainer": "-", "Description": "-"}
    return "".join(f"{name}: {value}\n" for name, value in lines.items()) + "\n"


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:
        return ""
