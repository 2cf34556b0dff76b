"""Make `.venv` from nothing but this Python: `python3 tools/bootstrap.py server|dev`.

A bare Debian has python3 without pip, without ensurepip and without uv, and refuses `pip install` outside an environment. So this
script takes one file, the uv wheel that the lock names, from the package index that the machine is set to, checks its hash, and leaves
the rest to uv: the environment, the locked packages (each by hash), and Carrel itself. `dev` has all that `server` has. The second
run finds the stamp of the first and does nothing. Standard library only.
"""

from __future__ import annotations

import base64
import hashlib
import html.parser
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036  (whatever python3 the machine has runs this file)
    raise SystemExit(
        f"Carrel needs Python 3.11 or newer, this is {platform.python_version()}: make PYTHON=python3.12 …"
    )

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from carrel import registry  # noqa: E402  (nothing is installed yet: the path has to come first)

VENV = ROOT / ".venv"
STAMP = VENV / "carrel-stamp"

# Programs the tests call, by the Debian package that brings them. Without root they are looked for and what needs them is skipped.
SYSTEM_PACKAGES = {
    "curl": "curl",
    "fish": "fish",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
    "newuidmap": "uidmap",
    "nft": "nftables",
    "ip": "iproute2",
    "runsc": "runsc",
    "pg_ctlcluster": "postgresql",
    "chromium-headless-shell|chromium|google-chrome": "chromium-headless-shell",  # any one of them
}


def main(arguments: list[str]) -> int:
    if arguments not in (["server"], ["dev"]):
        return _fail("usage: python3 tools/bootstrap.py server|dev")
    profile = arguments[0]
    if profile == "dev":
        install_system_packages()
    if is_current(profile):
        return 0
    try:
        install(profile)
    except (OSError, subprocess.CalledProcessError) as error:
        return _fail(f"could not install: {error}")
    return 0


def is_current(profile: str) -> bool:
    """Whether `.venv` already holds what the locks say; a development environment also serves."""
    try:
        stamp = STAMP.read_text()
    except OSError:
        return False
    has_python = (VENV / "bin/python").exists()
    return has_python and stamp in {_stamp(profile), _stamp("dev")}


def install(profile: str) -> None:
    lock = ROOT / "requirements" / f"{profile}.lock"
    environment = {**registry.uv_environment(), "VIRTUAL_ENV": str(VENV)}
    with tempfile.TemporaryDirectory(prefix="carrel-bootstrap-") as folder:
        uv = find_uv(lock.read_text(), registry.sources(), Path(folder))
        _say(f"making .venv with Python {platform.python_version()}")
        # --seed is left out: an environment without pip cannot be changed behind the lock's back.
        _run(environment, uv, "venv", "--quiet", "--clear", "--no-project", "--python", _base_python(), VENV)
        _say(f"installing requirements/{lock.name}")
        _run(environment, uv, "pip", "sync", "--quiet", "--require-hashes", "--compile-bytecode", lock)
        _run(environment, uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ROOT)
    STAMP.write_text(_stamp(profile))


# ---- uv ------------------------------------------------------------------------------------------------------------------------


def find_uv(lock: str, where: registry.Sources, folder: Path) -> Path:
    """A uv of the locked version: what an earlier run left in `.venv`, else its wheel from the index. Raises OSError."""
    version, hashes = locked(lock, "uv")
    present = VENV / "bin/uv"
    if present.exists() and f"uv {version} " in _output(present, "--version") + " ":
        return Path(shutil.copy(present, folder / "uv"))  # a copy, as --clear empties .venv
    data = download_wheel("uv", version, hashes, where)
    wheel = folder / "uv.whl"
    wheel.write_bytes(data)
    with zipfile.ZipFile(wheel) as archive:
        binary = archive.read(f"uv-{version}.data/scripts/uv")
    target = folder / "uv"
    target.write_bytes(binary)
    target.chmod(0o755)
    return target


def locked(lock: str, name: str) -> tuple[str, set[str]]:
    """The version and the SHA-256 digests that the lock has for `name`."""
    found = re.search(rf"^{name}==(\S+)((?:\s*\\\n\s+--hash=sha256:[0-9a-f]+)+)", lock, re.MULTILINE)
    if not found:
        raise OSError(f"the lock names no {name}")
    return found[1], set(re.findall(r"sha256:([0-9a-f]+)", found[2]))


def download_wheel(name: str, version: str, hashes: set[str], where: registry.Sources) -> bytes:
    """The wheel of `name` for this machine, from the first source that has one with a locked hash. Raises OSError."""
    problems = []
    pages = [*(f"{index.rstrip('/')}/{name}/" for index in where.indexes), *where.links]
    for page in pages:
        try:
            for url in candidates(page, f"{name}-{version}-", where.certificates):
                _say(f"taking {name} {version} from {_shown(page)}")
                data = fetch(url, where.certificates)
                if hashlib.sha256(data).hexdigest() in hashes:
                    return data
                problems.append(f"{_shown(url)}: its hash is not in the lock")
        except (OSError, ValueError) as error:
            problems.append(f"{_shown(page)}: {error}")
    raise OSError(
        f"no {name} {version} for {platform.machine()} found; asked: {'; '.join(problems) or ', '.join(map(_shown, pages))}. "
        "A mirror is taken from PIP_INDEX_URL, UV_DEFAULT_INDEX, pip.conf or uv.toml."
    )


def candidates(page: str, prefix: str, certificates: str | None) -> list[str]:
    """The addresses of fitting wheels on a page of links, or in a folder of wheels."""
    if "://" not in page:
        names = [path.as_uri() for path in Path(page).glob(f"{prefix}*.whl")]
        return [url for url in names if fits(url)]
    if page.startswith("file:"):
        page = page.rstrip("/") + "/index.html"
    links = _Links(page)
    links.feed(fetch(page, certificates).decode())
    return [url for url in links.found if url.rpartition("/")[2].startswith(prefix) and fits(url)]


def fits(url: str) -> bool:
    """Whether a wheel's platform tag is one of this machine's (PEP 425, PEP 656)."""
    tag = urllib.parse.unquote(url.rpartition("/")[2]).removesuffix(".whl").rpartition("-")[2]
    machine = platform.machine()
    if sys.platform == "darwin":
        return tag.startswith("macosx") and tag.endswith((machine, "universal2"))
    family = "manylinux" if platform.libc_ver()[0] == "glibc" else "musllinux"
    return family in tag and tag.endswith(machine)


class _Links(html.parser.HTMLParser):
    """Collects the addresses a simple-API page points to, without their fragments."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self._base = base
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get("href") if tag == "a" else None
        if target:
            self.found.append(urllib.parse.urldefrag(urllib.parse.urljoin(self._base, target)).url)


def fetch(url: str, certificates: str | None) -> bytes:
    """The bytes at `url` (http, https or file). A user and password in it become a header, as urllib ignores them."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in {"http", "https", "file"}:
        raise OSError(f"cannot fetch over {parts.scheme}")
    host = parts.netloc.rpartition("@")[2]
    request = urllib.request.Request(parts._replace(netloc=host).geturl(), headers={"Accept": "text/html, */*;q=0.1"})  # noqa: S310  (scheme checked)
    if parts.username:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        request.add_header("Authorization", "Basic " + base64.b64encode(pair.encode()).decode())
    context = _trust(certificates, has_password=bool(parts.username)) if parts.scheme == "https" else None
    with urllib.request.urlopen(request, timeout=60, context=context) as reply:  # noqa: S310  (scheme checked)
        return bytes(reply.read())


def _trust(certificates: str | None, *, has_password: bool) -> ssl.SSLContext:
    """A bare Debian may have no CA certificates at all. The one file taken here is known by its hash beforehand, so then it is taken
    without asking who sends it; a password is never sent that way."""
    context = ssl.create_default_context(cafile=certificates)
    if not certificates and not registry.has_system_certificates() and not has_password:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# ---- the machine ---------------------------------------------------------------------------------------------------------------


def install_system_packages() -> None:
    """What the tests want of the system, where we may: as root on Debian and Ubuntu. Elsewhere the tests skip and say why."""
    missing = sorted({package for want, package in SYSTEM_PACKAGES.items() if not any(map(_is_there, want.split("|")))})
    if not missing or os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    _say(f"installing system packages: {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["install", "-y", "-qq", "--no-install-recommends"]
    # One by one: a distribution that lacks one of them still has the others.
    for command in (["update", "-qq"], *([*install, package] for package in missing)):
        if subprocess.run(["apt-get", *command], env=environment, stdout=subprocess.DEVNULL).returncode:  # noqa: S607  (found by which)
            _say(f"apt-get {command[0]} {command[-1]} failed; tests that need it will be skipped")


def _is_there(want: str) -> bool:
    """A program by its name, or a file by its path."""
    return bool(shutil.which(want)) or Path(want).exists()


def _base_python() -> str:
    """The real interpreter, also when this script is run by one inside an environment."""
    return (
        str(Path(sys.base_exec_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}"))
        if _is_venv()
        else sys.executable
    )


def _is_venv() -> bool:
    return sys.prefix != sys.base_prefix


def _stamp(profile: str) -> str:
    """Everything that decides what `.venv` must hold."""
    digest = hashlib.sha256()
    for part in (Path("requirements", f"{profile}.lock"), Path("pyproject.toml"), Path("tools/bootstrap.py")):
        digest.update((ROOT / part).read_bytes())
    digest.update(f"{_base_python()} {platform.python_version()} {ROOT}".encode())
    return f"{profile} {digest.hexdigest()}\n"


def _run(environment: dict[str, str], *command: object) -> None:
    subprocess.run([str(word) for word in command], env=environment, check=True)


def _output(*command: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def _shown(url: str) -> str:
    """An address fit for a log: without a user and password."""
    return re.sub(r"//[^@/]*@", "//", url)


def _say(text: str) -> None:
    print(f"bootstrap: {text}", file=sys.stderr, flush=True)


def _fail(text: str) -> int:
    _say(text)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
