"""The index of extensions for Azure's command line: what it says of each wheel, and what it leaves out. (tests/az installs one.)"""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from carrel.server.extensions import Extensions
from carrel.statefiles import StateError
from conftest import Server
from wheels import make_wheel


def index(server: Server, **headers: str) -> dict[str, Any]:
    reply = httpx.get(f"{server.connection['http']}/extensions/index.json", headers=headers, trust_env=False)
    assert reply.status_code == 200
    return dict(reply.json())


def test_the_index_names_each_wheel_with_its_digest(managed_server: Server, extension_folder: Path) -> None:
    """No token is needed; the addresses are at the name by which the caller came; what is no wheel is left out."""
    told = index(managed_server)

    assert list(told["extensions"]) == ["carrel-greeting"]
    first, second = told["extensions"]["carrel-greeting"]
    wheel = extension_folder / "carrel_greeting-1.0.0-py3-none-any.whl"
    assert first == {
        "downloadUrl": f"{managed_server.connection['http']}/extensions/{wheel.name}",
        "filename": wheel.name,
        "metadata": {
            "name": "carrel-greeting",
            "version": "1.0.0",
            "summary": "Says hello",
            "license": "",
            "azext.minCliCoreVersion": "2.0.67",
        },
        "sha256Digest": hashlib.sha256(wheel.read_bytes()).hexdigest(),
    }
    assert (second["metadata"]["version"], second["metadata"]["azext.isPreview"]) == ("1.1.0b1", True)
    assert index(managed_server, Host="carrel.example")["extensions"]["carrel-greeting"][0]["downloadUrl"].startswith(
        "http://carrel.example/"
    )


def test_a_wheel_is_what_it_was_when_the_server_started(managed_server: Server, extension_folder: Path) -> None:
    """Replacing a file does not bring another under the digest that was told: a restart does."""
    wheel = extension_folder / "carrel_greeting-1.0.0-py3-none-any.whl"
    before = wheel.read_bytes()
    other = wheel.with_name("other.tmp")
    other.write_bytes(b"something else")
    other.rename(wheel)
    try:
        (entry, *_) = index(managed_server)["extensions"]["carrel-greeting"]
        content = httpx.get(entry["downloadUrl"], trust_env=False).content
        assert content == before
        assert hashlib.sha256(content).hexdigest() == entry["sha256Digest"]
    finally:
        wheel.write_bytes(before)


@pytest.mark.parametrize(
    "path", ["extensions/README.txt", "extensions/broken-1.0.0-py3-none-any.whl", "extensions/..%2f..%2fetc/passwd"]
)
def test_nothing_else_of_the_folder_is_served(path: str, managed_server: Server) -> None:
    """It needs a token as any path that nobody knows."""
    reply = httpx.get(f"{managed_server.connection['http']}/{path}", trust_env=False)

    assert reply.status_code == 401


def test_other_methods_are_refused(managed_server: Server) -> None:
    reply = httpx.post(f"{managed_server.connection['http']}/extensions/index.json", trust_env=False)

    assert (reply.status_code, reply.headers["allow"]) == (405, "GET, HEAD")


def _without(wheel: Path, name: str) -> None:
    """The wheel again without one of its files."""
    with zipfile.ZipFile(wheel) as archive:
        kept = {each: archive.read(each) for each in archive.namelist() if not each.endswith(name)}
    with zipfile.ZipFile(wheel, "w") as archive:
        for each, content in kept.items():
            archive.writestr(each, content)


def test_broken_wheels_are_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut short, without metadata, of one platform, a bomb: none keeps the server from starting, each is told of."""
    good = make_wheel(tmp_path, "1.0.0")
    cut = make_wheel(tmp_path, "2.0.0")
    cut.write_bytes(cut.read_bytes()[:100])
    _without(make_wheel(tmp_path, "3.0.0"), "METADATA")
    _without(make_wheel(tmp_path, "4.0.0"), "__init__.py")
    good.with_name("platform-1.0.0-cp311-cp311-linux_x86_64.whl").write_bytes(good.read_bytes())
    bomb = make_wheel(tmp_path, "5.0.0")
    _without(bomb, "METADATA")
    with zipfile.ZipFile(bomb, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("carrel_greeting-5.0.0.dist-info/METADATA", "Name: x\n" * 1_000_000)
    (tmp_path / "folder-1.0.0-py3-none-any.whl").mkdir()
    os.mkfifo(tmp_path / "pipe-1.0.0-py3-none-any.whl")
    (tmp_path / "away-1.0.0-py3-none-any.whl").symlink_to("nowhere")
    with caplog.at_level(logging.WARNING, "carrel.extensions"):
        handlers = Extensions.read(tmp_path).handlers()

    assert set(handlers) == {"/extensions/index.json", f"/extensions/{good.name}"}
    assert len(caplog.records) == 8


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Naming it was no accident: the operator is told at start."""
    with pytest.raises(StateError, match="extensions"):
        Extensions.read(tmp_path / "nowhere")
