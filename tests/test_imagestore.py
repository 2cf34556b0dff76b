"""`carrel image` on a folder of its own: built, listed, removed, whole after every accident. What a server holds is in test_own_images."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from carrel.backends import debian, definitions, images, imagestore
from carrel.errors import SandboxStartFailed
from processes import alive, children, eventually

COMMAND = [sys.executable, "-P", "-m", "carrel.cli", "image"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a copy of the interpreter, which takes longer than all that is built here."""
    where = tmp_path_factory.mktemp("store")
    images.ensure_python(where, print)
    return where


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A definition that is built in no time."""
    place = tmp_path / "my-shell"
    (place / "guest").mkdir(parents=True)
    (place / "image.toml").write_text('runtime = "shell"\ndescription = "mine"\n')
    (place / "guest" / "note").write_text("1")
    return place


def run(folder: Path, *arguments: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | {"CARREL_IMAGES": str(folder), "CARREL_STATE": str(folder / "no-server")}
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=check)


def listed(folder: Path, name: str) -> list[dict[str, object]]:
    everything = json.loads(run(folder, "list", "-o", "json").stdout)
    return [each for each in everything if each["name"] == name]


def test_an_image_is_built_listed_shown_and_removed(folder: Path, source: Path) -> None:
    """The whole life of one, by the command, in JSON as in tables."""
    built = json.loads(run(folder, "build", source, "-o", "json").stdout)

    assert built["reference"] == f"my-shell@{built['reference'].partition('@')[2]}"
    assert (built["runtime"], built["description"], built["status"]) == ("shell", "mine", "current")
    assert built["content"].startswith("sha256:")
    assert [each["reference"] for each in listed(folder, "my-shell")] == [built["reference"]]
    shown = json.loads(run(folder, "show", "my-shell", "-o", "json").stdout)
    assert shown == {**built, "pools": []}
    table = run(folder, "list").stdout
    assert "my-shell" in table
    assert "not built" in table  # those that came with Carrel
    assert "runtimes" in run(folder, "show", built["reference"]).stdout
    shutil.rmtree(source)  # it is registered: pools find it without its folder
    assert images.ensure("my-shell", folder, print).reference == built["reference"]
    assert built["reference"] in run(folder, "remove", "my-shell").stdout
    assert listed(folder, "my-shell") == []
    with pytest.raises(SandboxStartFailed, match="there is no image 'my-shell'"):
        images.ensure("my-shell", folder, print)


def test_building_anew_makes_another_build_and_the_same_files_the_same(folder: Path, source: Path) -> None:
    """By the hash of what goes in; the content's hash is that of what comes out. Earlier builds stay until they are pruned."""
    first = json.loads(run(folder, "build", source, "-o", "json").stdout)
    assert json.loads(run(folder, "build", source, "-o", "json").stdout) == first
    (source / "guest" / "note").write_text("2")
    second = json.loads(run(folder, "build", source, "-o", "json").stdout)
    twin = json.loads(run(folder, "build", source, "--name", "twin", "-o", "json").stdout)

    assert second["reference"] != first["reference"]
    assert second["content"] != first["content"]
    assert twin["content"] == second["content"]
    assert {each["reference"]: each["status"] for each in listed(folder, "my-shell")} == {
        first["reference"]: "other build",
        second["reference"]: "current",
    }
    assert first["reference"] in run(folder, "prune").stdout
    assert [each["reference"] for each in listed(folder, "my-shell")] == [second["reference"]]
    for name in ("my-shell", "twin"):
        run(folder, "remove", name)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("build", "{source}", "--name", "python"), "came with Carrel"),
        (("build", "{source}", "--name", "../up"), "cannot be an image's name"),
        (("build", "{source}", "--name", "ä"), "cannot be an image's name"),
        (("build", "no-such-image"), "there is no image 'no-such-image'; there are: node, python"),
        (("build", "{source}/guest"), "has no image.toml"),
        (("show", "no-such-image"), "there is no image no-such-image"),
        (("show", "node"), "node is not built yet"),
        (("remove", "no-such-image"), "there is no image 'no-such-image' here"),
        (("remove", "../.."), "there is no image '../..' here"),
        (("remove", ""), "there is no image '' here"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(
    folder: Path, source: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    before = sorted(folder.iterdir())
    done = run(folder, *(each.format(source=source) for each in arguments), check=False)

    assert done.returncode == 1
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.thorough
def test_a_build_that_fails_leaves_the_name_as_it_was(folder: Path, source: Path) -> None:
    """And nothing else of it."""
    good = json.loads(run(folder, "build", source, "-o", "json").stdout)
    (source / "image.toml").write_text('runtime = "shell"\nsystem = ["no-such-package-here"]\n')
    done = run(folder, "build", source, check=False)

    assert done.returncode == 1
    assert "no-such-package-here" in done.stderr
    assert images.ensure("my-shell", folder, print).reference == good["reference"]
    assert list(folder.glob(f"{images.BUILDING}*")) == []
    run(folder, "remove", "my-shell")


def test_builds_at_the_same_time_come_to_one(folder: Path, source: Path) -> None:
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _n: run(folder, "build", source, "-o", "json"), range(4)))

    assert len({json.loads(each.stdout)["reference"] for each in done}) == 1
    assert list(folder.glob(f"{images.BUILDING}*")) == []
    run(folder, "remove", "my-shell")


def test_a_build_that_is_killed_is_swept_by_the_next(folder: Path, source: Path) -> None:
    """At whatever moment: the next one finishes it."""
    for delay in (0.4, 0.7):
        (source / "guest" / "note").write_text(str(delay))
        process = subprocess.Popen(
            [*COMMAND, "build", str(source), "--images", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(folder, "build", source)

    assert list(folder.glob(f"{images.BUILDING}*")) == []
    assert images.ensure("my-shell", folder, print).software.runtime == "shell"
    run(folder, "remove", "my-shell")
    run(folder, "prune")


def test_what_is_held_is_not_removed_and_what_is_removed_not_held(folder: Path, source: Path) -> None:
    """A server marks what it uses by a lock that ends with it, however it ends."""
    image = imagestore.register(source, "my-shell", folder, print)
    held = images.hold(image.root)

    with pytest.raises(SandboxStartFailed, match="a running server uses my-shell@"):
        imagestore.remove("my-shell", folder, print, force=True)
    (source / "guest" / "note").write_text("newer")
    imagestore.register(source, "my-shell", folder, print)
    assert image.reference not in imagestore.prune(folder, print)[0]
    os.close(held)
    assert image.reference in imagestore.prune(folder, print)[0]
    with pytest.raises(OSError, match="No such file"):
        images.hold(image.root)
    imagestore.remove("my-shell", folder, print)


def test_what_came_with_carrel_is_removed_by_force_alone(folder: Path) -> None:
    fake = folder / "python-slim-0123456789ab"  # as an older Carrel left one
    fake.mkdir()

    with pytest.raises(SandboxStartFailed, match="--force"):
        imagestore.remove("python-slim", folder, print)
    assert imagestore.remove("python-slim", folder, print, force=True) == ["python-slim@0123456789ab"]
    assert not fake.exists()


def test_only_what_belongs_to_a_definition_is_copied(folder: Path, source: Path) -> None:
    """The folder may hold a checkout, a key, a gigabyte."""
    (source / ".env").write_text("SECRET=1")
    (source / "requirements.in").write_text("x")
    imagestore.register(source, "my-shell", folder, print)
    copy = folder / definitions.REGISTERED / "my-shell"

    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == ["guest", "guest/note", "image.toml"]
    imagestore.remove("my-shell", folder, print)


@pytest.mark.thorough
def test_upgrading_chooses_debians_packages_anew(folder: Path, source: Path) -> None:
    """Without it the same list gives the same image, whatever the mirror has by now."""
    if not debian.STATUS.is_file():
        pytest.skip("Debian's packages need Debian")
    (source / "image.toml").write_text('runtime = "shell"\nsystem = ["tree"]\n')
    image = imagestore.register(source, "my-shell", folder, print)
    definition = definitions.find("my-shell", folder)
    (choice,) = folder.glob("system-*.json")
    (tree,) = debian.chosen(definition, folder) or ()
    choice.write_text(json.dumps([{"package": "tree", "version": "0", "sha256": tree.sha256}]))

    assert (
        images.ensure("my-shell", folder, print).reference == image.reference
    )  # the archive decides, not its version's name
    images.ensure_from(definition, folder, print, newest=True)
    assert debian.chosen(definition, folder) == (tree,)
    assert (image.root / "bin" / "tree").exists()
    choice.unlink()
    imagestore.prune(folder, print)
    assert list((folder / "archives").iterdir()) == []
    imagestore.remove("my-shell", folder, print)


@pytest.mark.thorough
def test_a_machine_without_lists_of_packages_fetches_its_own(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a fresh container has none; those of the system are left as they are."""
    if not debian.STATUS.is_file():
        pytest.skip("Debian's packages need Debian")
    monkeypatch.setattr(debian, "_LISTS", folder / "empty")
    (source / "image.toml").write_text('runtime = "shell"\nsystem = ["tree"]\n')
    image = imagestore.register(source, "my-shell", folder, print, newest=True)

    assert dict(image.software.packages).keys() == {"tree"}
    assert any((folder / "apt" / "lists").glob("*_Packages*"))
    imagestore.remove("my-shell", folder, print)


def test_an_archive_that_was_damaged_is_not_unpacked(folder: Path, source: Path) -> None:
    if not debian.STATUS.is_file():
        pytest.skip("Debian's packages need Debian")
    (source / "image.toml").write_text('runtime = "shell"\nsystem = ["tree"]\n')
    imagestore.register(source, "my-shell", folder, print)
    (archive,) = (folder / "archives").iterdir()
    archive.write_bytes(b"!<arch>\n")
    (source / "guest" / "note").write_text("another build")

    with pytest.raises(SandboxStartFailed, match="is damaged"):
        imagestore.register(source, "my-shell", folder, print)
    imagestore.register(source, "my-shell", folder, print)  # fetched again
    imagestore.remove("my-shell", folder, print)


def test_a_tool_of_a_build_ends_with_its_builder() -> None:
    """A server that is stopped while npm, uv or apt fetch for it leaves none of them behind."""
    program = "from carrel.backends import debian; debian._output(['sleep', '86399'])"
    with subprocess.Popen([sys.executable, "-P", "-c", program]) as builder:
        assert eventually(lambda: bool(children(builder.pid)), 10)
        (tool,) = children(builder.pid)
        builder.kill()

    assert eventually(lambda: not alive(tool), 5)
